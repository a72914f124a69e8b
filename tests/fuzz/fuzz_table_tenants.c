/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_table_tenants.c - the input is a file of tenants. What is taken is sorted, in range, and
 * has a password that can be checked.
 */
#include <string.h>

#include "base/err.h"
#include "table/auth.h"
#include "table/tenants.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    struct table_tenants list = {0};
    if (table_tenants_parse((const char *)data, size_bytes, "input", &list) != 0)
        return 0;
    for (size_t i = 0; i < list.count; i++) {
        const struct table_tenant_config *tenant = &list.items[i];
        dor_assert(i == 0 || strcmp(list.items[i - 1].name, tenant->name) < 0);
        dor_assert(strchr(tenant->name, '/') == NULL && tenant->name[0] != '\0');
        dor_assert(strchr(tenant->domain, '/') == NULL && tenant->domain[0] != '\0');
        dor_assert(
            tenant->password[0] != '\0' ? table_auth_is_hash(tenant->password)
                                        : strcmp(tenant->name, TABLE_DEFAULT_TENANT) == 0);
        dor_assert(
            tenant->options.limit >= 65536 && tenant->options.limit <= UINT64_C(1) << 32);
        dor_assert(table_tenants_find(&list, tenant->name) == tenant);
    }
    table_tenants_fini(&list);
    return 0;
}
