/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tenants.c - the file of tenants, read strictly: what is not known is refused, so that no setting
 * is made in vain. Whoever changes it holds the lock on its directory's entry NAME.lock, so two
 * verbs at a time lose nothing.
 */
#include "table/tenants.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/newfile.h"
#include "base/size.h"
#include "table/auth.h"

#define BASE_OPTION_STRUCT struct table_tenant_options
const struct base_option table_tenant_rows[] = {
#define OPTION BASE_OPTION_ROW
#include "table/tenant.def"
#undef OPTION
};
#undef BASE_OPTION_STRUCT
const size_t table_tenant_row_count = ARRAY_LEN(table_tenant_rows);

enum { FILE_BYTES_MAX = 64 << 20, NUMBER_BYTES = 24 };

/* ------------------------------------------------------------------ one tenant */

/* Names become names of files and words of replies. */
static bool
is_name(const char *name)
{
    size_t length = strlen(name);
    return length > 0 && length < TABLE_TENANT_NAME_BYTES && name[0] != '.' && name[0] != '-' &&
           strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") ==
               length;
}

static int
check_name(const char *what, const char *name)
{
    if (is_name(name))
        return 0;
    return dor_fail(
        DOR_E_USAGE,
        "%s \"%.80s\": a name has 1 to %d of A-Z a-z 0-9 . _ - and begins with none "
        "of . and -",
        what, name, TABLE_TENANT_NAME_BYTES - 1);
}

int
table_tenant_config_init(const char *name, struct table_tenant_config *ret)
{
    struct table_tenant_config tenant = {0};
    int rc = check_name("tenant", name);
    if (rc != 0)
        return rc;
    memcpy(tenant.name, name, strlen(name) + 1);
    base_options_default(table_tenant_rows, table_tenant_row_count, &tenant.options);
    snprintf(tenant.domain, sizeof tenant.domain, "%s", tenant.options.domain);
    tenant.options.domain = NULL;
    *ret = tenant;
    return 0;
}

int
table_tenant_config_set(struct table_tenant_config *tenant, const char *name, const char *text)
{
    struct table_tenant_options options = tenant->options;
    options.domain = NULL;
    int rc = base_options_set(table_tenant_rows, table_tenant_row_count, &options, name, text);
    if (rc == 0 && options.domain != NULL)
        rc = check_name("domain", options.domain);
    if (rc != 0)
        return dor_fail_wrap("tenant %s", tenant->name);
    if (options.domain != NULL)
        snprintf(tenant->domain, sizeof tenant->domain, "%s", options.domain);
    options.domain = NULL;
    tenant->options = options;
    return 0;
}

const char *
table_tenant_choice(const char *choices, uint64_t index, char ret[TABLE_CHOICE_BYTES])
{
    const char *name = choices;
    for (; index > 0; index--)
        name = strchrnul(name, '|') + 1;
    snprintf(ret, TABLE_CHOICE_BYTES, "%.*s", (int)(strchrnul(name, '|') - name), name);
    return ret;
}

/* ------------------------------------------------------------------ lists */

size_t
table_name_place(
    table_name_fn *name_at, const void *list, size_t count, const char *name, bool *ret_found)
{
    size_t low = 0;
    size_t high = count;
    *ret_found = false;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(name_at(list, middle), name);
        if (order == 0) {
            *ret_found = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static const char *
name_at(const void *list, size_t i)
{
    return ((const struct table_tenants *)list)->items[i].name;
}

static size_t
place_of(const struct table_tenants *tenants, const char *name, bool *ret_found)
{
    return table_name_place(name_at, tenants, tenants->count, name, ret_found);
}

struct table_tenant_config *
table_tenants_find(const struct table_tenants *tenants, const char *name)
{
    bool found = false;
    size_t at = place_of(tenants, name, &found);
    return found ? &tenants->items[at] : NULL;
}

int
table_tenants_add(struct table_tenants *tenants, const struct table_tenant_config *tenant)
{
    bool found = false;
    size_t at = place_of(tenants, tenant->name, &found);
    if (found)
        return dor_fail(DOR_E_EXISTS, "tenant %s: there is one already", tenant->name);
    if (tenants->count == TABLE_TENANTS_MAX)
        return dor_fail(DOR_E_NO_SPACE, "more than %d tenants", TABLE_TENANTS_MAX);
    if ((tenants->count & (tenants->count + 1)) == 0 || tenants->items == NULL) {
        struct table_tenant_config *grown = base_realloc_array(
            tenants->items, 2 * (tenants->count + 1), sizeof *tenants->items);
        if (grown == NULL)
            return DOR_E_NO_MEMORY;
        tenants->items = grown;
    }
    memmove(
        &tenants->items[at + 1], &tenants->items[at],
        (tenants->count - at) * sizeof *tenants->items);
    tenants->items[at] = *tenant;
    tenants->count++;
    return 0;
}

int
table_tenants_remove(struct table_tenants *tenants, const char *name)
{
    bool found = false;
    size_t at = place_of(tenants, name, &found);
    if (!found)
        return dor_fail(DOR_E_NOT_FOUND, "tenant %.80s: there is none", name);
    tenants->count--;
    memmove(
        &tenants->items[at], &tenants->items[at + 1],
        (tenants->count - at) * sizeof *tenants->items);
    return 0;
}

void
table_tenants_fini(struct table_tenants *tenants)
{
    if (tenants->items != NULL)
        explicit_bzero(tenants->items, tenants->count * sizeof *tenants->items);
    base_free(tenants->items);
    *tenants = (struct table_tenants){0};
}

/* ------------------------------------------------------------------ reading */

static int
take_password(struct table_tenant_config *tenant, const char *hash)
{
    if (hash == NULL || strlen(hash) >= sizeof tenant->password || !table_auth_is_hash(hash))
        return dor_fail(
            DOR_E_USAGE,
            "tenant %s: its password is no hash of crypt(5); set it with dormouse "
            "tenant passwd",
            tenant->name);
    memcpy(tenant->password, hash, strlen(hash) + 1);
    return 0;
}

static int
take_field(struct table_tenant_config *tenant, const char *key, const json_t *value)
{
    char number[NUMBER_BYTES];
    if (strcmp(key, "name") == 0)
        return 0;
    if (strcmp(key, "password") == 0)
        return take_password(tenant, json_string_value(value));
    if (json_is_integer(value)) {
        snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        return table_tenant_config_set(tenant, key, number);
    }
    if (json_is_string(value))
        return table_tenant_config_set(tenant, key, json_string_value(value));
    return dor_fail(
        DOR_E_USAGE, "tenant %s: %.40s is neither text nor a whole number", tenant->name, key);
}

static int
take_tenant(struct table_tenants *tenants, json_t *object)
{
    struct table_tenant_config tenant;
    const char *key = NULL;
    json_t *value = NULL;
    const char *name = json_string_value(json_object_get(object, "name"));
    if (name == NULL)
        return dor_fail(DOR_E_USAGE, "a tenant is an object with a name");
    int rc = table_tenant_config_init(name, &tenant);
    if (rc != 0)
        return rc;
    json_object_foreach(object, key, value)
    {
        rc = take_field(&tenant, key, value);
        if (rc != 0)
            return rc;
    }
    if (tenant.password[0] == '\0' && strcmp(name, TABLE_DEFAULT_TENANT) != 0)
        return dor_fail(
            DOR_E_USAGE,
            "tenant %s has no password; only \"" TABLE_DEFAULT_TENANT "\" may be "
            "without one",
            name);
    return table_tenants_add(tenants, &tenant);
}

static int
take_list(struct table_tenants *tenants, json_t *root)
{
    json_t *list = json_object_get(root, "tenants");
    if (!json_is_array(list) || json_object_size(root) != 1)
        return dor_fail(DOR_E_USAGE, "it is no object with one list \"tenants\"");
    size_t index = 0;
    json_t *object = NULL;
    json_array_foreach(list, index, object)
    {
        int rc = take_tenant(tenants, object);
        if (rc != 0)
            return rc;
    }
    return 0;
}

int
table_tenants_parse(
    const char *text, size_t size_bytes, const char *name, struct table_tenants *ret)
{
    struct table_tenants tenants = {0};
    json_error_t error;
    json_t *root = json_loadb(text, size_bytes, JSON_REJECT_DUPLICATES, &error);
    if (root == NULL)
        return dor_fail(DOR_E_USAGE, "%s:%d: %s", name, error.line, error.text);
    int rc = take_list(&tenants, root);
    json_decref(root);
    if (rc != 0) {
        table_tenants_fini(&tenants);
        return dor_fail_wrap("%s", name);
    }
    *ret = tenants;
    return 0;
}

int
table_tenants_load(const char *path, struct table_tenants *ret)
{
    AUTO_BUF struct base_buf text = {0};
    int rc = base_file_read_all(AT_FDCWD, path, FILE_BYTES_MAX, &text);
    if (rc == DOR_E_NOT_FOUND) {
        *ret = (struct table_tenants){0};
        return 0;
    }
    if (rc == 0)
        rc = table_tenants_parse((const char *)text.data, text.size_bytes, path, ret);
    if (text.data != NULL)
        explicit_bzero(text.data, text.size_bytes);
    return rc;
}

/* ------------------------------------------------------------------ writing */

static json_t *
option_json(const struct base_option *row, const struct table_tenant_config *tenant)
{
    uint64_t number = 0;
    if (row->type == BASE_OPTION_STRING)
        return json_string(tenant->domain);
    memcpy(&number, (const char *)&tenant->options + row->offset, sizeof number);
    if (row->type != BASE_OPTION_ENUM)
        return json_integer((json_int_t)number);
    char choice[TABLE_CHOICE_BYTES];
    return json_string(table_tenant_choice(row->unit, number, choice));
}

static json_t *
tenant_json(const struct table_tenant_config *tenant)
{
    json_t *object = json_pack("{s:s}", "name", tenant->name);
    int bad = object == NULL;
    if (!bad && tenant->password[0] != '\0')
        bad = json_object_set_new(object, "password", json_string(tenant->password));
    for (size_t i = 0; bad == 0 && i < table_tenant_row_count; i++) {
        const struct base_option *row = &table_tenant_rows[i];
        bad = json_object_set_new(object, row->name, option_json(row, tenant));
    }
    if (bad == 0)
        return object;
    json_decref(object);
    return NULL;
}

static int
print(const struct table_tenants *tenants, char **ret)
{
    json_t *list = json_array();
    int bad = list == NULL;
    for (size_t i = 0; bad == 0 && i < tenants->count; i++)
        bad = json_array_append_new(list, tenant_json(&tenants->items[i]));
    json_t *root = json_pack("{s:o}", "tenants", list);
    char *text = bad == 0 && root != NULL ? json_dumps(root, JSON_INDENT(2)) : NULL;
    json_decref(root);
    if (text == NULL)
        return dor_fail(DOR_E_NO_MEMORY, "no memory for the list of tenants");
    *ret = text;
    return 0;
}

static int
replace(const char *path, const char *text)
{
    AUTO_NEWFILE struct base_newfile file = BASE_NEWFILE_NONE;
    int rc = base_newfile_open(&file, path);
    if (rc == 0)
        rc = base_file_pwrite(file.fd, text, strlen(text), 0, path);
    if (rc == 0)
        rc = base_file_pwrite(file.fd, "\n", 1, strlen(text), path);
    return rc == 0 ? base_newfile_commit(&file) : rc;
}

/* Wait for the lock that who changes PATH holds; it ends with *RET. */
static int
lock(const char *path, int *ret)
{
    char name[PATH_MAX];
    AUTO_CLOSE int fd = -1;
    if (snprintf(name, sizeof name, "%s.lock", path) >= (int)sizeof name)
        return dor_fail(DOR_E_USAGE, "%.60s...: the path is too long", path);
    int rc = base_file_open(AT_FDCWD, name, O_RDWR | O_CREAT, S_IRUSR | S_IWUSR, &fd);
    if (rc != 0)
        return rc;
    while (flock(fd, LOCK_EX) != 0)
        if (errno != EINTR)
            return dor_fail_errno(errno, "%s: cannot lock", name);
    *ret = base_take_fd(&fd);
    return 0;
}

int
table_tenants_change(const char *path, table_tenants_change_fn *change, void *context)
{
    struct table_tenants tenants = {0};
    AUTO_CLOSE int locked = -1;
    char *text = NULL;
    int rc = lock(path, &locked);
    if (rc == 0)
        rc = table_tenants_load(path, &tenants);
    if (rc == 0)
        rc = change(&tenants, context);
    if (rc == 0)
        rc = print(&tenants, &text);
    if (rc == 0)
        rc = replace(path, text);
    free(text);
    table_tenants_fini(&tenants);
    return rc;
}
