/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tenant_verbs.c - what the command line and the daemon do with the file of tenants.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "table/auth.h"
#include "table/tenants.h"

enum { PRESET_BYTES = 64 };

static int
set_password(struct table_tenant_config *tenant, const char *password)
{
    if (password == NULL && strcmp(tenant->name, TABLE_DEFAULT_TENANT) == 0) {
        tenant->password[0] = '\0';
        return 0;
    }
    if (password == NULL || password[0] == '\0')
        return dor_fail(DOR_E_USAGE, "tenant %s: a password is missing", tenant->name);
    return table_auth_hash(password, tenant->password, sizeof tenant->password);
}

static int
add(struct table_tenants *tenants, void *context)
{
    return table_tenants_add(tenants, context);
}

int
dor_tenant_add(
    const char *path, const char *name, const char *password,
    const struct dor_tenant_setting *settings, size_t setting_count)
{
    struct table_tenant_config tenant;
    int rc = table_tenant_config_init(name, &tenant);
    for (size_t i = 0; rc == 0 && i < setting_count; i++)
        rc = table_tenant_config_set(&tenant, settings[i].name, settings[i].value);
    if (rc == 0)
        rc = set_password(&tenant, password);
    return rc == 0 ? table_tenants_change(path, add, &tenant) : rc;
}

static int
drop(struct table_tenants *tenants, void *context)
{
    return table_tenants_remove(tenants, context);
}

int
dor_tenant_remove(const char *path, const char *name)
{
    return table_tenants_change(path, drop, (void *)(uintptr_t)name);
}

static int
replace_password(struct table_tenants *tenants, void *context)
{
    const struct table_tenant_config *wanted = context;
    struct table_tenant_config *tenant = table_tenants_find(tenants, wanted->name);
    if (tenant == NULL)
        return dor_fail(DOR_E_NOT_FOUND, "tenant %s: there is none", wanted->name);
    memcpy(tenant->password, wanted->password, sizeof tenant->password);
    return 0;
}

int
dor_tenant_set_password(const char *path, const char *name, const char *password)
{
    struct table_tenant_config wanted;
    int rc = table_tenant_config_init(name, &wanted);
    if (rc == 0)
        rc = set_password(&wanted, password);
    return rc == 0 ? table_tenants_change(path, replace_password, &wanted) : rc;
}

/* The choices that the option NAME has. */
static const char *
choices_of(const char *name)
{
    for (size_t i = 0; i < table_tenant_row_count; i++)
        if (strcmp(table_tenant_rows[i].name, name) == 0)
            return table_tenant_rows[i].unit;
    return "";
}

static int
show(
    const struct table_tenant_config *tenant,
    int (*visit)(void *context, const struct dor_tenant_info *tenant), void *context)
{
    const struct table_tenant_options *options = &tenant->options;
    char isolation[TABLE_CHOICE_BYTES];
    char policy[TABLE_CHOICE_BYTES];
    char log[TABLE_CHOICE_BYTES];
    const struct dor_tenant_info info = {
        .name = tenant->name,
        .has_password = tenant->password[0] != '\0',
        .domain = tenant->domain,
        .isolation =
            table_tenant_choice(choices_of("isolation"), options->isolation, isolation),
        .policy = table_tenant_choice(choices_of("policy"), options->policy, policy),
        .log = table_tenant_choice(choices_of("log"), options->log, log),
        .limit_bytes = options->limit,
        .heap_bytes = options->heap,
        .call_ms = options->call_ms,
        .calls = options->calls,
    };
    return visit(context, &info);
}

int
dor_tenant_each(
    const char *path, int (*visit)(void *context, const struct dor_tenant_info *tenant),
    void *context)
{
    struct table_tenants tenants = {0};
    int rc = table_tenants_load(path, &tenants);
    for (size_t i = 0; rc == 0 && i < tenants.count; i++)
        rc = show(&tenants.items[i], visit, context);
    table_tenants_fini(&tenants);
    return rc;
}

void
dor_tenant_options_each(
    void (*visit)(
        void *context, const char *name, const char *preset, const char *unit,
        const char *text),
    void *context)
{
    for (size_t i = 0; i < table_tenant_row_count; i++) {
        const struct base_option *row = &table_tenant_rows[i];
        char preset[PRESET_BYTES];
        if (row->type == BASE_OPTION_STRING)
            snprintf(preset, sizeof preset, "%s", row->default_text);
        else if (row->type == BASE_OPTION_ENUM)
            table_tenant_choice(row->unit, row->default_number, preset);
        else
            snprintf(preset, sizeof preset, "%" PRIu64, row->default_number);
        visit(context, row->name, preset, row->unit, row->text);
    }
}
