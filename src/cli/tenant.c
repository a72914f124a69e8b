/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tenant.c - `dormouse tenant add`, `rm`, `ls`, `passwd` and `options`: the file of tenants.
 * Passwords come from standard input, for arguments can be seen by everybody on the machine.
 */
#include "base/err.h"
#include "base/mem.h"
#include "base/size.h"
#include "cli/cli.h"
#include "cli/json.h"
#include "cli/table.h"
#include "cli/text.h"

#include <dormouse/table.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

enum { PASSWORD_BYTES = 512, INDENT = 6 };

/* ------------------------------------------------------------------ passwords */

static int
read_line(char password[PASSWORD_BYTES])
{
    if (fgets(password, PASSWORD_BYTES, stdin) == NULL)
        return dor_fail(DOR_E_USAGE, "a password is expected on standard input");
    size_t length = strcspn(password, "\n");
    if (password[length] == '\0' && length == PASSWORD_BYTES - 1)
        return dor_fail(DOR_E_USAGE, "a password has less than %d bytes", PASSWORD_BYTES);
    password[length] = '\0';
    return length > 0 ? 0 : dor_fail(DOR_E_USAGE, "the password is empty");
}

/* A line of standard input; a terminal is asked, and does not show it. */
static int
read_password(char password[PASSWORD_BYTES])
{
    struct termios before;
    struct termios quiet;
    bool terminal = tcgetattr(STDIN_FILENO, &before) == 0;
    if (terminal) {
        quiet = before;
        quiet.c_lflag &= ~(tcflag_t)ECHO;
        fputs("Password: ", stderr);
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
    }
    /* No copy of it is to stay in a buffer of the stream. */
    setvbuf(stdin, NULL, _IONBF, 0);
    int rc = read_line(password);
    if (terminal) {
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
        fputc('\n', stderr);
    }
    return rc;
}

static int
with_password(const struct cli *cli, int (*run)(const struct cli *cli, const char *password))
{
    char password[PASSWORD_BYTES] = "";
    int rc = cli->values.no_password ? 0 : read_password(password);
    if (rc == 0)
        rc = run(cli, cli->values.no_password ? NULL : password);
    explicit_bzero(password, sizeof password);
    return rc;
}

static int
tell(const struct cli *cli, const char *done)
{
    if (cli->values.json)
        return cli_json_print(json_pack("{s:o}", "name", cli_json_text(cli->args[1])));
    if (!cli->values.quiet)
        printf("%s tenant %s\n", done, cli->args[1]);
    return 0;
}

/* ------------------------------------------------------------------ changes */

/* Cut NAME=VALUE in the middle. */
static int
read_setting(char *text, struct dor_tenant_setting *ret)
{
    char *equals = strchr(text, '=');
    if (equals == NULL)
        return dor_fail(DOR_E_USAGE, "\"%.60s\" is not OPTION=VALUE", text);
    *equals = '\0';
    *ret = (struct dor_tenant_setting){text, equals + 1};
    return 0;
}

static int
add(const struct cli *cli, const char *password)
{
    size_t count = cli->arg_count - 2;
    AUTO_FREE struct dor_tenant_setting *settings = base_array(count, sizeof *settings);
    int rc = settings == NULL ? DOR_E_NO_MEMORY : 0;
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = read_setting(cli->args[2 + i], &settings[i]);
    if (rc == 0)
        rc = dor_tenant_add(cli->values.tenants, cli->args[1], password, settings, count);
    return rc == 0 ? tell(cli, "added") : rc;
}

static int
run_add(const struct cli *cli)
{
    return with_password(cli, add);
}

static int
set_password(const struct cli *cli, const char *password)
{
    int rc = dor_tenant_set_password(cli->values.tenants, cli->args[1], password);
    return rc == 0 ? tell(cli, "changed the password of") : rc;
}

static int
run_passwd(const struct cli *cli)
{
    return with_password(cli, set_password);
}

static int
run_rm(const struct cli *cli)
{
    int rc = dor_tenant_remove(cli->values.tenants, cli->args[1]);
    return rc == 0 ? tell(cli, "removed") : rc;
}

/* ------------------------------------------------------------------ lists */

static int
add_json(void *context, const struct dor_tenant_info *tenant)
{
    json_t *row = json_pack(
        "{s:o, s:b, s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o}", "name",
        cli_json_text(tenant->name), "has_password", tenant->has_password, "domain",
        tenant->domain, "isolation", tenant->isolation, "policy", tenant->policy, "log",
        tenant->log, "limit_bytes", cli_json_u64(tenant->limit_bytes), "heap_bytes",
        cli_json_u64(tenant->heap_bytes), "call_ms", cli_json_u64(tenant->call_ms), "calls",
        cli_json_u64(tenant->calls));
    if (json_array_append_new(context, row) != 0)
        return dor_fail(DOR_E_NO_MEMORY, "no memory for the list of tenants");
    return 0;
}

static int
add_text(void *context, const struct dor_tenant_info *tenant)
{
    struct cli_table *table = context;
    cli_table_cell(table, "%s", tenant->name);
    cli_table_cell(table, "%s", tenant->has_password ? "yes" : "no");
    cli_table_cell(table, "%s", tenant->domain);
    cli_table_cell(table, "%s", tenant->isolation);
    cli_table_size(table, tenant->limit_bytes);
    cli_table_cell(table, "%s", tenant->policy);
    cli_table_cell(table, "%s", tenant->log);
    return 0;
}

static int
run_ls(const struct cli *cli)
{
    static const char *const heads[] = {"name",  "password", "domain", "isolation",
                                        "limit", "policy",   "log"};
    if (cli->values.json) {
        AUTO_JSON json_t *tenants = json_array();
        int rc = dor_tenant_each(cli->values.tenants, add_json, tenants);
        return rc == 0 ? cli_json_print(json_pack("{s:O}", "tenants", tenants)) : rc;
    }
    AUTO_TABLE struct cli_table table = {.columns = "llllrll"};
    for (size_t i = 0; i < ARRAY_LEN(heads); i++)
        cli_table_cell(&table, "%s", heads[i]);
    int rc = dor_tenant_each(cli->values.tenants, add_text, &table);
    return rc == 0 ? cli_table_print(&table) : rc;
}

static void
print_option(
    void *context, const char *name, const char *preset, const char *unit, const char *text)
{
    (void)context;
    printf("  %s=%s  %s\n%*s", name, preset, unit, INDENT, "");
    cli_text_wrap(stdout, INDENT, INDENT, text);
}

static int
run_options(const struct cli *cli)
{
    (void)cli;
    puts("Options of a tenant, with their defaults:");
    dor_tenant_options_each(print_option, NULL);
    return 0;
}

/* ------------------------------------------------------------------ the verb */

int
cli_tenant_run(const struct cli *cli)
{
    static const struct {
        const char *name;
        size_t least, most;
        int (*run)(const struct cli *cli);
    } actions[] = {
        {"add", 2, 2 + CLI_LIST_MAX, run_add},
        {"rm", 2, 2, run_rm},
        {"ls", 1, 1, run_ls},
        {"passwd", 2, 2, run_passwd},
        {"options", 1, 1, run_options},
    };
    const char *word = cli->args[0];
    for (size_t i = 0; i < ARRAY_LEN(actions); i++) {
        if (strcmp(word, actions[i].name) != 0)
            continue;
        if (cli->arg_count < actions[i].least || cli->arg_count > actions[i].most)
            return dor_fail(
                DOR_E_USAGE,
                "usage: tenant add NAME [OPTION=VALUE...], rm NAME, passwd NAME, ls, "
                "options");
        if (cli->values.tenants == NULL && actions[i].run != run_options)
            return dor_fail(DOR_E_USAGE, "name the file of tenants with --tenants FILE");
        return actions[i].run(cli);
    }
    return dor_fail(
        DOR_E_USAGE, "tenant does add, rm, ls, passwd and options, not \"%s\"", word);
}
