/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.c - reads the lines, then what the strings among the options mean.
 */
#include "node/config.h"

#include "base/err.h"
#include "base/file.h"
#include "base/size.h"

#include <ctype.h>
#include <dormouse/node.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BASE_OPTION_STRUCT struct node_options
const struct base_option node_option_rows[] = {
#define OPTION BASE_OPTION_ROW
#include "node/options.def"
#undef OPTION
};
#undef BASE_OPTION_STRUCT
const size_t node_option_count = ARRAY_LEN(node_option_rows);

enum { OCTAL = 8, DECIMAL = 10, MODE_MAX = 0777, PRESET_BYTES = 64 };

/* TEXT without blanks at both ends, in place. */
static char *
strip(char *text)
{
    while (isspace((unsigned char)*text))
        text++;
    size_t length = strlen(text);
    while (length > 0 && isspace((unsigned char)text[length - 1]))
        text[--length] = '\0';
    return text;
}

static int
take_line(struct node_options *options, char *line)
{
    line[strcspn(line, "#")] = '\0';
    line = strip(line);
    if (line[0] == '\0')
        return 0;
    char *equals = strchr(line, '=');
    if (equals == NULL)
        return dor_fail(DOR_E_USAGE, "\"%.60s\" is not name = value", line);
    *equals = '\0';
    return base_options_set(
        node_option_rows, node_option_count, options, strip(line), strip(equals + 1));
}

int
node_config_read_mode(const char *text, mode_t *ret)
{
    char *end = NULL;
    unsigned long mode = strtoul(text, &end, OCTAL);
    if (!isdigit((unsigned char)text[0]) || *end != '\0' || mode > MODE_MAX)
        return dor_fail(
            DOR_E_USAGE, "\"%s\" is no mode of a socket; write one such as 0660", text);
    *ret = (mode_t)mode;
    return 0;
}

int
node_config_set_mode(struct node_config *config, const char *text)
{
    return node_config_read_mode(text, &config->socket_mode);
}

static int
take_ids(const char *name, const char *text, uint32_t ids[NODE_IDS_MAX], size_t *ret_count)
{
    size_t count = 0;
    while (*text != '\0') {
        char *end = NULL;
        unsigned long id = strtoul(text, &end, DECIMAL);
        if (!isdigit((unsigned char)text[0]) || id >= UINT32_MAX ||
            (*end != ',' && *end != '\0'))
            return dor_fail(
                DOR_E_USAGE, "%s: \"%.60s\" is no list of numbers such as 1000,1001", name,
                text);
        if (count == NODE_IDS_MAX)
            return dor_fail(DOR_E_USAGE, "%s: at most %d numbers", name, NODE_IDS_MAX);
        ids[count++] = (uint32_t)id;
        for (text = end + (*end == ','); *text == ' ';)
            text++;
    }
    *ret_count = count;
    return 0;
}

int
node_config_parse(char *text, const char *name, struct node_config *config)
{
    base_options_default(node_option_rows, node_option_count, &config->options);
    unsigned number = 1;
    for (char *line; (line = strsep(&text, "\n")) != NULL; number++) {
        int rc = take_line(&config->options, line);
        if (rc != 0)
            return dor_fail_wrap("%s:%u", name, number);
    }
    int rc = node_config_set_mode(config, config->options.socket_mode);
    if (rc == 0)
        rc = take_ids(
            "allow_uids", config->options.allow_uids, config->uids, &config->uid_count);
    if (rc == 0)
        rc = take_ids(
            "allow_gids", config->options.allow_gids, config->gids, &config->gid_count);
    return rc == 0 ? 0 : dor_fail_wrap("%s", name);
}

int
node_config_load(const char *path, struct node_config *ret)
{
    *ret = (struct node_config){0};
    int rc = path == NULL
                 ? 0
                 : base_file_read_all(AT_FDCWD, path, NODE_CONFIG_BYTES_MAX, &ret->text);
    if (rc == 0)
        rc = base_buf_append(&ret->text, "", 1);
    if (rc == 0 && strlen((char *)ret->text.data) + 1 != ret->text.size_bytes)
        rc = dor_fail(DOR_E_USAGE, "%s: is not text", path);
    if (rc == 0)
        rc = node_config_parse(
            (char *)ret->text.data, path == NULL ? "configuration" : path, ret);
    if (rc != 0)
        node_config_fini(ret);
    return rc;
}

bool
node_config_allows(const struct node_config *config, uid_t uid, gid_t gid)
{
    if (uid == 0 || uid == geteuid())
        return true;
    for (size_t i = 0; i < config->uid_count; i++)
        if (config->uids[i] == uid)
            return true;
    for (size_t i = 0; i < config->gid_count; i++)
        if (config->gids[i] == gid)
            return true;
    return false;
}

void
dor_daemon_options_each(
    void (*visit)(
        void *context, const char *name, const char *preset, const char *unit,
        const char *text),
    void *context)
{
    for (size_t i = 0; i < node_option_count; i++) {
        const struct base_option *row = &node_option_rows[i];
        char preset[PRESET_BYTES];
        if (row->type == BASE_OPTION_STRING)
            snprintf(preset, sizeof preset, "%s", row->default_text);
        else
            snprintf(preset, sizeof preset, "%" PRIu64, row->default_number);
        visit(context, row->name, preset, row->unit, row->text);
    }
}

void
node_config_fini(struct node_config *config)
{
    base_buf_free(&config->text);
    *config = (struct node_config){0};
}
