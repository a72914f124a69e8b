/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_node_config.c - the input is a configuration file; whatever it says, the settings stay
 * within the ranges of their table.
 */
#include "base/err.h"
#include "base/mem.h"
#include "node/config.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    AUTO_FREE char *text = base_zalloc(size_bytes + 1);
    struct node_config config = {0};
    if (text == NULL)
        return 0;
    if (size_bytes > 0)
        memcpy(text, data, size_bytes);
    int rc = node_config_parse(text, "fuzz", &config);
    dor_assert(rc == 0 || rc == DOR_E_USAGE);
    dor_assert(config.options.readers >= 1 && config.options.readers <= 64);
    dor_assert(config.options.body_bytes_max >= 1024);
    dor_assert(config.uid_count <= NODE_IDS_MAX && config.gid_count <= NODE_IDS_MAX);
    dor_assert(rc != 0 || config.socket_mode <= 0777);
    return 0;
}
