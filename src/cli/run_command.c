/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run_command.c - QEMU's command line, from the file qemu.json of a snapshot:
 *
 *     {"memory": "ram",                   the id of the machine's memory backend
 *      "arguments": ["-m", "256M", ...]}  as QEMU was started, but for that backend, its QMP
 *                                         socket, and -incoming
 *
 * {NAME} in an argument stands for what --set NAME=VALUE says. Run itself adds the backend, always
 * with share=off, so that QEMU never writes to the snapshot's memory.
 */
#include "cli/run.h"

#include "base/err.h"
#include "cli/json.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { ARGUMENTS_MAX = 1024, NAME_BYTES_MAX = 64, WORD_BYTES_MAX = 1 << 16 };

void
cli_run_command_fini(struct cli_run_command *command)
{
    for (size_t i = 0; i < command->count; i++)
        base_free(command->words[i]);
    base_free(command->words);
    *command = (struct cli_run_command){0};
}

/* Add the bytes of WORD, which end with a 0, and take them over. */
static int
add_word(struct cli_run_command *command, struct base_buf *word)
{
    char **words = base_realloc_array(command->words, command->count + 2, sizeof *words);
    if (words == NULL)
        return DOR_E_NO_MEMORY;
    command->words = words;
    words[command->count++] = (char *)word->data;
    words[command->count] = NULL;
    *word = (struct base_buf){0};
    return 0;
}

static int
add_text(struct cli_run_command *command, const char *text)
{
    AUTO_BUF struct base_buf word = {0};
    int rc = base_buf_append(&word, text, strlen(text) + 1);
    return rc == 0 ? add_word(command, &word) : rc;
}

__attribute__((format(printf, 2, 3))) static int
add_format(struct cli_run_command *command, const char *format, ...)
{
    enum { BYTES = 512 };
    char text[BYTES];
    va_list arguments;
    va_start(arguments, format);
    int bytes = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    dor_assert(bytes >= 0 && (size_t)bytes < sizeof text);
    return add_text(command, text);
}

/* ------------------------------------------------------------------ what {NAME} stands for */

/* How many bytes at TEXT are a {NAME}; 0 when they are none. QEMU has arguments with braces too. */
static size_t
name_at(const char *text)
{
    size_t bytes = strspn(text + 1, "abcdefghijklmnopqrstuvwxyz0123456789_-");
    return text[0] == '{' && bytes > 0 && bytes <= NAME_BYTES_MAX && text[1 + bytes] == '}'
               ? bytes + 2
               : 0;
}

/* The value of the setting that the NAME_BYTES at NAME are the name of, or NULL. */
static const char *
setting(const struct cli_list *settings, const char *name, size_t name_bytes)
{
    for (size_t i = 0; i < settings->count; i++) {
        const char *item = settings->items[i];
        if (strncmp(item, name, name_bytes) == 0 && item[name_bytes] == '=')
            return item + name_bytes + 1;
    }
    return NULL;
}

static int
fill_in(const struct cli_list *settings, const char *text, struct base_buf *ret)
{
    int rc = 0;
    while (rc == 0 && *text != '\0') {
        size_t bytes = *text == '{' ? name_at(text) : 0;
        const char *value = bytes == 0 ? NULL : setting(settings, text + 1, bytes - 2);
        if (bytes > 0 && value == NULL)
            return dor_fail(
                DOR_E_USAGE,
                "the guest's arguments have %.*s: say what it is with --set %.*s=...",
                (int)bytes, text, (int)bytes - 2, text + 1);
        if (bytes == 0)
            bytes = 1 + strcspn(text + 1, "{");
        rc = value == NULL ? base_buf_append(ret, text, bytes)
                           : base_buf_append(ret, value, strlen(value));
        text += bytes;
    }
    return rc == 0 ? base_buf_append(ret, "", 1) : rc;
}

/* ------------------------------------------------------------------ qemu.json */

static int
is_damaged(const char *what)
{
    return dor_fail(DOR_E_USAGE, "qemu.json: %s", what);
}

static int
add_argument(const struct cli *cli, const json_t *argument, struct cli_run_command *command)
{
    AUTO_BUF struct base_buf word = {0};
    const char *text = json_string_value(argument);
    if (text == NULL || json_string_length(argument) > WORD_BYTES_MAX)
        return is_damaged("an argument is no text, or too long");
    int rc = fill_in(&cli->values.settings, text, &word);
    return rc == 0 ? add_word(command, &word) : rc;
}

static int
add_arguments(const struct cli *cli, const json_t *description, struct cli_run_command *command)
{
    const json_t *arguments = json_object_get(description, "arguments");
    int rc = 0;
    if (!json_is_array(arguments) || json_array_size(arguments) > ARGUMENTS_MAX)
        return is_damaged("\"arguments\" is no list, or too long");
    for (size_t i = 0; rc == 0 && i < json_array_size(arguments); i++)
        rc = add_argument(cli, json_array_get(arguments, i), command);
    return rc;
}

/* The names that QEMU takes, so that the rest of the backend's options stay ours. */
static bool
is_id(const char *id)
{
    return id != NULL && id[0] != '\0' && strlen(id) <= NAME_BYTES_MAX &&
           strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") ==
               strlen(id);
}

static int
add_own(
    const json_t *description, const struct cli_run_files *files, int qmp_fd,
    struct cli_run_command *command)
{
    const char *id = json_string_value(json_object_get(description, "memory"));
    if (!is_id(id))
        return is_damaged("\"memory\" is not the id of a memory backend");
    int rc = add_text(command, "-object");
    if (rc == 0)
        rc = add_format(
            command,
            "memory-backend-file,id=%s,share=off,mem-path=/proc/self/fd/%d,size=%" PRIu64, id,
            files->memory_fd, files->memory_bytes);
    if (rc == 0)
        rc = add_text(command, "-chardev");
    if (rc == 0)
        rc = add_format(command, "socket,id=dormouse-qmp,fd=%d", qmp_fd);
    if (rc == 0)
        rc = add_text(command, "-mon");
    if (rc == 0)
        rc = add_text(command, "chardev=dormouse-qmp,mode=control");
    if (rc == 0)
        rc = add_text(command, "-incoming");
    return rc == 0 ? add_text(command, "defer") : rc;
}

static int
check_settings(const struct cli_list *settings)
{
    for (size_t i = 0; i < settings->count; i++)
        if (strchr(settings->items[i], '=') == NULL)
            return dor_fail(
                DOR_E_USAGE, "--set %s: give a name and a value, NAME=VALUE",
                settings->items[i]);
    return 0;
}

int
cli_run_command_make(
    const struct cli *cli, const struct cli_run_files *files, int qmp_fd,
    struct cli_run_command *command)
{
    json_error_t error;
    int rc = check_settings(&cli->values.settings);
    if (rc != 0)
        return rc;
    AUTO_JSON json_t *description = json_loadb(
        (const char *)files->description.data, files->description.size_bytes, 0, &error);
    if (!json_is_object(description))
        return is_damaged(description == NULL ? error.text : "is no object");
    rc = add_text(command, cli->values.qemu == NULL ? "qemu-system-x86_64" : cli->values.qemu);
    if (rc == 0)
        rc = add_arguments(cli, description, command);
    if (rc == 0)
        rc = add_own(description, files, qmp_fd, command);
    for (size_t i = 1; rc == 0 && i < cli->arg_count; i++)
        rc = add_text(command, cli->args[i]);
    return rc;
}
