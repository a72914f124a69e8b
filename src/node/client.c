/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client.c - asks a daemon. One connection a request, one answer until its end, all of bounded
 * size: that much HTTP needs no library. While a job runs, a second connection asks how far it is.
 */
#include "base/err.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/size.h"
#include "base/unix_socket.h"
#include "node/config.h"
#include "node/shape.h"

#include <ctype.h>
#include <dormouse/node.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define ANSWER_BYTES_MAX ((size_t)64 << 20)
#define AUTO_JSON        __attribute__((cleanup(release_json)))

enum {
    PROGRESS_MS = 200,
    READ_BYTES = 1 << 16,
    HEAD_BYTES = 256,
    JOB_BYTES = 32,
    TARGET_BYTES = 3 * PATH_MAX + 128,
    STATUS_FIRST_ERROR = 300,
};

struct dor_client {
    char path[PATH_MAX]; /* of the socket */
    const struct dor_client_setting *settings;
    size_t setting_count;
};

/* One request under way. */
struct exchange {
    struct dor_client *client;
    int fd;
    char job[JOB_BYTES]; /* "" when nobody wants progress */
    dor_progress_fn *progress;
    void *progress_context;
    bool cancelled;
    struct base_buf answer;
};

static void
release_json(json_t **json)
{
    json_decref(*json);
}

/* ------------------------------------------------------------------ opening */

static int
connect_to(const char *path, int *ret)
{
    int rc = base_unix_connect(path, 0, ret);
    if (rc == DOR_E_NOT_FOUND)
        return dor_fail(DOR_E_NOT_FOUND, "no daemon listens at %s", path);
    return rc == 0 ? 0 : dor_fail_wrap("daemon");
}

int
dor_client_open(const char *socket_path, struct dor_client **ret)
{
    AUTO_CLOSE int fd = -1;
    int rc = connect_to(socket_path, &fd);
    if (rc != 0)
        return rc;
    struct dor_client *client = base_zalloc(sizeof *client);
    if (client == NULL)
        return DOR_E_NO_MEMORY;
    if (snprintf(client->path, sizeof client->path, "%s", socket_path) >= PATH_MAX) {
        base_free(client);
        return dor_fail(DOR_E_USAGE, "the path of the socket is too long");
    }
    *ret = client;
    return 0;
}

int
dor_client_find(const char *directory, struct dor_client **ret)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", directory, NODE_SOCKET_NAME) >= PATH_MAX)
        return dor_fail(DOR_E_NOT_FOUND, "no daemon serves a store of so long a path");
    return dor_client_open(path, ret);
}

void
dor_client_close(struct dor_client *client)
{
    base_free(client);
}

void
dor_client_set_options(
    struct dor_client *client, const struct dor_client_setting *settings, size_t count)
{
    client->settings = settings;
    client->setting_count = count;
}

/* ------------------------------------------------------------------ HTTP */

static int
lost(int errnum)
{
    if (errnum != 0)
        return dor_fail_errno(errnum, "the daemon cannot be talked to");
    return dor_fail(
        DOR_E_IO, "the daemon ended before it answered; look whether the work was done");
}

static int
send_all(int fd, const char *data, size_t size_bytes)
{
    while (size_bytes > 0) {
        ssize_t sent = send(fd, data, size_bytes, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        /* A daemon that refuses has said so, and closed: the answer tells why. */
        if (sent < 0 && errno == EPIPE)
            return 0;
        if (sent < 0)
            return lost(errno);
        data += sent;
        size_bytes -= (size_t)sent;
    }
    return 0;
}

static int
send_request(struct exchange *exchange, const char *method, const char *target, json_t *body)
{
    AUTO_BUF struct base_buf request = {0};
    char head[HEAD_BYTES];
    char *text = body == NULL ? NULL : json_dumps(body, JSON_COMPACT);
    if (body != NULL && text == NULL)
        return dor_fail(DOR_E_NO_MEMORY, "no memory for the request");
    size_t text_bytes = text == NULL ? 0 : strlen(text);
    snprintf(
        head, sizeof head,
        " HTTP/1.1\r\nHost: dormouse\r\nConnection: close\r\n"
        "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
        text_bytes);
    int rc = base_buf_append(&request, method, strlen(method));
    if (rc == 0)
        rc = base_buf_append(&request, " ", 1);
    if (rc == 0)
        rc = base_buf_append(&request, target, strlen(target));
    if (rc == 0)
        rc = base_buf_append(&request, head, strlen(head));
    if (rc == 0 && text != NULL)
        rc = base_buf_append(&request, text, text_bytes);
    free(text);
    return rc == 0 ? send_all(exchange->fd, (char *)request.data, request.size_bytes) : rc;
}

/* *RET_END at the end of the answer. */
static int
receive(struct exchange *exchange, bool *ret_end)
{
    struct base_buf *answer = &exchange->answer;
    int rc = base_buf_reserve(answer, READ_BYTES);
    if (rc != 0)
        return rc;
    ssize_t bytes = recv(exchange->fd, answer->data + answer->size_bytes, READ_BYTES, 0);
    if (bytes < 0 && errno == EINTR)
        return 0;
    /* Refused with our request unread: what was said before still counts. */
    *ret_end = bytes == 0 || (bytes < 0 && errno == ECONNRESET);
    if (bytes < 0 && !*ret_end)
        return lost(errno);
    answer->size_bytes += bytes > 0 ? (size_t)bytes : 0;
    if (answer->size_bytes > ANSWER_BYTES_MAX)
        return dor_fail(DOR_E_CORRUPT, "the daemon's answer is too long");
    return 0;
}

/* The value of header NAME in HEAD, which ends in a zero byte; NULL when it is not there. */
static const char *
find_header(const char *head, const char *name)
{
    size_t bytes = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line != NULL; line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, name, bytes) == 0 && line[bytes] == ':')
            return line + bytes + 1;
    }
    return NULL;
}

static int
take_error(const json_t *json)
{
    json_int_t code = json_integer_value(json_object_get(json, "code"));
    const char *message = json_string_value(json_object_get(json, "message"));
    if (code < 1 || code > -DOR_E_UNSUPPORTED || message == NULL)
        return dor_fail(DOR_E_CORRUPT, "the daemon's answer is an error of another shape");
    return dor_fail((int)-code, "%s", message);
}

/* The status of an answer, whose first line is "HTTP/1.1 200 OK"; 0 when it is not one. */
static unsigned
read_status(const char *text)
{
    static const char begin[] = "HTTP/1.";
    const size_t at = sizeof begin - 1 + sizeof "1 " - 1;
    char *end = NULL;
    if (strncmp(text, begin, sizeof begin - 1) != 0 || strlen(text) < at ||
        text[at - 1] != ' ' || text[at] < '1' || text[at] > '9')
        return 0;
    unsigned long status = strtoul(text + at, &end, 10);
    return end - (text + at) == 3 ? (unsigned)status : 0;
}

/* The answer as JSON, an error as an error. */
static int
parse_answer(struct exchange *exchange, json_t **ret)
{
    struct base_buf *answer = &exchange->answer;
    if (answer->size_bytes == 0)
        return lost(0);
    char *text = (char *)answer->data;
    char *body = memmem(text, answer->size_bytes, "\r\n\r\n", 4);
    if (body == NULL)
        return lost(0);
    *body = '\0';
    body += 4;
    size_t body_bytes = answer->size_bytes - (size_t)(body - text);
    unsigned status = read_status(text);
    const char *length = find_header(text, "Content-Length");
    if (status == 0 || length == NULL)
        return dor_fail(DOR_E_CORRUPT, "what listens there does not answer as a daemon does");
    if (strtoull(length, NULL, 10) != body_bytes)
        return lost(0);
    json_t *json = json_loadb(body, body_bytes, 0, NULL);
    if (json == NULL)
        return dor_fail(DOR_E_CORRUPT, "the daemon's answer is no JSON");
    if (status >= STATUS_FIRST_ERROR) {
        int rc = take_error(json);
        json_decref(json);
        return rc;
    }
    *ret = json;
    return 0;
}

/* A request without progress, to its end. */
static int
ask_once(struct dor_client *client, const char *method, const char *target, json_t **ret)
{
    AUTO_CLOSE int fd = -1;
    struct exchange exchange = {.client = client};
    int rc = connect_to(client->path, &fd);
    exchange.fd = fd;
    if (rc == 0)
        rc = send_request(&exchange, method, target, NULL);
    for (bool ended = false; rc == 0 && !ended;)
        rc = receive(&exchange, &ended);
    if (rc == 0)
        rc = parse_answer(&exchange, ret);
    base_buf_free(&exchange.answer);
    return rc;
}

/* Show how far the job is; stop it when that is asked for. */
static void
look_at_job(struct exchange *exchange)
{
    AUTO_JSON json_t *json = NULL;
    char target[HEAD_BYTES];
    snprintf(target, sizeof target, "/jobs/%s", exchange->job);
    /* A daemon that is ending answers no more, but the work may go on to its end. */
    if (ask_once(exchange->client, "GET", target, &json) != 0)
        json = NULL;
    json_int_t done = json_integer_value(json_object_get(json, "done_bytes"));
    json_int_t total = json_integer_value(json_object_get(json, "total_bytes"));
    bool stop = exchange->progress(
                    exchange->progress_context, (uint64_t)(done > 0 ? done : 0),
                    (uint64_t)(total > 0 ? total : 0)) != 0;
    if (!stop || exchange->cancelled)
        return;
    AUTO_JSON json_t *said = NULL;
    exchange->cancelled = ask_once(exchange->client, "DELETE", target, &said) == 0;
}

static int
await_answer(struct exchange *exchange)
{
    bool ended = false;
    int rc = 0;
    while (rc == 0 && !ended) {
        struct pollfd fd = {.fd = exchange->fd, .events = POLLIN};
        int ready = poll(&fd, 1, exchange->progress == NULL ? -1 : PROGRESS_MS);
        if (ready > 0)
            rc = receive(exchange, &ended);
        else if (exchange->progress != NULL)
            look_at_job(exchange);
    }
    return rc;
}

/* Ask for METHOD and TARGET with BODY, whose reference is taken; NULL for an empty one. */
static int
ask(struct dor_client *client, const char *method, const char *target, json_t *body,
    dor_progress_fn *progress, void *progress_context, json_t **ret)
{
    AUTO_JSON json_t *owned = body;
    AUTO_CLOSE int fd = -1;
    char full[TARGET_BYTES];
    struct exchange exchange = {
        .client = client, .progress = progress, .progress_context = progress_context};
    uint64_t random = 0;
    int rc = base_random_seed_os((uint8_t *)&random, sizeof random);
    if (rc != 0)
        return rc;
    snprintf(exchange.job, sizeof exchange.job, "client-%016" PRIx64, random);
    snprintf(
        full, sizeof full, "%s%cjob=%s", target, strchr(target, '?') == NULL ? '?' : '&',
        exchange.job);
    rc = connect_to(client->path, &fd);
    exchange.fd = fd;
    if (rc == 0)
        rc = send_request(&exchange, method, full, owned);
    if (rc == 0)
        rc = await_answer(&exchange);
    if (rc == 0)
        rc = parse_answer(&exchange, ret);
    base_buf_free(&exchange.answer);
    return rc;
}

/* ------------------------------------------------------------------ pieces of requests */

/* FORMAT with one %s, which becomes NAME with all but plain letters as %XX. */
static void
make_target(char ret[TARGET_BYTES], const char *before, const char *name, const char *after)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_~";
    size_t used = (size_t)snprintf(ret, TARGET_BYTES, "%s", before);
    size_t room = TARGET_BYTES - strlen(after) - 4;
    for (const char *p = name; *p != '\0' && used < room; p++) {
        if (strchr(plain, *p) != NULL)
            ret[used++] = *p;
        else
            used += (size_t)snprintf(ret + used, 4, "%%%02X", (unsigned char)*p);
    }
    snprintf(ret + used, TARGET_BYTES - used, "%s", after);
}

/* PATH as the daemon sees it, from whatever folder; NULL when it cannot be said in JSON. */
static json_t *
path_json(const char *path)
{
    char here[PATH_MAX];
    char absolute[2 * PATH_MAX];
    if (path[0] == '/' || path[0] == '\0')
        return json_string(path);
    if (getcwd(here, sizeof here) == NULL)
        return NULL;
    snprintf(absolute, sizeof absolute, "%s/%s", here, path);
    return json_string(absolute);
}

/* Set KEY unless there is nothing to say; *FINE becomes false when it cannot be said. */
static void
set(json_t *body, const char *key, json_t *value, bool *fine)
{
    if (json_object_set_new(body, key, value) != 0)
        *fine = false;
}

static void
set_text(json_t *body, const char *key, const char *text, bool *fine)
{
    if (text != NULL)
        set(body, key, json_string(text), fine);
}

static void
set_path(json_t *body, const char *key, const char *path, bool *fine)
{
    if (path != NULL)
        set(body, key, path_json(path), fine);
}

static void
set_flag(json_t *body, const char *key, bool flag, bool *fine)
{
    if (flag)
        set(body, key, json_true(), fine);
}

static void
set_paths(json_t *body, const char *key, const char *const *paths, size_t count, bool *fine)
{
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        *fine = *fine && json_array_append_new(list, path_json(paths[i])) == 0;
    set(body, key, list, fine);
}

static void
set_options(const struct dor_client *client, json_t *body, bool *fine)
{
    if (client->setting_count == 0)
        return;
    json_t *options = json_object();
    for (size_t i = 0; i < client->setting_count; i++)
        set_text(options, client->settings[i].name, client->settings[i].value, fine);
    set(body, "options", options, fine);
}

/* BODY, or NULL with words when a part of it could not be made. */
static int
finish_body(json_t *body, bool fine)
{
    if (body != NULL && fine)
        return 0;
    json_decref(body);
    return dor_fail(
        DOR_E_USAGE, "a name or path is not UTF-8 and cannot be told to the daemon; "
                     "use --no-daemon when it does not run");
}

/* ------------------------------------------------------------------ requests */

/* What a put may say of any source. */
static json_t *
put_body(
    const struct dor_client *client, const struct dor_intake_options *options, bool *ret_fine)
{
    json_t *body = json_object();
    bool fine = true;
    set_paths(body, "sidecars", options->sidecars, options->sidecar_count, &fine);
    set_text(body, "parent", options->parent, &fine);
    set_text(body, "domain", options->domain, &fine);
    set_flag(body, "replace", options->replace, &fine);
    set_flag(body, "diff", options->diff, &fine);
    set_flag(body, "drop_free", options->drop_free, &fine);
    set_flag(body, "no_inspect", options->no_inspect, &fine);
    set_text(body, "format", options->format, &fine);
    set_text(body, "process", options->process, &fine);
    set_path(body, "profiles", options->profile_directory, &fine);
    set_path(body, "vmlinux", options->vmlinux, &fine);
    set_options(client, body, &fine);
    *ret_fine = fine;
    return body;
}

/* BODY is taken. */
static int
ask_put(
    struct dor_client *client, const char *name, json_t *body, dor_progress_fn *progress,
    void *progress_context, struct dor_put_result *ret, char ret_warning[DOR_WARNING_BYTES])
{
    AUTO_JSON json_t *json = NULL;
    char target[TARGET_BYTES];
    int rc = dor_name_check(name);
    if (rc != 0) {
        json_decref(body);
        return rc;
    }
    make_target(target, "/snapshots/", name, "");
    rc = ask(client, "PUT", target, body, progress, progress_context, &json);
    if (rc == 0)
        rc = node_read_put(json, ret);
    if (rc != 0)
        return rc;
    const char *warning = json_string_value(json_object_get(json, "warning"));
    snprintf(ret_warning, DOR_WARNING_BYTES, "%s", warning == NULL ? "" : warning);
    return 0;
}

int
dor_client_put(
    struct dor_client *client, const char *name, const struct dor_intake_options *options,
    dor_progress_fn *progress, void *progress_context, struct dor_put_result *ret,
    char ret_warning[DOR_WARNING_BYTES])
{
    bool fine = true;
    json_t *body = put_body(client, options, &fine);
    set_paths(body, "images", options->images, options->image_count, &fine);
    int rc = finish_body(body, fine);
    return rc == 0 ? ask_put(client, name, body, progress, progress_context, ret, ret_warning)
                   : rc;
}

int
dor_client_put_offload(
    struct dor_client *client, const char *name, const char *socket_path, uint64_t timeout_ns,
    const struct dor_intake_options *options, dor_progress_fn *progress, void *progress_context,
    struct dor_put_result *ret, char ret_warning[DOR_WARNING_BYTES])
{
    bool fine = true;
    json_t *body = put_body(client, options, &fine);
    set_path(body, "offload", socket_path, &fine);
    set(body, "timeout_ns", node_shape_u64(timeout_ns), &fine);
    int rc = finish_body(body, fine);
    return rc == 0 ? ask_put(client, name, body, progress, progress_context, ret, ret_warning)
                   : rc;
}

int
dor_client_remove(struct dor_client *client, const char *name)
{
    AUTO_JSON json_t *json = NULL;
    char target[TARGET_BYTES];
    int rc = dor_name_check(name);
    make_target(target, "/snapshots/", name, "");
    return rc == 0 ? ask(client, "DELETE", target, NULL, NULL, NULL, &json) : rc;
}

int
dor_client_gc(struct dor_client *client, const struct dor_gc *gc, struct dor_gc_result *ret)
{
    AUTO_JSON json_t *json = NULL;
    json_t *body = json_object();
    bool fine = true;
    set_flag(body, "squeeze", gc->squeeze, &fine);
    set_flag(body, "cluster", gc->cluster, &fine);
    if (gc->squeeze)
        set(body, "squeeze_age_ns", node_shape_u64(gc->squeeze_age_ns), &fine);
    set(body, "work_bytes_max", node_shape_u64(gc->work_bytes_max), &fine);
    set_options(client, body, &fine);
    int rc = finish_body(body, fine);
    if (rc == 0)
        rc = ask(client, "POST", "/gc", body, gc->progress, gc->progress_context, &json);
    return rc == 0 ? node_read_gc(json, ret) : rc;
}

static void
report_findings(const struct dor_check *check, const json_t *findings)
{
    size_t count = check->report == NULL ? 0 : json_array_size(findings);
    for (size_t i = 0; i < count; i++) {
        const json_t *row = json_array_get(findings, i);
        const char *file = json_string_value(json_object_get(row, "file"));
        const char *detail = json_string_value(json_object_get(row, "detail"));
        const struct dor_finding finding = {
            .file = file == NULL ? "" : file,
            .detail = detail == NULL ? "" : detail,
            .snapshot = json_string_value(json_object_get(row, "snapshot")),
        };
        check->report(check->report_context, &finding);
    }
}

int
dor_client_check(
    struct dor_client *client, const struct dor_check *check, struct dor_check_result *ret)
{
    AUTO_JSON json_t *json = NULL;
    int rc =
        ask(client, "POST", check->repair ? "/repair" : "/check", NULL, check->progress,
            check->progress_context, &json);
    if (rc == 0)
        rc = node_read_check(json, ret);
    if (rc == 0)
        report_findings(check, json_object_get(json, "findings"));
    return rc;
}

int
dor_client_copy(
    struct dor_client *client, const char *directory, const char *name, const char *new_name,
    struct dor_put_result *ret)
{
    AUTO_JSON json_t *json = NULL;
    json_t *body = json_object();
    bool fine = true;
    set_path(body, "store", directory, &fine);
    set_text(body, "name", name, &fine);
    set_text(body, "as", new_name, &fine);
    set_options(client, body, &fine);
    int rc = finish_body(body, fine);
    if (rc == 0)
        rc = ask(client, "POST", "/copy", body, NULL, NULL, &json);
    return rc == 0 ? node_read_copy(json, ret) : rc;
}

int
dor_client_root_add(
    struct dor_client *client, const struct dor_root_add *add, struct dor_root_info *ret)
{
    AUTO_JSON json_t *json = NULL;
    json_t *body = json_object();
    bool fine = true;
    set_path(body, "path", add->path, &fine);
    set_text(body, "name", add->name, &fine);
    set_text(body, "domain", add->domain, &fine);
    set_options(client, body, &fine);
    int rc = finish_body(body, fine);
    if (rc == 0)
        rc = ask(client, "POST", "/roots", body, add->progress, add->progress_context, &json);
    return rc == 0 ? node_read_root(json, ret) : rc;
}

int
dor_client_root_remove(struct dor_client *client, const char *name, bool absorb)
{
    AUTO_JSON json_t *json = NULL;
    char target[TARGET_BYTES];
    if (strlen(name) > DOR_PATH_BYTES_MAX)
        return dor_fail(DOR_E_USAGE, "the name of the root image is too long");
    /* What looks like a path is one. */
    AUTO_JSON json_t *path = strchr(name, '/') == NULL ? json_string(name) : path_json(name);
    if (path == NULL)
        return finish_body(NULL, false);
    make_target(target, "/roots/", json_string_value(path), absorb ? "?absorb=true" : "");
    return ask(client, "DELETE", target, NULL, NULL, NULL, &json);
}

/* ------------------------------------------------------------------ wakes */

static json_t *
wake_body(const char *name, const struct dor_wake_uffd *how, bool *fine)
{
    char mode[8];
    char core[16];
    json_t *body = json_object();
    snprintf(mode, sizeof mode, "%o", how->socket_mode & 0777u);
    snprintf(core, sizeof core, "%d", how->core - 1);
    set_text(body, "snapshot", name, fine);
    set_path(body, "uffd_socket", how->socket_path, fine);
    set_text(body, "socket_mode", how->socket_mode == 0 ? NULL : mode, fine);
    set(body, "window_bytes", json_integer((json_int_t)how->window_bytes), fine);
    set(body, "clients_max", json_integer(how->clients_max), fine);
    if (how->core != DOR_WAKE_CORE_FOLLOW)
        set_text(body, "core", how->core == DOR_WAKE_CORE_ANY ? "any" : core, fine);
    set_flag(body, "no_working_set", how->no_working_set, fine);
    set_flag(body, "fill", how->fill, fine);
    set_flag(body, "hold", how->hold, fine);
    return body;
}

/* How many sandboxes are there now: *RET_CONNECTED. */
static int
ask_wake(
    struct dor_client *client, const char *method, const char *target,
    struct dor_wake_uffd_stat *ret, uint64_t *ret_connected)
{
    AUTO_JSON json_t *json = NULL;
    int rc = strcmp(method, "GET") == 0 ? ask_once(client, method, target, &json)
                                        : ask(client, method, target, NULL, NULL, NULL, &json);
    return rc == 0 ? node_read_wake(json, ret, ret_connected) : rc;
}

/* Until it is asked to end, or has no sandbox any more if that is what is waited for. */
static int
follow_wake(
    struct dor_client *client, const char *target, const struct dor_wake_uffd *how,
    struct dor_wake_uffd_stat *stat)
{
    uint64_t connected = 0;
    int rc = 0;
    while (rc == 0 && (how->stop == NULL || how->stop(how->stop_context) == 0) &&
           !(how->once && connected == 0 && stat->clients > 0)) {
        poll(NULL, 0, PROGRESS_MS);
        rc = ask_wake(client, "GET", target, stat, &connected);
    }
    if (rc == 0)
        rc = ask_wake(client, "DELETE", target, stat, &connected);
    return rc;
}

int
dor_client_wake_uffd(
    struct dor_client *client, const char *name, const struct dor_wake_uffd *how,
    struct dor_wake_uffd_stat *ret)
{
    AUTO_JSON json_t *json = NULL;
    char target[TARGET_BYTES];
    uint64_t random = 0;
    bool fine = true;
    struct dor_wake_uffd_stat stat = {0};
    json_t *body = wake_body(name, how, &fine);
    int rc = finish_body(body, fine);
    if (rc != 0)
        return rc;
    rc = base_random_seed_os((uint8_t *)&random, sizeof random);
    snprintf(target, sizeof target, "/wakes/client-%016" PRIx64, random);
    if (rc != 0)
        json_decref(body);
    else
        rc = ask(client, "PUT", target, body, NULL, NULL, &json);
    if (rc != 0)
        return rc;
    if (how->ready != NULL)
        how->ready(how->ready_context);
    rc = follow_wake(client, target, how, &stat);
    if (ret != NULL)
        *ret = stat;
    return rc;
}

/* A dor_progress_fn that only asks whether to go on. */
static int
look_at_stop(void *context, uint64_t done_bytes, uint64_t total_bytes)
{
    const struct dor_offload_options *options = context;
    (void)done_bytes;
    (void)total_bytes;
    return options->stop == NULL ? 0 : options->stop(options->stop_context);
}

int
dor_client_wake_offload(
    struct dor_client *client, const char *name, const char *socket_path,
    const struct dor_offload_wake *how, struct dor_offload_wake_stat *ret)
{
    AUTO_JSON json_t *json = NULL;
    char target[TARGET_BYTES];
    json_t *body = json_object();
    struct dor_offload_options options = how->options;
    bool fine = true;
    int rc = dor_name_check(name);
    set_path(body, "socket", socket_path, &fine);
    set_flag(body, "postcopy", how->postcopy, &fine);
    set_flag(body, "resume", how->resume, &fine);
    set_flag(body, "no_fill", how->no_fill, &fine);
    set(body, "timeout_ns", node_shape_u64(how->options.silence_ns), &fine);
    int body_rc = finish_body(body, fine);
    if (body_rc != 0)
        return body_rc;
    if (rc != 0) {
        json_decref(body);
        return rc;
    }
    make_target(target, "/snapshots/", name, "/offload");
    rc = ask(client, "POST", target, body, look_at_stop, &options, &json);
    return rc == 0 ? node_read_offload(json, ret) : rc;
}
