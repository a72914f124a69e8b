/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store.c - finds and opens the store that the command line names.
 */
#include "cli/cli.h"

#include "base/err.h"

#include <stdlib.h>

int
cli_store_directory(const struct cli *cli, const char **ret)
{
    const char *directory = cli->values.store;
    if (directory == NULL)
        directory = getenv("DORMOUSE_STORE");
    if (directory == NULL || directory[0] == '\0')
        return dor_fail(
            DOR_E_USAGE, "%s needs a store: give --store DIR or set DORMOUSE_STORE",
            cli->verb->name);
    *ret = directory;
    return 0;
}

int
cli_store_open(const struct cli *cli, enum dor_open_mode mode, struct dor_store **ret)
{
    const char *directory = NULL;
    int rc = cli_store_directory(cli, &directory);
    return rc == 0 ? dor_store_open(directory, mode, cli->store_options, ret) : rc;
}

void
cli_auto_store(struct dor_store **store)
{
    dor_store_close(*store);
}

void
cli_auto_snapshot(struct dor_snapshot **snapshot)
{
    dor_snapshot_close(*snapshot);
}
