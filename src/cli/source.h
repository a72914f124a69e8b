/* SPDX-License-Identifier: Apache-2.0 */
/*
 * source.h - what `put` stores: the pages of one image, or of a chain of diffs in their order, and
 * what inspection says of each page.
 *
 * Ownership:  caller's memory, ended by cli_source_fini(); the struct dor_put it fills borrows from
 *             it.
 * Threads:    one.
 * Errors:     of opening images and of inspection.
 */
#ifndef DOR_CLI_SOURCE_H
#define DOR_CLI_SOURCE_H

#include "cli/cli.h"

#include <dormouse/image.h>
#include <dormouse/inspect.h>

/* An image, and what was seen of its holes last: from hole_first a hole, then a run of data. */
struct cli_source_image {
    struct dor_image *image;
    uint64_t hole_first, data_first, data_end;
};

struct cli_source {
    struct cli_source_image images[CLI_LIST_MAX];
    size_t image_count;
    struct dor_page_source pages;
    struct dor_snapshot *parent;                    /* of diffs, while they are inspected */
    uint8_t *region_types, *page_classes, *dropped; /* NULL when not known */
    char kernel[128];                               /* of the guest; "" when not found */
    enum dor_inspect_tier tier;
    bool inspected;
};

#define AUTO_SOURCE __attribute__((cleanup(cli_source_fini)))

/* Open the images that the command line names; with --diff they are a chain of diffs. */
DOR_MUST_CHECK int cli_source_open(const struct cli *cli, struct cli_source *ret);

/*
 * Look into the image, unless --no-inspect; of diffs into what they make of their parent, which is
 * read from STORE. With --drop-free, free pages are marked as dropped where that is safe.
 */
DOR_MUST_CHECK int
cli_source_inspect(const struct cli *cli, struct dor_store *store, struct cli_source *source);

/* Fill in what is known of the pages. */
void cli_source_describe(const struct cli_source *source, struct dor_put *put);

void cli_source_fini(struct cli_source *source);

#endif
