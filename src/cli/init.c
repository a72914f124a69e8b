/* SPDX-License-Identifier: Apache-2.0 */
/*
 * init.c - `dormouse init`.
 */
#include "cli/cli.h"
#include "cli/json.h"
#include "cli/text.h"

#include <stdio.h>

int
cli_init_run(const struct cli *cli)
{
    const char *directory = NULL;
    int rc = cli_store_directory(cli, &directory);
    if (rc == 0)
        rc = dor_store_create(directory, cli->store_options);
    if (rc != 0)
        return rc;
    if (cli->values.json)
        return cli_json_print(json_pack("{s:o}", "store", cli_json_text(directory)));
    if (!cli->values.quiet)
        printf("made an empty store in %s\n", directory);
    return 0;
}
