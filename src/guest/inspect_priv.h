/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inspect_priv.h - an inspection of memory that is in no image file, for tests.
 *
 * Ownership:  as dor_inspect(); INFO and what it points to must outlive the call alone.
 * Threads:    any; one call uses one thread.
 * Errors:     as dor_inspect().
 */
#ifndef DOR_GUEST_INSPECT_PRIV_H
#define DOR_GUEST_INSPECT_PRIV_H

#include <dormouse/inspect.h>

#include "guest/pager.h"

/* IMAGE tells the holes and may be NULL; OPTIONS may be NULL. */
DOR_MUST_CHECK int guest_inspect(
    const struct dor_image *image, const struct dor_image_info *info,
    const struct dor_inspect *options, struct dor_inspection **ret);

/* dor_inspect_pages() of pages that lie as INFO says. */
DOR_MUST_CHECK int guest_inspect_pages(
    const struct dor_image_info *info, const struct dor_inspect_pages *pages,
    const struct dor_inspect *options, struct dor_inspection **ret);

#endif
