/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine.h - what runs storage functions, behind a table of calls, so that the program does not
 * link an engine that it may never need. The engine is a plugin, libdormouse-js.so, which is loaded
 * when it is there; it calls back through struct table_engine_host and uses nothing else of the
 * program.
 *
 *     open (before any fork) --> start (first library, in the worker) --> tenants --> calls
 *
 * Ownership:  table_engine_close() ends the engine and its tenants must be gone by then. What a
 *             result points to lives until the next call of the engine.
 * Threads:    one thread after the start; the plugin has helpers of its own (compiler, collector).
 * Errors:     DOR_E_UNSUPPORTED when there is no plugin; calls of the class write their words into
 *             the caller's buffer of TABLE_ENGINE_ERROR_BYTES, one line, and return an enum
 *             dor_errno.
 */
#ifndef DOR_TABLE_ENGINE_H
#define DOR_TABLE_ENGINE_H

#include <dormouse/err.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    TABLE_ENGINE_VERSION = 2, /* of everything below */
    TABLE_ENGINE_ERROR_BYTES = 512,
    TABLE_ENGINE_GARBAGE_BYTES = 16 << 20,
};

/* What a function may be said to do. */
enum {
    TABLE_FUNCTION_NO_WRITES = 1 << 0,
    TABLE_FUNCTION_ALLOW_OOM = 1 << 1,
    TABLE_FUNCTION_ALLOW_STALE = 1 << 2,
    TABLE_FUNCTION_NO_CLUSTER = 1 << 3,
    TABLE_FUNCTION_ALLOW_CROSS_SLOT = 1 << 4,
    TABLE_FUNCTION_RAW_ARGUMENTS = 1 << 5, /* keys and arguments are bytes, not text */
    TABLE_FUNCTION_OPEN_KEYS = 1 << 6,     /* keys come opened, as handles; not for modules */
};

/* How clients call these, from bit 0 on; kv.js has them too. */
#define TABLE_FUNCTION_FLAG_NAMES                                                              \
    "no-writes", "allow-oom", "allow-stale", "no-cluster", "allow-cross-slot-keys",            \
        "raw-arguments", "open-keys"

struct table_engine_bytes {
    const uint8_t *bytes;
    size_t length;
};

/*
 * What the engine asks of who uses it, about the tenant whose call or load runs. Numbers are 0 or
 * an enum dor_errno, whose words last_error() has.
 */
struct table_engine_host {
    int (*put)(
        void *tenant, struct table_engine_bytes key, struct table_engine_bytes value,
        int64_t ttl_ms); /* 0 = for ever */
    int (*remove)(void *tenant, struct table_engine_bytes key, bool *ret_removed);
    int (*increase)(void *tenant, struct table_engine_bytes key, int64_t by, int64_t *ret);

    /* Some keys from CURSOR on, each told to FN; *RET is the next cursor, 0 at the end. */
    int (*scan)(
        void *tenant, uint64_t cursor, uint32_t buckets,
        void (*fn)(void *context, struct table_engine_bytes key), void *context, uint64_t *ret);

    /* The library that is being loaded has a function, which call() knows as NUMBER. */
    int (*registered)(
        void *tenant, struct table_engine_bytes name, struct table_engine_bytes description,
        uint32_t flags, uint32_t number);

    /* The arena's file and how long it is by now. */
    void (*arena)(void *tenant, int *ret_fd, uint64_t *ret_bytes, uint64_t *ret_bytes_max);

    /* A call goes on, for ELAPSED_NS of processor time so far; true = stop it. */
    bool (*tick)(void *tenant, uint64_t elapsed_ns);

    /*
     * A call has ended, and what libraries keep in variables is more than a call may take: the
     * context of the tenant, or of ALL tenants, has to go. Not now: when the engine has returned.
     */
    void (*kept_too_much)(void *tenant, bool all);

    const char *(*last_error)(void);
};

struct table_engine_limits {
    uint64_t call_ns;
    uint64_t heap_bytes;
    uint64_t reply_bytes;
};

enum table_engine_kind {
    TABLE_RESULT_NULL,
    TABLE_RESULT_BOOL,   /* number is 0 or 1 */
    TABLE_RESULT_NUMBER, /* any double */
    TABLE_RESULT_BYTES,
    /*
     * Anything made of several values. In prefix order, all numbers little-endian:
     *     'n' null   't' 'f' booleans   'd' double   'i' i64
     *     's' '+' '-' u32 length and the bytes
     *     'a' u32 count and so many values   'm' u32 count and so many pairs of values
     * The bytes may go on behind the tree.
     */
    TABLE_RESULT_TREE,
};

struct table_engine_result {
    enum table_engine_kind kind;
    double number;
    struct table_engine_bytes bytes;
};

struct table_engine_call {
    uint32_t function;
    bool read_only;                        /* changes are refused */
    bool raw;                              /* keys and arguments as bytes */
    const struct table_engine_bytes *args; /* the keys first */
    uint32_t key_count, arg_count;         /* arg_count without the keys */
    const uint32_t *handles; /* words of the keys' records, 0 = no such key; NULL: not opened */
    struct table_engine_limits limits;
};

struct table_engine_source {
    const char *kind; /* "js" or "wasm" */
    struct table_engine_bytes name, code;
    uint32_t flags; /* of all functions of a module */
    struct table_engine_limits limits;
};

/* The calls of a plugin, which it exports as the symbol table_engine_class. */
struct table_engine_class {
    uint32_t version;
    const char *name;
    /* GARBAGE_BYTES: about what may be allocated before garbage is looked for. */
    int (*start)(
        const struct table_engine_host *host, uint64_t garbage_bytes, void **ret, char *error);
    void (*destroy)(void *state);

    /* A context that holds nothing of others; TENANT is what the host is called with. */
    int (*tenant_new)(void *state, void *tenant, void **ret, char *error);
    void (*tenant_free)(void *context);

    /* Run the top of a library. What it registered before an error is void. */
    int (*load)(void *context, const struct table_engine_source *source, char *error);
    int (*call)(
        void *context, const struct table_engine_call *call, struct table_engine_result *ret,
        char *error);

    /*
     * FN(CONTEXT), with many calls inside: cheaper than to enter the engine for each. After a call
     * that was stopped the next ones inside fail, so FN should end soon.
     */
    void (*enter)(void *state, void (*fn)(void *context), void *context);

    /* Give back what is no longer used when more than BYTES are; how much there is then. */
    uint64_t (*collect)(void *state, uint64_t bytes);
};

struct table_engine {
    const struct table_engine_class *class;
    void *library;          /* of dlopen() */
    void *state;            /* NULL before the start */
    uint64_t garbage_bytes; /* for the start */
};

/*
 * Find and load the plugin: the path in DORMOUSE_ENGINE, else beside the program or the build's,
 * else where it is installed. Nothing of it runs yet, so the process may fork.
 */
DOR_MUST_CHECK int table_engine_open(struct table_engine **ret);

/* Have it run if it does not yet. */
DOR_MUST_CHECK int
table_engine_start(struct table_engine *engine, const struct table_engine_host *host);

void table_engine_close(struct table_engine *engine); /* NULL is fine */

#endif
