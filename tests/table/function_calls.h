/* SPDX-License-Identifier: Apache-2.0 */
/*
 * function_calls.h - tests of storage functions: a worker without a loop, tenants, and requests
 * given as words whose replies come back as text.
 *
 * Ownership:  all is static: one test program, one copy.
 * Threads:    the main thread.
 * Errors:     what a test cannot go on without ends it.
 */
#ifndef TESTS_TABLE_FUNCTION_CALLS_H
#define TESTS_TABLE_FUNCTION_CALLS_H

#include "tap.h"

#include <sys/mman.h>

#include "base/err.h"
#include "base/mem.h"
#include "table/commands.h"
#include "table/functions.h"
#include "table/worker_priv.h"

static struct table_engine *engine;
static struct table_worker *worker;
static struct table_chunk_pool pool;
static unsigned protocol = 2;
static char answer[1 << 20]; /* of the last request, line ends as '|' */
static size_t answer_bytes;

static inline void
add_tenant(uint64_t id, uint64_t limit_bytes, const struct table_function_limits *limits)
{
    const struct table_tenant_setup setup = {
        .id = id,
        .name = "t",
        .memory_fd = memfd_create("table", MFD_CLOEXEC),
        .create = true,
        .limit_bytes = limit_bytes,
        .functions = limits != NULL ? *limits : (struct table_function_limits){0},
    };
    if (table_worker_add_tenant(worker, &setup) != 0)
        bail("%s", dor_err_message());
}

static inline void
start_worker(void)
{
    int rc = table_engine_open(&engine);
    if (rc == DOR_E_UNSUPPORTED)
        skip_all(dor_err_message());
    const struct table_worker_options options = {.engine = engine};
    if (rc != 0 || table_worker_new(&options, &worker) != 0)
        bail("%s", dor_err_message());
}

static inline void
stop_worker(void)
{
    table_worker_free(worker);
    table_chunk_pool_free(&pool);
    table_engine_close(engine);
}

static inline const char *
take_answer(struct table_reply *reply)
{
    answer_bytes = 0;
    while (reply->waiting_bytes > 0) {
        struct iovec piece;
        if (table_reply_pieces(reply, &piece, 1) != 1)
            bail("a reply has no pieces");
        if (answer_bytes + piece.iov_len < sizeof answer) {
            memcpy(answer + answer_bytes, piece.iov_base, piece.iov_len);
            answer_bytes += piece.iov_len;
        }
        table_reply_sent(reply, piece.iov_len);
    }
    answer[answer_bytes] = '\0';
    for (size_t i = 0; i + 1 < answer_bytes; i++)
        if (answer[i] == '\r' && answer[i + 1] == '\n') {
            answer[i] = '|';
            memmove(answer + i + 1, answer + i + 2, answer_bytes - i - 1);
            answer_bytes--;
        }
    return answer;
}

static inline const char *
ask_args(uint64_t tenant_id, const struct table_arg *args, uint32_t count)
{
    struct table_tenant *tenant = table_worker_tenant(worker, tenant_id);
    struct table_reply reply = {.pool = &pool, .protocol = (uint8_t)protocol};
    struct table_call call = {
        .worker = worker,
        .tenant = tenant,
        .table = tenant->table,
        .reply = &reply,
        .args = args,
        .arg_count = count,
    };
    call.command = table_command_of(args, count);
    if (call.command == NULL)
        abort();
    table_command_invoke(&call);
    const char *text = take_answer(&reply);
    table_reply_clear(&reply);
    return text;
}

/* The words up to NULL, to a tenant. */
static inline const char *
ask_of(uint64_t tenant_id, const char *first, ...)
{
    struct table_arg args[64];
    uint32_t count = 0;
    va_list words;
    va_start(words, first);
    for (const char *word = first; word != NULL && count < 64; word = va_arg(words, char *))
        args[count++] = (struct table_arg){(const uint8_t *)word, (uint32_t)strlen(word), -1};
    va_end(words);
    return ask_args(tenant_id, args, count);
}

#define ask(...) ask_of(1, __VA_ARGS__, (char *)NULL)

/* Load a library `lib` of one function `f` with BODY. */
static inline const char *
define(uint64_t tenant_id, const char *body)
{
    static char source[1 << 16];
    snprintf(
        source, sizeof source,
        "#!js name=lib\nredis.registerFunction('f', function (keys, args) {%s});", body);
    return ask_of(tenant_id, "FUNCTION", "LOAD", "REPLACE", source, (char *)NULL);
}

/* Call it, without keys. */
static inline const char *
run_body(const char *body)
{
    const char *loaded = define(1, body);
    if (strcmp(loaded, "$3|lib|") != 0)
        return loaded;
    return ask("FCALL", "f", "0");
}

#endif
