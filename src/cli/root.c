/* SPDX-License-Identifier: Apache-2.0 */
/*
 * root.c - `dormouse root add`, `root ls` and `root rm`: the images that guests boot from.
 */
#include "base/err.h"
#include "base/size.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/json.h"
#include "cli/progress.h"
#include "cli/stop.h"
#include "cli/table.h"
#include "cli/text.h"

#include <stdio.h>
#include <string.h>

static const char *
state_words(enum dor_root_state state)
{
    return state == DOR_ROOT_PRESENT   ? "present"
           : state == DOR_ROOT_CHANGED ? "changed"
                                       : "missing";
}

static json_t *
info_json(const struct dor_root_info *info, enum dor_root_state state)
{
    return json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:s}", "name", cli_json_text(info->name), "path",
        cli_json_text(info->path), "domain", cli_json_text(info->domain), "size_bytes",
        cli_json_u64(info->size_bytes), "stored_bytes", cli_json_u64(info->file_bytes),
        "modified", cli_json_time(info->modified_ns), "added", cli_json_time(info->added_ns),
        "state", state_words(state));
}

/* ------------------------------------------------------------------ add */

static int
add_image(const struct cli *cli, struct dor_root_info *ret)
{
    AUTO_CLIENT struct cli_client client = {0};
    AUTO_STORE struct dor_store *store = NULL;
    AUTO_PROGRESS struct cli_progress progress;
    const struct dor_root_add add = {
        .path = cli->args[1],
        .name = cli->values.name,
        .domain = cli->values.domain,
        .progress = cli_progress_update,
        .progress_context = &progress,
    };
    cli_progress_init(&progress, cli, "root add");
    /* Before the lock is taken, as put does. */
    cli_stop_catch();
    int rc = cli_client_find(cli, &client);
    if (rc == 0 && client.daemon == NULL)
        rc = cli_store_open(cli, DOR_OPEN_WRITE, &store);
    if (rc == 0)
        rc = cli_stop_check();
    if (rc != 0)
        return rc;
    return client.daemon != NULL ? dor_client_root_add(client.daemon, &add, ret)
                                 : dor_store_root_add(store, &add, ret);
}

static int
run_add(const struct cli *cli)
{
    struct dor_root_info info = {0};
    char size[CLI_NUMBER_BYTES];
    char stored[CLI_NUMBER_BYTES];
    int rc = add_image(cli, &info);
    if (rc != 0)
        return rc;
    if (cli->values.json)
        return cli_json_print(info_json(&info, DOR_ROOT_PRESENT));
    if (!cli->values.quiet)
        printf(
            "added %s as %s: %s, described in %s\n", info.path, info.name,
            cli_text_size(info.size_bytes, size), cli_text_size(info.file_bytes, stored));
    return 0;
}

/* ------------------------------------------------------------------ ls */

static int
add_json(void *context, const struct dor_root_info *info, enum dor_root_state state)
{
    if (json_array_append_new(context, info_json(info, state)) != 0)
        return dor_fail(DOR_E_NO_MEMORY, "no memory for the list of root images");
    return 0;
}

static int
add_text(void *context, const struct dor_root_info *info, enum dor_root_state state)
{
    struct cli_table *table = context;
    char added[CLI_TIME_BYTES];
    cli_table_cell(table, "%s", info->name);
    cli_table_size(table, info->size_bytes);
    cli_table_size(table, info->file_bytes);
    cli_table_cell(table, "%s", cli_text_time(info->added_ns, added));
    cli_table_cell(table, "%s", info->domain[0] == '\0' ? "all" : info->domain);
    cli_table_cell(table, "%s", state_words(state));
    cli_table_cell(table, "%s", info->path);
    return 0;
}

static int
list_json(struct dor_store *store)
{
    AUTO_JSON json_t *roots = json_array();
    int rc = dor_store_root_list(store, add_json, roots);
    return rc == 0 ? cli_json_print(json_pack("{s:O}", "roots", roots)) : rc;
}

static int
list_text(struct dor_store *store)
{
    static const char *const heads[] = {"name",   "size",  "stored", "added",
                                        "domain", "state", "path"};
    AUTO_TABLE struct cli_table table = {.columns = "lrrllll"};
    for (size_t i = 0; i < ARRAY_LEN(heads); i++)
        cli_table_cell(&table, "%s", heads[i]);
    int rc = dor_store_root_list(store, add_text, &table);
    return rc == 0 ? cli_table_print(&table) : rc;
}

static int
run_ls(const struct cli *cli)
{
    AUTO_STORE struct dor_store *store = NULL;
    int rc = cli_store_open(cli, DOR_OPEN_READ, &store);
    if (rc != 0)
        return rc;
    return cli->values.json ? list_json(store) : list_text(store);
}

/* ------------------------------------------------------------------ rm */

static int
run_rm(const struct cli *cli)
{
    AUTO_CLIENT struct cli_client client = {0};
    AUTO_STORE struct dor_store *store = NULL;
    const char *name = cli->args[1];
    int rc = cli_client_find(cli, &client);
    if (rc == 0 && client.daemon != NULL)
        rc = dor_client_root_remove(client.daemon, name, cli->values.absorb);
    else if (rc == 0)
        rc = cli_store_open(cli, DOR_OPEN_WRITE, &store);
    if (rc == 0 && store != NULL)
        rc = dor_store_root_remove(store, name, cli->values.absorb);
    if (rc != 0)
        return rc;
    if (cli->values.json)
        return cli_json_print(json_pack("{s:o}", "name", cli_json_text(cli->args[1])));
    if (!cli->values.quiet)
        printf("removed root image %s\n", cli->args[1]);
    return 0;
}

int
cli_root_run(const struct cli *cli)
{
    static const struct {
        const char *name;
        size_t arguments;
        int (*run)(const struct cli *cli);
    } actions[] = {{"add", 2, run_add}, {"ls", 1, run_ls}, {"rm", 2, run_rm}};
    const struct cli_values *values = &cli->values;
    bool is_add = strcmp(cli->args[0], "add") == 0;
    if (!is_add && (values->name != NULL || values->domain != NULL))
        return dor_fail(DOR_E_USAGE, "--name and --domain are for root add");
    if (values->absorb && strcmp(cli->args[0], "rm") != 0)
        return dor_fail(DOR_E_USAGE, "--absorb is for root rm");
    for (size_t i = 0; i < ARRAY_LEN(actions); i++)
        if (strcmp(cli->args[0], actions[i].name) == 0)
            return cli->arg_count == actions[i].arguments
                       ? actions[i].run(cli)
                       : dor_fail(DOR_E_USAGE, "usage: root add IMAGE, root ls, root rm NAME");
    return dor_fail(DOR_E_USAGE, "root does add, ls and rm, not \"%s\"", cli->args[0]);
}
