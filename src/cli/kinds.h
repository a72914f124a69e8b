/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kinds.h - prints how the pages of a snapshot are kept.
 *
 * Ownership:  nothing is kept.
 * Threads:    one.
 * Errors:     DOR_E_NO_MEMORY.
 */
#ifndef DOR_CLI_KINDS_H
#define DOR_CLI_KINDS_H

#include <dormouse/store.h>

/* A table of the kinds that occur: pages, bytes, share of the image. */
DOR_MUST_CHECK int cli_kinds_print(const struct dor_kind_bytes *kinds);

/* The same with what the new pages took, for the moment of a put. */
DOR_MUST_CHECK int cli_kinds_print_added(const struct dor_kind_bytes *kinds);

/* One line for each class that occurs. Nothing when none is known. */
DOR_MUST_CHECK int cli_kinds_print_classes(const struct dor_kind_bytes *kinds);

/* One line for each region type that occurs. Nothing when all pages are of the first. */
DOR_MUST_CHECK int cli_kinds_print_region_types(const struct dor_kind_bytes *kinds);

#endif
