/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_info.c - INFO, with the sections and names of Redis where there is something to tell. All
 * of it is about the tenant that asks, but for the times of the process.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/size.h"
#include "table/commands.h"
#include "table/log.h"
#include "table/worker_priv.h"

enum { LINE_BYTES = 512 };

__attribute__((format(printf, 2, 3))) static void
line(struct base_buf *text, const char *fmt, ...)
{
    char bytes[LINE_BYTES];
    va_list args;
    va_start(args, fmt);
    int length = vsnprintf(bytes, sizeof bytes - 2, fmt, args);
    va_end(args);
    if (length < 0 || length >= (int)sizeof bytes - 2)
        return;
    bytes[length] = '\r';
    bytes[length + 1] = '\n';
    /* Without memory the text ends here. */
    if (base_buf_append(text, bytes, (size_t)length + 2) != 0)
        return;
}

static void
human(struct base_buf *text, const char *name, uint64_t bytes)
{
    static const char units[] = "BKMGT";
    double shown = (double)bytes;
    unsigned unit = 0;
    while (shown >= 1024 && unit < 4) {
        shown /= 1024;
        unit++;
    }
    if (unit == 0)
        line(text, "%s_human:%" PRIu64 "B", name, bytes);
    else
        line(text, "%s_human:%.2f%c", name, shown, units[unit]);
}

static void
server(struct base_buf *text, const struct table_call *call)
{
    struct utsname system = {0};
    (void)uname(&system);
    int64_t up = (call->worker->now_ms - call->worker->started_ms) / 1000;
    line(text, "redis_version:%s", TABLE_REDIS_VERSION);
    line(text, "redis_mode:standalone");
    line(text, "server_name:dormouse");
    line(text, "os:%s %s %s", system.sysname, system.release, system.machine);
    line(text, "arch_bits:64");
    line(text, "multiplexing_api:%s", call->worker->loop->ops->name);
    line(text, "process_id:%d", (int)getpid());
    line(text, "server_time_usec:%" PRIu64, base_clock_realtime_ns() / 1000);
    line(text, "uptime_in_seconds:%" PRId64, up);
    line(text, "uptime_in_days:%" PRId64, up / 86400);
    line(text, "io_threads_active:0");
}

static void
clients(struct base_buf *text, const struct table_call *call)
{
    line(text, "connected_clients:%u", call->tenant->client_count);
    line(text, "maxclients:%u", call->worker->options.clients_max);
    line(text, "blocked_clients:0");
}

static void
memory(struct base_buf *text, const struct table_call *call)
{
    struct table_stat stat;
    table_stat(call->table, &stat);
    line(text, "used_memory:%" PRIu64, stat.used_bytes);
    human(text, "used_memory", stat.used_bytes);
    line(text, "used_memory_dataset:%" PRIu64, stat.used_bytes);
    line(text, "arena_bytes:%" PRIu64, stat.arena_bytes);
    line(text, "maxmemory:%" PRIu64, stat.limit_bytes);
    human(text, "maxmemory", stat.limit_bytes);
    line(text, "maxmemory_policy:%s", table_policy_name(table_get_policy(call->table)));
    line(
        text, "mem_fragmentation_ratio:%.2f",
        (double)stat.arena_bytes / (double)(stat.used_bytes != 0 ? stat.used_bytes : 1));
    line(text, "number_of_libraries:%" PRIu64, stat.libraries);
    line(text, "damaged_records:%" PRIu64, stat.damaged);
}

static void
persistence(struct base_buf *text, const struct table_call *call)
{
    line(text, "loading:0");
    line(text, "async_loading:0");
    line(text, "rdb_changes_since_last_save:%" PRIu64, call->tenant->dirty);
    struct table_saving saving;
    table_cmd_saving(call, &saving);
    line(text, "rdb_bgsave_in_progress:%d", saving.runs);
    line(text, "rdb_last_save_time:%" PRId64, saving.saved_ms / 1000);
    line(text, "rdb_last_bgsave_status:%s", saving.failed ? "err" : "ok");
    line(text, "aof_enabled:%d", call->tenant->log != NULL);
    line(text, "aof_rewrite_in_progress:%d", saving.runs);
    if (call->tenant->log == NULL)
        return;
    struct table_log_stat stat;
    table_log_stat(call->tenant->log, &stat);
    line(text, "aof_last_write_status:%s", stat.error != 0 ? "err" : "ok");
    line(text, "aof_current_size:%" PRIu64, stat.bytes);
}

static void
stats(struct base_buf *text, const struct table_call *call)
{
    const struct table_tenant *tenant = call->tenant;
    struct table_stat stat;
    table_stat(call->table, &stat);
    uint64_t errors = tenant->errors;
    for (const struct table_client *client = tenant->clients; client != NULL;
         client = client->next)
        errors += client->stream.out.errors;
    line(text, "total_connections_received:%" PRIu64, tenant->connections);
    line(text, "total_commands_processed:%" PRIu64, tenant->commands);
    line(text, "rejected_connections:%" PRIu64, call->worker->rejected);
    line(text, "expired_keys:%" PRIu64, stat.expired);
    line(text, "evicted_keys:%" PRIu64, stat.evicted);
    line(text, "keyspace_hits:%" PRIu64, tenant->hits);
    line(text, "keyspace_misses:%" PRIu64, tenant->misses);
    line(text, "total_error_replies:%" PRIu64, errors);
}

static void
replication(struct base_buf *text, const struct table_call *call)
{
    (void)call;
    line(text, "role:master");
    line(text, "connected_slaves:0");
}

static void
cpu(struct base_buf *text, const struct table_call *call)
{
    struct rusage usage = {0};
    (void)call;
    (void)getrusage(RUSAGE_SELF, &usage);
    line(
        text, "used_cpu_sys:%ld.%06ld", (long)usage.ru_stime.tv_sec,
        (long)usage.ru_stime.tv_usec);
    line(
        text, "used_cpu_user:%ld.%06ld", (long)usage.ru_utime.tv_sec,
        (long)usage.ru_utime.tv_usec);
}

static void
cluster(struct base_buf *text, const struct table_call *call)
{
    (void)call;
    line(text, "cluster_enabled:0");
}

static void
keyspace(struct base_buf *text, const struct table_call *call)
{
    struct table_stat stat;
    table_stat(call->table, &stat);
    if (stat.keys != 0)
        line(
            text, "db0:keys=%" PRIu64 ",expires=%" PRIu64 ",avg_ttl=0", stat.keys,
            stat.expiring);
}

static const struct {
    const char *name, *title;
    void (*write)(struct base_buf *text, const struct table_call *call);
} sections[] = {
    {"server", "Server", server},
    {"clients", "Clients", clients},
    {"memory", "Memory", memory},
    {"persistence", "Persistence", persistence},
    {"stats", "Stats", stats},
    {"replication", "Replication", replication},
    {"cpu", "CPU", cpu},
    {"cluster", "Cluster", cluster},
    {"keyspace", "Keyspace", keyspace},
};

static bool
is_asked_for(const struct table_call *call, const char *section)
{
    if (call->arg_count == 1)
        return true;
    for (uint32_t i = 1; i < call->arg_count; i++)
        if (table_arg_is(&call->args[i], section) || table_arg_is(&call->args[i], "all") ||
            table_arg_is(&call->args[i], "default") ||
            table_arg_is(&call->args[i], "everything"))
            return true;
    return false;
}

int
table_cmd_info(struct table_call *call)
{
    AUTO_BUF struct base_buf text = {0};
    for (unsigned i = 0; i < ARRAY_LEN(sections); i++) {
        if (!is_asked_for(call, sections[i].name))
            continue;
        if (text.size_bytes != 0 && base_buf_append(&text, "\r\n", 2) != 0)
            break;
        line(&text, "# %s", sections[i].title);
        sections[i].write(&text, call);
    }
    table_reply_verbatim(call->reply, text.data, text.size_bytes);
    return 0;
}
