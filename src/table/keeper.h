/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper.h - what tables ask of whoever has a snapshot store: to keep the pages of an arena, and
 * to give them back, at once or when they are needed. Implemented by room node, for tables know
 * no store.
 *
 * Ownership:  strings and sources are borrowed for the call.
 * Threads:    put: any, one at a time for each name; the others: the thread of the front.
 * Errors:     0 or a negative enum dor_errno.
 */
#ifndef DOR_TABLE_KEEPER_H
#define DOR_TABLE_KEEPER_H

#include <dormouse/err.h>
#include <dormouse/image.h>
#include <stdbool.h>
#include <stdint.h>

struct dor_table_keeper;

struct table_keeper_put {
    const char *name, *domain;
    const char *parent; /* NULL = none */
    const struct dor_page_source *source;
    /* Called now and then; not 0 = give it up. */
    int (*stop)(void *context);
    void *stop_context;
};

struct table_keeper_result {
    uint64_t id;          /* of the snapshot */
    uint64_t added_bytes; /* in the store */
};

/* A memory file that is being filled. */
struct table_fill;

struct table_keeper_ops {
    /* On disk on return; replaces one of that name. */
    int (*put)(
        struct dor_table_keeper *keeper, const struct table_keeper_put *put,
        struct table_keeper_result *ret);
    /* Remove all snapshots whose names begin with PREFIX, but KEEP (may be NULL). */
    int (*drop)(struct dor_table_keeper *keeper, const char *prefix, const char *keep);
    /* Bytes of the snapshot NAME; DOR_E_NOT_FOUND: there is none, or its id is not ID. */
    int (*find)(
        struct dor_table_keeper *keeper, const char *name, uint64_t id, uint64_t *ret_bytes);
    /* All pages into the empty memory file FD. */
    int (*fill)(struct dor_table_keeper *keeper, const char *name, int fd);
    /*
     * A socket of the page server, for a memory file that stays empty: who maps it hands over a
     * userfaultfd there, as a sandbox does (wake.h), and gets each page when it is needed.
     * DOR_E_UNSUPPORTED: take fill().
     */
    int (*fill_lazily)(
        struct dor_table_keeper *keeper, const char *name, int *ret_socket,
        struct table_fill **ret);
    /* Who handed it over has read from it: give it all the rest, then hang up. */
    void (*finish_fill)(struct table_fill *fill);
    /* Nobody may lack pages any more: they would be zeros. */
    void (*end_fill)(struct table_fill *fill);
};

struct dor_table_keeper {
    const struct table_keeper_ops *ops;
};

#endif
