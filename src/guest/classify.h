/* SPDX-License-Identifier: Apache-2.0 */
/*
 * classify.h - the class of each page, from the kernel's records of pages.
 *
 * Ownership:  writes the pages of the look.
 * Threads:    one.
 * Errors:     DOR_E_NO_MEMORY.
 */
#ifndef DOR_GUEST_CLASSIFY_H
#define DOR_GUEST_CLASSIFY_H

#include "guest/look.h"

/* Classes by content alone: zero or unknown. */
void guest_classify_content(struct guest_look *look);

/* Classes by records; the array must be open. Also notes the heads of free blocks. */
DOR_MUST_CHECK int guest_classify(struct guest_look *look);

/* Importance, from classes and content. */
void guest_classify_importance(struct guest_look *look);

#endif
