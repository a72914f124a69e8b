/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rm.c - `dormouse rm`.
 */
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/json.h"

#include <stdio.h>

int
cli_rm_run(const struct cli *cli)
{
    const char *name = cli->args[0];
    AUTO_CLIENT struct cli_client client = {0};
    AUTO_STORE struct dor_store *store = NULL;
    int rc = cli_client_find(cli, &client);
    if (rc == 0 && client.daemon != NULL)
        rc = dor_client_remove(client.daemon, name);
    else if (rc == 0)
        rc = cli_store_open(cli, DOR_OPEN_WRITE, &store);
    if (rc == 0 && store != NULL)
        rc = dor_store_remove(store, name);
    if (rc != 0)
        return rc;
    if (cli->values.json)
        return cli_json_print(json_pack("{s:o}", "removed", cli_json_text(name)));
    if (!cli->values.quiet)
        printf("removed %s; gc gives its space back\n", name);
    return 0;
}
