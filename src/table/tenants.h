/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tenants.h - who may use tables, and how: a JSON file that the verbs of `dormouse tenant` replace
 * as a whole and that the front reads at its start and at SIGHUP. The options are tenant.def.
 *
 *     {"tenants": [{"name": "alice", "password": "$y$...", "limit": 1073741824, ...}]}
 *
 * A password is kept as a hash of crypt(5). Only the tenant "default" may be without one: who
 * connects and does not authenticate then is that tenant, as in Redis.
 *
 * Ownership:  table_tenants_fini() frees a list; the structs hold no pointers.
 * Threads:    one list, one thread.
 * Errors:     DOR_E_USAGE with the file's name for what makes no sense in it.
 */
#ifndef DOR_TABLE_TENANTS_H
#define DOR_TABLE_TENANTS_H

#include <dormouse/err.h>
#include <dormouse/table.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/options.h"

enum {
    TABLE_TENANT_NAME_BYTES = 65,
    TABLE_HASH_BYTES = 385, /* CRYPT_OUTPUT_SIZE of libxcrypt and one more */
    TABLE_TENANTS_MAX = 65536,
    TABLE_CHOICE_BYTES = 32,
};

#define TABLE_DEFAULT_TENANT "default"

enum table_isolation { TABLE_ISOLATION_PROCESS, TABLE_ISOLATION_SHARED };

struct table_tenant_options {
#define OPTION BASE_OPTION_FIELD
#include "table/tenant.def"
#undef OPTION
};

struct table_tenant_config {
    char name[TABLE_TENANT_NAME_BYTES];
    char password[TABLE_HASH_BYTES]; /* a hash; "" = none is needed */
    char domain[TABLE_TENANT_NAME_BYTES];
    struct table_tenant_options options; /* its domain is the array above */
};

struct table_tenants {
    struct table_tenant_config *items; /* by name */
    size_t count;
};

extern const struct base_option table_tenant_rows[];
extern const size_t table_tenant_row_count;

/*
 * A tenant called NAME with the defaults and without a password. DOR_E_USAGE: no such name can be.
 */
DOR_MUST_CHECK int table_tenant_config_init(const char *name, struct table_tenant_config *ret);

/* One option of tenant.def, from text. */
DOR_MUST_CHECK int
table_tenant_config_set(struct table_tenant_config *tenant, const char *name, const char *text);

/* The word number INDEX of CHOICES, which '|' separates. */
const char *
table_tenant_choice(const char *choices, uint64_t index, char ret[TABLE_CHOICE_BYTES]);

/* An empty list when there is no such file. */
DOR_MUST_CHECK int table_tenants_load(const char *path, struct table_tenants *ret);
DOR_MUST_CHECK int table_tenants_parse(
    const char *text, size_t size_bytes, const char *name, struct table_tenants *ret);
void table_tenants_fini(struct table_tenants *tenants);

/* Where NAME is among COUNT sorted names of LIST, or would be. */
typedef const char *table_name_fn(const void *list, size_t i);
size_t table_name_place(
    table_name_fn *name_at, const void *list, size_t count, const char *name, bool *ret_found);

struct table_tenant_config *
table_tenants_find(const struct table_tenants *tenants, const char *name);

/*
 * Let CHANGE work on what is in the file PATH, and replace that if it returns 0. One at a time:
 * others wait.
 */
typedef int table_tenants_change_fn(struct table_tenants *tenants, void *context);
DOR_MUST_CHECK int
table_tenants_change(const char *path, table_tenants_change_fn *change, void *context);

/* DOR_E_EXISTS when there is one of that name. */
DOR_MUST_CHECK int
table_tenants_add(struct table_tenants *tenants, const struct table_tenant_config *tenant);
/* DOR_E_NOT_FOUND when there is none. */
DOR_MUST_CHECK int table_tenants_remove(struct table_tenants *tenants, const char *name);

#endif
