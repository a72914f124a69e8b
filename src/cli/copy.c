/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copy.c - `dormouse copy`.
 */
#include "base/err.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/json.h"
#include "cli/text.h"

#include <stdio.h>

static int
copy_snapshot(const struct cli *cli, const char *new_name, struct dor_put_result *ret)
{
    AUTO_CLIENT struct cli_client client = {0};
    AUTO_STORE struct dor_store *source = NULL;
    AUTO_STORE struct dor_store *target = NULL;
    const char *directory = NULL;
    int rc = cli_store_directory(cli, &directory);
    if (rc == 0)
        rc = cli_client_find_store(cli, cli->values.to, &client);
    if (rc == 0 && client.daemon != NULL)
        return dor_client_copy(client.daemon, directory, cli->args[0], new_name, ret);
    if (rc == 0)
        rc = cli_store_open(cli, DOR_OPEN_READ, &source);
    if (rc == 0) {
        rc = dor_store_open(cli->values.to, DOR_OPEN_WRITE, cli->store_options, &target);
        if (rc != 0)
            dor_fail_wrap("--to %s", cli->values.to);
    }
    return rc == 0 ? dor_store_copy(source, cli->args[0], target, new_name, ret) : rc;
}

static int
print_json(const struct cli *cli, const char *new_name, const struct dor_put_result *result)
{
    return cli_json_print(json_pack(
        "{s:o, s:o, s:o, s:o, s:o}", "name", cli_json_text(cli->args[0]), "to",
        cli_json_text(cli->values.to), "as", cli_json_text(new_name), "logical_bytes",
        cli_json_u64(result->total.logical_bytes), "added_bytes",
        cli_json_u64(result->added_bytes)));
}

int
cli_copy_run(const struct cli *cli)
{
    const char *new_name = cli->values.as == NULL ? cli->args[0] : cli->values.as;
    struct dor_put_result result = {0};
    if (cli->values.to == NULL)
        return dor_fail(DOR_E_USAGE, "copy needs --to DIR, the store to copy to");
    int rc = dor_name_check(new_name);
    if (rc == 0)
        rc = copy_snapshot(cli, new_name, &result);
    if (rc != 0)
        return rc;
    if (cli->values.json)
        return print_json(cli, new_name, &result);
    char logical[CLI_NUMBER_BYTES];
    char added[CLI_NUMBER_BYTES];
    if (!cli->values.quiet)
        printf(
            "copied %s to %s as %s: %s in %s\n", cli->args[0], cli->values.to, new_name,
            cli_text_size(result.total.logical_bytes, logical),
            cli_text_size(result.added_bytes, added));
    return 0;
}
