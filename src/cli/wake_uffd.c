/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wake_uffd.c - `dormouse wake NAME --uffd-socket PATH`.
 */
#include "base/err.h"
#include "base/size.h"
#include "cli/client.h"
#include "cli/json.h"
#include "cli/stop.h"
#include "cli/text.h"
#include "cli/wake.h"

#include <dormouse/wake.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CORES_MAX 1024

/* TEXT as a number in BASE up to MOST. */
static bool
read_number(const char *text, int base, unsigned long most, unsigned long *ret)
{
    char *end = NULL;
    if (text[0] < '0' || text[0] > '9')
        return false;
    *ret = strtoul(text, &end, base);
    return *end == '\0' && *ret <= most;
}

static int
read_how(const struct cli *cli, struct dor_wake_uffd *how)
{
    const struct cli_values *values = &cli->values;
    unsigned long number = 0;
    if (values->socket_mode != NULL &&
        (!read_number(values->socket_mode, 8, 0777, &number) || number == 0))
        return dor_fail(DOR_E_USAGE, "--socket-mode %s: want 1 to 777", values->socket_mode);
    how->socket_mode = (uint32_t)number;
    if (values->core != NULL && strcmp(values->core, "any") == 0)
        how->core = DOR_WAKE_CORE_ANY;
    else if (values->core != NULL && read_number(values->core, 10, CORES_MAX - 1, &number))
        how->core = (int)number + 1;
    else if (values->core != NULL)
        return dor_fail(DOR_E_USAGE, "--core %s: want a number or any", values->core);
    return 0;
}

static void
tell_ready(void *context)
{
    const struct cli *cli = context;
    if (cli->values.quiet || cli->values.json)
        return;
    printf("listening at %s\n", cli->values.uffd_socket);
    fflush(stdout);
}

static int
print_json(const struct cli *cli, const struct dor_wake_uffd_stat *stat)
{
    return cli_json_print(json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "name",
        cli_json_text(cli->args[0]), "clients", cli_json_u64(stat->clients), "refused",
        cli_json_u64(stat->refused), "ended", cli_json_u64(stat->ended), "faults",
        cli_json_u64(stat->faults), "copied_pages", cli_json_u64(stat->copied_pages),
        "pushed_pages", cli_json_u64(stat->pushed_pages), "zero_pages",
        cli_json_u64(stat->zero_pages), "removals", cli_json_u64(stat->removals), "lost_pages",
        cli_json_u64(stat->lost_pages), "adopted", cli_json_u64(stat->adopted)));
}

static int
print_text(const struct cli *cli, const struct dor_wake_uffd_stat *stat)
{
    char asked[CLI_NUMBER_BYTES];
    char pushed[CLI_NUMBER_BYTES];
    printf(
        "woke %s %" PRIu64 " times: %s in %" PRIu64 " faults, %s ahead; %" PRIu64
        " refused, %" PRIu64 " pages lost\n",
        cli->args[0], stat->clients, cli_text_size(stat->copied_pages * DOR_PAGE_BYTES, asked),
        stat->faults, cli_text_size(stat->pushed_pages * DOR_PAGE_BYTES, pushed), stat->refused,
        stat->lost_pages);
    return 0;
}

/* A daemon has one cache for all that it wakes. */
static int
wake(const struct cli *cli, const struct dor_wake_uffd *how, struct dor_wake_uffd_stat *stat)
{
    AUTO_CLIENT struct cli_client client = {0};
    const struct dor_wake_options options = {.cache_bytes = cli->values.cache_bytes};
    const char *directory = NULL;
    int rc = cli_client_find(cli, &client);
    if (rc != 0)
        return rc;
    if (client.daemon != NULL)
        return dor_client_wake_uffd(client.daemon, cli->args[0], how, stat);
    rc = cli_store_directory(cli, &directory);
    return rc == 0 ? dor_wake_uffd_serve(directory, &options, cli->args[0], how, stat) : rc;
}

int
cli_wake_uffd(const struct cli *cli)
{
    const struct cli_values *values = &cli->values;
    struct dor_wake_uffd_stat stat = {0};
    struct dor_wake_uffd how = {
        .socket_path = values->uffd_socket,
        .window_bytes = values->window_bytes,
        .no_working_set = values->no_working_set,
        .fill = values->fill,
        .hold = values->hold,
        .once = values->once,
        .stop = cli_stop_asked,
        .ready = tell_ready,
        .ready_context = (void *)(uintptr_t)cli};
    int rc = read_how(cli, &how);
    if (rc != 0)
        return rc;
    cli_stop_catch();
    rc = wake(cli, &how, &stat);
    if (rc != 0)
        return rc;
    if (values->json)
        return print_json(cli, &stat);
    return values->quiet ? 0 : print_text(cli, &stat);
}
