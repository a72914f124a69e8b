/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tables.c - `dormouse table`: tables without a store or a daemon.
 */
#include "base/err.h"
#include "cli/cli.h"
#include "cli/json.h"
#include "cli/text.h"

#include <ctype.h>
#include <dormouse/table.h>
#include <stdio.h>
#include <stdlib.h>

enum { OCTAL = 8, MODE_MAX = 0777 };

/* Whoever started the program may connect from this line on. */
static void
tell_ready(void *context, const char *const *addresses, size_t count)
{
    const struct cli *cli = context;
    if (cli->values.quiet)
        return;
    if (cli->values.json) {
        json_t *list = json_array();
        for (size_t i = 0; i < count; i++)
            json_array_append_new(list, cli_json_text(addresses[i]));
        int rc = cli_json_print(json_pack("{s:o}", "listening", list));
        (void)rc; /* a closed output is no reason to end */
    } else {
        for (size_t i = 0; i < count; i++)
            printf("listening at %s\n", addresses[i]);
    }
    fflush(stdout);
}

static int
read_mode(const char *text, unsigned *ret)
{
    char *end = NULL;
    if (text == NULL)
        return 0;
    unsigned long mode = strtoul(text, &end, OCTAL);
    if (!isdigit((unsigned char)text[0]) || *end != '\0' || mode > MODE_MAX || mode == 0)
        return dor_fail(
            DOR_E_USAGE, "\"%s\" is no mode of a socket; write one such as 0660", text);
    *ret = (unsigned)mode;
    return 0;
}

int
cli_table_run(const struct cli *cli)
{
    const struct cli_values *values = &cli->values;
    struct dor_table table = {
        .tenants_path = values->tenants,
        .directory = values->directory,
        .repair = values->repair,
        .ready = tell_ready,
        .ready_context = (void *)(uintptr_t)cli,
    };
    if (values->resp.count == 0)
        return dor_fail(DOR_E_USAGE, "say where to listen with --resp PORT or --resp PATH");
    if (values->resp.count > DOR_TABLE_LISTEN_MAX)
        return dor_fail(DOR_E_USAGE, "more than %d places to listen at", DOR_TABLE_LISTEN_MAX);
    for (size_t i = 0; i < values->resp.count; i++)
        table.listen[table.listen_count++] = values->resp.items[i];
    int rc = read_mode(values->socket_mode, &table.socket_mode);
    if (rc == 0 && values->directory != NULL)
        rc = dor_table_keeper_open(values->directory, &table.keeper);
    if (rc == 0)
        rc = dor_table_serve(&table);
    dor_table_keeper_close(table.keeper);
    return rc;
}
