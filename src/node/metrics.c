/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics.c - numbers for Prometheus: gauges of the store, of the page server and of the daemon,
 * and the daemon's counters.
 */
#include "base/clock.h"
#include "base/err.h"
#include "base/size.h"
#include "node/node.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define BASE_COUNTER_STRUCT struct node_counters
const struct base_counter node_counter_rows[] = {
#define COUNTER BASE_COUNTER_ROW
#include "node/counters.def"
#undef COUNTER
};
#undef BASE_COUNTER_STRUCT
const size_t node_counter_count = ARRAY_LEN(node_counter_rows);

struct gauge {
    const char *name, *help;
    uint64_t value;
};

static void
print_metrics(FILE *out, const char *type, const struct gauge *gauges, size_t count)
{
    for (size_t i = 0; i < count; i++)
        fprintf(
            out, "# HELP dormouse_%s %s\n# TYPE dormouse_%s %s\ndormouse_%s %" PRIu64 "\n",
            gauges[i].name, gauges[i].help, gauges[i].name, type, gauges[i].name,
            gauges[i].value);
}

static void
print_store(FILE *out, const struct dor_stat *stat)
{
    static const char *const types[] = {"nrt", "rx_map", "w_map"};
    const struct gauge gauges[] = {
        {"store_snapshots", "Snapshots in the store.", stat->snapshots},
        {"store_domains", "Trust domains in the store.", stat->domains},
        {"store_roots", "Root images that are known.", stat->roots},
        {"store_logical_bytes", "Bytes of all images.", stat->logical_bytes},
        {"store_stored_bytes", "Bytes of all files of the store.", stat->stored_bytes},
        {"store_segment_bytes", "Bytes of segments.", stat->segment_bytes},
        {"store_recipe_bytes", "Bytes of recipes and sidecars.", stat->recipe_bytes},
        {"store_working_sets", "Snapshots whose working set is known.", stat->working_sets},
        {"store_catalog_bytes", "Bytes of the catalog.", stat->catalog_bytes},
    };
    print_metrics(out, "gauge", gauges, ARRAY_LEN(gauges));
    fputs(
        "# HELP dormouse_store_pages Stored pages by region type and kind.\n"
        "# TYPE dormouse_store_pages gauge\n",
        out);
    for (unsigned i = 0; i < DOR_REGION_TYPES; i++) {
        const struct dor_stat_type *type = &stat->by_region_type[i];
        fprintf(
            out,
            "dormouse_store_pages{region_type=\"%s\",kind=\"raw\"} %" PRIu64 "\n"
            "dormouse_store_pages{region_type=\"%s\",kind=\"patched\"} %" PRIu64 "\n",
            types[i], type->raw_pages, types[i], type->patched_pages);
    }
}

static void
print_node(FILE *out, struct node *node)
{
    struct node_jobs_stat jobs;
    node_jobs_stat(&node->jobs, &jobs);
    const struct gauge gauges[] = {
        {"node_open_connections", "Connections that are open.", node_http_connections(node)},
        {"node_running_jobs", "Jobs that run, this one too.", jobs.running},
        {"node_queued_writes", "Jobs that wait for the writer.", jobs.queued_writes},
        {"node_queued_reads", "Jobs that wait for a reader.", jobs.queued_reads},
        {"node_start_time_seconds", "When the daemon began, since 1970.",
         node->started_ns / UINT64_C(1000000000)},
    };
    print_metrics(out, "gauge", gauges, ARRAY_LEN(gauges));
    base_counters_print_prometheus(
        node_counter_rows, node_counter_count, &node->counters, "node", out);
}

static void
print_wake(FILE *out, struct node *node)
{
    struct dor_wake_stat stat;
    dor_wake_server_stat(node->wake_server, &stat);
    const struct gauge gauges[] = {
        {"wake_cache_bytes", "Bytes that the restore cache may hold.", stat.cache_bytes},
        {"wake_cache_used_bytes", "Bytes that the restore cache holds.", stat.cache_used_bytes},
        {"wake_snapshots", "Snapshots that are open for waking.", stat.snapshots},
    };
    const struct gauge counters[] = {
        {"wake_hits_total", "Pages found in the restore cache.", stat.hits},
        {"wake_waits_total", "Pages that another thread was reading.", stat.waits},
        {"wake_misses_total", "Pages read from the store.", stat.misses},
        {"wake_zeros_total", "Zero pages handed out.", stat.zeros},
        {"wake_evictions_total", "Pages that made room for others.", stat.evictions},
        {"wake_bypasses_total", "Pages read around the restore cache.", stat.bypasses},
        {"wake_failures_total", "Pages that could not be read.", stat.failures},
    };
    print_metrics(out, "gauge", gauges, ARRAY_LEN(gauges));
    print_metrics(out, "counter", counters, ARRAY_LEN(counters));
    struct node_wakes_stat wakes;
    node_wakes_stat(&node->wakes, &wakes);
    const struct gauge uffd[] = {
        {"wake_sockets", "Sockets at which sandboxes can wake.", wakes.wakes},
        {"wake_connected", "Sandboxes that are served now.", wakes.clients},
    };
    print_metrics(out, "gauge", uffd, ARRAY_LEN(uffd));
    base_counters_print_prometheus(
        wake_uffd_counter_rows, wake_uffd_counter_row_count, &wakes.counters, "wake_uffd", out);
}

int
node_metrics_run(struct node_call *call)
{
    struct dor_store *store = NULL;
    struct dor_stat stat = {0};
    int rc = node_reader_open(call, &store);
    if (rc == 0)
        rc = dor_store_stat(store, &stat);
    dor_store_close(store);
    if (rc != 0)
        return rc;
    FILE *out = open_memstream(&call->text, &call->text_bytes);
    if (out == NULL)
        return dor_fail_errno(errno, "no memory for the metrics");
    print_store(out, &stat);
    print_node(out, call->node);
    print_wake(out, call->node);
    node_tenants_print_metrics(call->node, out);
    call->content_type = "text/plain; version=0.0.4; charset=utf-8";
    return fclose(out) == 0 ? 0 : dor_fail_errno(errno, "no memory for the metrics");
}
