/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client.c - where the daemon is, and the options of the store that it is to use.
 */
#include "cli/client.h"

#include "base/err.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

/* The NAME=VALUE of --option, which were checked when they were parsed. */
static int
set_options(const struct cli *cli, struct cli_client *client)
{
    const struct cli_list *list = &cli->values.options;
    size_t bytes = 0;
    for (size_t i = 0; i < list->count; i++)
        bytes += strlen(list->items[i]) + 1;
    if (list->count == 0)
        return 0;
    char *place = client->names = base_alloc(bytes);
    if (place == NULL)
        return DOR_E_NO_MEMORY;
    for (size_t i = 0; i < list->count; i++) {
        size_t length = strlen(list->items[i]);
        memcpy(place, list->items[i], length + 1);
        char *equals = strchr(place, '=');
        dor_assert(equals != NULL);
        *equals = '\0';
        client->settings[i] = (struct dor_client_setting){.name = place, .value = equals + 1};
        place += length + 1;
    }
    dor_client_set_options(client->daemon, client->settings, list->count);
    return 0;
}

int
cli_client_find_store(const struct cli *cli, const char *directory, struct cli_client *ret)
{
    *ret = (struct cli_client){0};
    if (cli->values.no_daemon)
        return 0;
    int rc = dor_client_find(directory, &ret->daemon);
    if (rc == DOR_E_NOT_FOUND)
        return 0;
    return rc == 0 ? set_options(cli, ret) : rc;
}

int
cli_client_find(const struct cli *cli, struct cli_client *ret)
{
    const char *directory = NULL;
    const char *path = cli->values.socket;
    *ret = (struct cli_client){0};
    if (cli->values.no_daemon)
        return 0;
    /* A store that is named counts more than what the environment says of daemons. */
    if (path == NULL && cli->values.store == NULL)
        path = getenv("DORMOUSE_SOCKET");
    if (path != NULL && path[0] != '\0') {
        int rc = dor_client_open(path, &ret->daemon);
        return rc == 0 ? set_options(cli, ret) : rc;
    }
    int rc = cli_store_directory(cli, &directory);
    return rc == 0 ? cli_client_find_store(cli, directory, ret) : rc;
}

void
cli_client_fini(struct cli_client *client)
{
    dor_client_close(client->daemon);
    base_free(client->names);
    *client = (struct cli_client){0};
}
