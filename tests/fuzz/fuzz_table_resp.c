/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_table_resp.c - the first byte says into how large pieces the rest is cut, the rest is what a
 * client sends. The parser must find the same requests in the pieces as in the whole, and whatever
 * they are, running them must end. Nothing is sent anywhere: the client has no socket.
 */
#include <string.h>
#include <sys/mman.h>

#include "base/err.h"
#include "base/mem.h"
#include "table/worker_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

enum { TABLE_BYTES = 1 << 20, INPUT_BYTES_MAX = 60000 };

/* What a parser made of its input. */
struct seen {
    uint64_t sum; /* of all arguments, in order */
    uint64_t requests;
    size_t used;
    enum resp_result end;
};

static void
see(struct seen *seen, const struct resp_args *args)
{
    seen->requests++;
    for (uint32_t i = 0; i < args->count; i++) {
        const struct table_arg *arg = &args->args[i];
        seen->sum = (seen->sum ^ arg->length) * UINT64_C(0x100000001b3);
        for (uint32_t k = 0; k < arg->length; k++)
            seen->sum = (seen->sum ^ arg->bytes[k]) * UINT64_C(0x100000001b3);
    }
}

/* Parse DATA as if it came in pieces of STEP bytes. */
static struct seen
parse(const uint8_t *data, size_t size_bytes, size_t step)
{
    struct seen seen = {.end = RESP_PARTIAL};
    struct resp_args args = {0};
    struct resp_request request = {0};
    for (size_t there = 0; there < size_bytes && seen.end == RESP_PARTIAL;) {
        there = size_bytes - there < step ? size_bytes : there + step;
        for (;;) {
            args.count = 0;
            seen.end = resp_parse(&request, data + seen.used, there - seen.used, &args);
            if (seen.end != RESP_COMPLETE)
                break;
            dor_assert(request.used > 0 && request.used <= there - seen.used);
            see(&seen, &args);
            seen.used += request.used;
            request = (struct resp_request){0};
        }
    }
    dor_assert(seen.end != RESP_NO_MEMORY);
    resp_args_free(&args);
    return seen;
}

static struct table_worker *
new_worker(void)
{
    struct table_worker *worker;
    const struct table_worker_options options = {.loop = TABLE_LOOP_EPOLL};
    const struct table_tenant_setup setup = {
        .id = 1,
        .name = "default",
        .create = true,
        .memory_fd = memfd_create("table", MFD_CLOEXEC),
        .limit_bytes = TABLE_BYTES,
    };
    dor_assert(table_worker_new(&options, &worker) == 0);
    dor_assert(table_worker_add_tenant(worker, &setup) == 0);
    return worker;
}

/* Have a client send DATA in pieces of STEP bytes, and read no reply. */
static void
run(struct table_worker *worker, const uint8_t *data, size_t size_bytes, size_t step)
{
    struct table_client *client =
        table_client_new(worker, table_worker_tenant(worker, 1), -1, NULL);
    dor_assert(client != NULL);
    worker->turn++;
    for (size_t at = 0; at < size_bytes && !client->closed; at += step)
        table_client_take(client, data + at, size_bytes - at < step ? size_bytes - at : step);
    worker->pending = worker->ready = NULL;
    table_client_free(client);
    dor_assert(table_flush(table_worker_table(worker, 1), true) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    static struct table_worker *worker;
    if (size_bytes < 2 || size_bytes > INPUT_BYTES_MAX)
        return 0;
    if (worker == NULL)
        worker = new_worker();
    size_t step = data[0] == 0 ? size_bytes : data[0];
    data++;
    size_bytes--;
    const struct seen whole = parse(data, size_bytes, size_bytes);
    const struct seen pieces = parse(data, size_bytes, step);
    dor_assert(whole.sum == pieces.sum && whole.requests == pieces.requests);
    dor_assert(whole.used == pieces.used && whole.end == pieces.end);
    run(worker, data, size_bytes, step);
    return 0;
}
