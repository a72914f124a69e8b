/* SPDX-License-Identifier: Apache-2.0 */
/*
 * choose.h - among all notes in an image and all layouts it may have, the pair that works best.
 *
 * Ownership:  sets memory and kernel of the look.
 * Threads:    one.
 * Errors:     DOR_E_NO_MEMORY; without a kernel that works, has_kernel stays false and the remark
 *             says why.
 */
#ifndef DOR_GUEST_CHOOSE_H
#define DOR_GUEST_CHOOSE_H

#include "guest/look.h"

DOR_MUST_CHECK int guest_choose_kernel(struct guest_look *look);

#endif
