/* SPDX-License-Identifier: Apache-2.0 */
/*
 * live.c - numbers of processes, ranges of their memory, and how long they stood still.
 */
#include "cli/live.h"

#include "base/err.h"
#include "base/size.h"
#include "cli/json.h"
#include "cli/text.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------ options */

/* A number at *TEXT, which ends at END; false when it is none. */
static bool
parse_number(const char **text, char end, int base, uint64_t max, uint64_t *ret)
{
    char *after;
    if ((*text)[0] == '\0' || (*text)[0] == '-' || (*text)[0] == '+' || (*text)[0] == ' ')
        return false;
    errno = 0;
    *ret = strtoull(*text, &after, base);
    if (errno != 0 || after == *text || *after != end || *ret > max)
        return false;
    *text = after + (end != '\0');
    return true;
}

/* The process number that *TEXT begins with, up to END. */
static int
parse_pid(const char **text, char end, int *ret)
{
    uint64_t number = 0;
    const char *whole = *text;
    if (!parse_number(text, end, 10, INT_MAX, &number) || number == 0)
        return dor_fail(
            DOR_E_USAGE, "%.60s: is no %s", whole, end == '\0' ? "process number" : "PID:FD");
    *ret = (int)number;
    return 0;
}

static int
parse_memfd(const char *text, struct cli_live *live)
{
    const char *at = text;
    uint64_t fd = 0;
    int rc = parse_pid(&at, ':', &live->pid);
    if (rc == 0 && !parse_number(&at, '\0', 10, INT_MAX, &fd))
        rc = dor_fail(DOR_E_USAGE, "%.60s: is no PID:FD", text);
    live->fd = (int)fd;
    return rc;
}

static int
parse_range(const char *text, struct cli_live *live)
{
    const char *at = text;
    uint64_t start = 0;
    uint64_t end = 0;
    if (!parse_number(&at, '-', 16, UINT64_MAX, &start) ||
        !parse_number(&at, '\0', 16, UINT64_MAX, &end) || start >= end)
        return dor_fail(
            DOR_E_USAGE, "%.60s: is no START-END in hexadecimal, as in /proc/PID/maps", text);
    live->ranges[live->range_count++] = (struct dor_live_range){start, end - start};
    return 0;
}

int
cli_live_parse(const struct cli *cli, struct cli_live *ret)
{
    const struct cli_values *values = &cli->values;
    const char *pid = values->pid;
    int rc = 0;
    ret->fd = -1;
    if (values->pid == NULL && values->ranges.count > 0)
        return dor_fail(DOR_E_USAGE, "--range needs --pid PID");
    if (values->pid == NULL && values->copy)
        return dor_fail(DOR_E_USAGE, "--copy needs --pid PID");
    if (pid != NULL)
        rc = parse_pid(&pid, '\0', &ret->pid);
    else if (values->memfd != NULL)
        rc = parse_memfd(values->memfd, ret);
    for (size_t i = 0; rc == 0 && i < values->ranges.count; i++)
        rc = parse_range(values->ranges.items[i], ret);
    return rc;
}

/* ------------------------------------------------------------------ memory */

int
cli_live_open(const struct cli *cli, struct cli_live *live)
{
    const struct dor_live_options options = {
        .way = cli->values.copy ? DOR_LIVE_COPY : DOR_LIVE_AUTO};
    if (cli->values.memfd != NULL)
        return dor_live_open_memory_file(live->pid, live->fd, &live->live);
    return dor_live_open_process(
        live->pid, live->ranges, live->range_count, &options, &live->live);
}

void
cli_live_fini(struct cli_live *live)
{
    dor_live_close(live->live);
}

/* ------------------------------------------------------------------ what it took */

void
cli_live_print(const struct cli_live *live)
{
    struct dor_live_stat stat;
    char pause[CLI_NUMBER_BYTES];
    char saved[CLI_NUMBER_BYTES];
    if (live->live == NULL)
        return;
    dor_live_stat(live->live, &stat);
    cli_text_duration(stat.pause_ns, pause);
    if (stat.way == DOR_LIVE_MARK)
        printf(
            "process %d stood still for %s while its memory was marked; %s saved before "
            "writes\n",
            live->pid, pause, cli_text_size(stat.saved_pages * DOR_PAGE_BYTES, saved));
    else
        printf(
            "process %d stood still for %s while its memory was copied%s%s\n", live->pid, pause,
            stat.why_copied[0] == '\0' ? "" : ": ", stat.why_copied);
}

/* As --range takes them. */
static json_t *
make_ranges(const struct dor_live *live)
{
    char text[2 * CLI_NUMBER_BYTES];
    size_t count = 0;
    const struct dor_live_range *ranges = dor_live_ranges(live, &count);
    AUTO_JSON json_t *array = json_array();
    for (size_t i = 0; i < count; i++) {
        snprintf(
            text, sizeof text, "%" PRIx64 "-%" PRIx64, ranges[i].address,
            ranges[i].address + ranges[i].size_bytes);
        if (json_array_append_new(array, json_string(text)) != 0)
            return NULL;
    }
    return json_incref(array);
}

bool
cli_live_json(const struct cli_live *live, json_t *object)
{
    struct dor_live_stat stat;
    if (live->live == NULL)
        return true;
    dor_live_stat(live->live, &stat);
    json_t *about = json_pack(
        "{s:i, s:s, s:o, s:o, s:o, s:o}", "pid", live->pid, "way",
        stat.way == DOR_LIVE_MARK ? "mark" : "copy", "pause_ns", cli_json_u64(stat.pause_ns),
        "write_faults", cli_json_u64(stat.faults), "saved_pages",
        cli_json_u64(stat.saved_pages), "ranges", make_ranges(live->live));
    return cli_json_set(object, "live", about);
}
