/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wake.c - `dormouse wake`: chooses the way in.
 */
#include "cli/wake.h"

#include "base/err.h"

int
cli_wake_run(const struct cli *cli)
{
    int rc = dor_name_check(cli->args[0]);
    if (rc != 0)
        return rc;
    if (cli->values.uffd_socket != NULL && cli->values.offload != NULL)
        return dor_fail(DOR_E_USAGE, "wake has one way in: --uffd-socket or --offload");
    if (cli->values.uffd_socket != NULL)
        return cli_wake_uffd(cli);
    if (cli->values.offload != NULL)
        return cli_wake_offload(cli);
    return dor_fail(DOR_E_USAGE, "wake needs a way in: --uffd-socket PATH or --offload PATH");
}
