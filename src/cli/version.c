/* SPDX-License-Identifier: Apache-2.0 */
/*
 * version.c - `dormouse version`.
 */
#include "base/version.h"

#include "base/cpu.h"
#include "cli/cli.h"
#include "cli/json.h"

#include <stdio.h>

int
cli_version_run(const struct cli *cli)
{
    const char *cpu = base_cpu_level_name(base_cpu_level());
    if (cli->values.json)
        return cli_json_print(json_pack(
            "{s:s, s:s, s:s}", "version", DORMOUSE_VERSION, "cpu", cpu, "compiler",
            __VERSION__));
    printf("dormouse %s\n", DORMOUSE_VERSION);
    printf("  cpu       %s\n", cpu);
    printf("  compiler  %s\n", __VERSION__);
    return 0;
}
