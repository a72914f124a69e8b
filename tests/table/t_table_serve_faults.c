/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_table_serve_faults.c - a worker while any one allocation fails: who cannot be served gets an
 * error or is closed, the worker goes on, and the next client is answered.
 */
#include "tap.h"

#include <sys/mman.h>

#include "base/fault.h"
#include "base/mem.h"
#include "table/worker_priv.h"

enum { LARGE_BYTES = 100000, STEP = 1000, FAULTS_MAX = 500 };

static struct base_buf requests;

static void
add(const char *text, size_t length)
{
    if (base_buf_append(&requests, text, length) != 0)
        bail("no memory");
}

/* One of everything that needs memory. */
static void
make_requests(void)
{
    static const char before[] =
        "HELLO 3 SETNAME me\r\nCLIENT SETINFO lib-name lib\r\nWATCH a b\r\nMULTI\r\n"
        "SET a 1\r\nMSET b 2 c 3 d 4\r\nFLUSHALL\r\nINCR a\r\n"
        "*3\r\n$3\r\nSET\r\n$1\r\nl\r\n$100000\r\n";
    static const char between[] = "\r\nEXEC\r\nGET l\r\nKEYS *\r\nSCAN 0 COUNT "
                                  "100\r\nINFO\r\nCLIENT LIST\r\nCOMMAND DOCS\r\n"
                                  "EXPIRE l 100\r\nAPPEND l x\r\nSET 'a b' \"c d\" GET\r\n"
                                  "*3\r\n$6\r\nAPPEND\r\n$1\r\nl\r\n$100000\r\n";
    static const char after[] = "\r\nSTRLEN l\r\nMULTI\r\nGET l\r\n";
    static char large[LARGE_BYTES];
    add(before, sizeof before - 1);
    add(large, sizeof large);
    add(between, sizeof between - 1);
    add(large, sizeof large);
    add(after, sizeof after - 1);
}

static void
take(struct table_client *client, const uint8_t *bytes, size_t length)
{
    for (size_t at = 0; at < length && !client->closed; at += STEP)
        table_client_take(client, bytes + at, length - at < STEP ? length - at : STEP);
}

static void
finish(struct table_worker *worker, struct table_client *client)
{
    worker->pending = worker->ready = NULL;
    table_client_free(client);
}

/* Whether a worker could be made and its first client came to its end; it is gone afterwards. */
static bool
serve(bool *ret_next_is_answered)
{
    struct table_worker *worker;
    const struct table_worker_options options = {.loop = TABLE_LOOP_EPOLL};
    const struct table_tenant_setup setup = {
        .id = 1,
        .name = "default",
        .create = true,
        .memory_fd = memfd_create("table", MFD_CLOEXEC),
        .limit_bytes = 4 << 20,
    };
    *ret_next_is_answered = true;
    if (table_worker_new(&options, &worker) != 0) {
        close(setup.memory_fd);
        return false;
    }
    if (table_worker_add_tenant(worker, &setup) != 0) {
        table_worker_free(worker);
        return false;
    }
    struct table_tenant *tenant = table_worker_tenant(worker, 1);
    struct table_client *client = table_client_new(worker, tenant, -1, NULL);
    bool done = client != NULL;
    if (client != NULL) {
        take(client, requests.data, requests.size_bytes);
        done = !client->closed && client->multi != NULL && client->multi->count == 1;
        finish(worker, client);
    }
    base_fault_arm(FAULT_NONE, 0, 0);
    client = table_client_new(worker, tenant, -1, NULL);
    if (client == NULL)
        bail("%s", dor_err_message());
    static const char ping[] = "SET k v\r\nGET k\r\n";
    take(client, (const uint8_t *)ping, sizeof ping - 1);
    struct iovec piece;
    *ret_next_is_answered = table_reply_pieces(&client->stream.out, &piece, 1) == 1 &&
                            piece.iov_len == strlen("+OK\r\n$1\r\nv\r\n") &&
                            memcmp(piece.iov_base, "+OK\r\n$1\r\nv\r\n", piece.iov_len) == 0;
    finish(worker, client);
    struct table_stat stat;
    table_stat(tenant->table, &stat);
    table_worker_free(worker);
    return done;
}

int
main(void)
{
    bool answered;
    make_requests();
    ok(serve(&answered), "with memory all is served");
    ok(answered, "and the next client too");
    bool fired = true;
    unsigned nth = 0, all_answered = 0;
    while (fired && nth < FAULTS_MAX) {
        base_fault_arm(FAULT_ALLOC, ++nth, 0);
        (void)serve(&answered);
        fired = base_fault_fired();
        base_fault_arm(FAULT_NONE, 0, 0);
        all_answered += answered;
        if (!answered)
            note("after allocation %u failed the next client is not answered", nth);
    }
    ok(!fired, "%u allocations failed in turn", nth - 1);
    is_int(all_answered, nth, "after each the next client is answered");
    ok(nth > 20, "there were some");
    base_buf_free(&requests);
    return done_testing();
}
