/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tasks.h - the guest's processes: who they are, what they have mapped, which pages that makes
 * theirs; and the region types that follow from one of them.
 *
 * Ownership:  writes processes, mappings and pages of the look.
 * Threads:    one.
 * Errors:     DOR_E_NO_MEMORY; DOR_E_NOT_FOUND when no process fits the wanted name.
 */
#ifndef DOR_GUEST_TASKS_H
#define DOR_GUEST_TASKS_H

#include "guest/look.h"

/* Where init_task is: by symbol, or by its look. */
bool guest_tasks_find_first(struct guest_look *look, uint64_t *ret);

/* Go through all tasks from FIRST on and note processes, mappings, and who maps which page. */
DOR_MUST_CHECK int guest_tasks_read(struct guest_look *look, uint64_t first);

/* Note processes from page tables alone: pages whose upper half is the kernel's own. */
DOR_MUST_CHECK int guest_tasks_guess(struct guest_look *look);

/* Choose the runtime process, and give its pages their region types. */
DOR_MUST_CHECK int guest_tasks_region_types(struct guest_look *look);

#endif
