/* SPDX-License-Identifier: Apache-2.0 */
/*
 * body.h - what a request asks for, read from its JSON body or its query by the rows of
 * bodies.def. What a row does not know is an error, so that nothing is asked for in vain.
 *
 * Ownership:  values borrow strings from the JSON document or the query's text.
 * Threads:    any.
 * Errors:     DOR_E_USAGE with words that name the key.
 */
#ifndef DOR_NODE_BODY_H
#define DOR_NODE_BODY_H

#include <dormouse/transfer.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum { NODE_LIST_MAX = DOR_INTAKE_IMAGES_MAX };

struct node_list {
    const char *items[NODE_LIST_MAX];
    size_t count;
};

/* One field per row of bodies.def; NULL, 0 and false where nothing was said. */
struct node_values {
    bool async;
    const char *job;

    const char *image, *parent, *domain, *format, *process, *profiles, *vmlinux;
    struct node_list images, sidecars;
    bool replace, diff, drop_free, no_inspect;
    json_t *settings; /* an object of texts, or NULL */
    const char *offload;
    uint64_t timeout_ns;

    const char *output, *diff_from, *sidecars_directory;
    const char *store, *as, *name, *path;
    bool absorb, squeeze, cluster;
    uint64_t squeeze_age_ns, work_bytes_max;

    const char *socket_mode, *core;
    uint64_t window_bytes, clients_max;
    bool no_working_set, fill, hold, once;

    bool postcopy, resume, no_fill;

    const char *password;
};

/* Parse SIZE_BYTES of JSON for BODY ("put" ...). RET_JSON is what VALUES borrows from. */
DOR_MUST_CHECK int node_body_parse(
    const char *body, const char *text, size_t size_bytes, struct node_values *values,
    json_t **ret_json);

/* One decoded parameter of a query for BODY; "any" is tried as well. */
DOR_MUST_CHECK int
node_body_set(const char *body, const char *key, const char *value, struct node_values *values);

/*
 * Decode the %XX of TEXT (LENGTH bytes) to RET of SIZE_BYTES: valid UTF-8 without zero bytes.
 * With PLUS a "+" is a blank, as in queries.
 */
DOR_MUST_CHECK int
node_percent_decode(const char *text, size_t length, bool plus, char *ret, size_t size_bytes);

#endif
