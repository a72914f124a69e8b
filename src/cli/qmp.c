/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmp.c - lines of JSON both ways. QEMU tells events whenever it likes; they are skipped.
 */
#include "cli/qmp.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "cli/json.h"
#include "cli/stop.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S UINT64_C(1000000000)

enum {
    LINE_BYTES_MAX = 1 << 20,
    STEP_BYTES = 4096,
    ANSWER_S = 60,
    LOAD_S = 600, /* a device state may be on slow storage */
    POLL_MS = 200,
    LOAD_STEP_NS = 2000000
};

void
cli_qmp_fini(struct cli_qmp *qmp)
{
    base_free(qmp->bytes);
    qmp->bytes = NULL;
}

/* ------------------------------------------------------------------ lines */

static int
make_room(struct cli_qmp *qmp)
{
    if (qmp->room - qmp->byte_count >= STEP_BYTES)
        return 0;
    if (qmp->room >= LINE_BYTES_MAX)
        return dor_fail(DOR_E_IO, "QEMU sends a line of over %d bytes", LINE_BYTES_MAX);
    char *grown = base_realloc_array(qmp->bytes, qmp->room + STEP_BYTES, 1);
    if (grown == NULL)
        return DOR_E_NO_MEMORY;
    qmp->bytes = grown;
    qmp->room += STEP_BYTES;
    return 0;
}

static int
receive(struct cli_qmp *qmp, uint64_t deadline_ns)
{
    struct pollfd readable = {.fd = qmp->fd, .events = POLLIN};
    int rc = make_room(qmp);
    while (rc == 0 && poll(&readable, 1, POLL_MS) <= 0) {
        rc = cli_stop_check();
        if (rc == 0 && base_clock_monotonic_ns() > deadline_ns)
            rc = dor_fail(DOR_E_TIMEOUT, "QEMU gives no answer");
    }
    if (rc != 0)
        return rc;
    ssize_t bytes = read(qmp->fd, qmp->bytes + qmp->byte_count, qmp->room - qmp->byte_count);
    if (bytes < 0 && errno == EINTR)
        return 0;
    if (bytes <= 0)
        return dor_fail(DOR_E_IO, "QEMU ended; what it printed above says why");
    qmp->byte_count += (size_t)bytes;
    return 0;
}

/* The next line as an object. */
static int
next_object(struct cli_qmp *qmp, uint64_t deadline_ns, json_t **ret)
{
    char *end;
    while (qmp->byte_count == 0 || (end = memchr(qmp->bytes, '\n', qmp->byte_count)) == NULL) {
        int rc = receive(qmp, deadline_ns);
        if (rc != 0)
            return rc;
    }
    size_t line_bytes = (size_t)(end - qmp->bytes) + 1;
    json_t *object = json_loadb(qmp->bytes, line_bytes, 0, NULL);
    qmp->byte_count -= line_bytes;
    memmove(qmp->bytes, qmp->bytes + line_bytes, qmp->byte_count);
    if (!json_is_object(object)) {
        json_decref(object);
        return dor_fail(DOR_E_IO, "QEMU sends what is no QMP");
    }
    *ret = object;
    return 0;
}

static int
send_line(const struct cli_qmp *qmp, const char *line, size_t line_bytes, int pass_fd)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {.bytes = {0}};
    struct iovec piece = {(void *)(uintptr_t)line, line_bytes};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    if (pass_fd >= 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof control.bytes;
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(&control.header), &pass_fd, sizeof pass_fd);
    }
    /* Commands are short: a socket takes them whole. */
    if (sendmsg(qmp->fd, &message, MSG_NOSIGNAL) != (ssize_t)line_bytes)
        return dor_fail(DOR_E_IO, "QEMU ended; what it printed above says why");
    return 0;
}

/* ------------------------------------------------------------------ commands */

static int
take_answer(const char *command, const json_t *answer, json_t **ret)
{
    const json_t *error = json_object_get(answer, "error");
    if (error != NULL) {
        const char *words = json_string_value(json_object_get(error, "desc"));
        return dor_fail(
            DOR_E_IO, "QEMU refuses %s: %s", command,
            words == NULL ? "it says not why" : words);
    }
    if (ret != NULL)
        *ret = json_incref(json_object_get(answer, "return"));
    return 0;
}

static int
await_answer(struct cli_qmp *qmp, const char *command, json_t **ret)
{
    uint64_t deadline_ns = base_clock_monotonic_ns() + ANSWER_S * NS_PER_S;
    for (;;) {
        AUTO_JSON json_t *object = NULL;
        int rc = next_object(qmp, deadline_ns, &object);
        if (rc != 0)
            return rc;
        if (json_object_get(object, "return") != NULL ||
            json_object_get(object, "error") != NULL)
            return take_answer(command, object, ret);
    }
}

int
cli_qmp_do(
    struct cli_qmp *qmp, const char *command, json_t *arguments, int pass_fd, json_t **ret)
{
    AUTO_JSON json_t *object =
        arguments == NULL ? json_pack("{s:s}", "execute", command)
                          : json_pack("{s:s, s:o}", "execute", command, "arguments", arguments);
    char *line = object == NULL ? NULL : json_dumps(object, JSON_COMPACT);
    if (line == NULL)
        return dor_fail(DOR_E_NO_MEMORY, "no memory for a command to QEMU");
    int rc = send_line(qmp, line, strlen(line), pass_fd);
    base_free(line);
    return rc == 0 ? await_answer(qmp, command, ret) : rc;
}

int
cli_qmp_begin(struct cli_qmp *qmp, int fd)
{
    AUTO_JSON json_t *greeting = NULL;
    *qmp = (struct cli_qmp){.fd = fd};
    int rc = next_object(qmp, base_clock_monotonic_ns() + ANSWER_S * NS_PER_S, &greeting);
    return rc == 0 ? cli_qmp_do(qmp, "qmp_capabilities", NULL, -1, NULL) : rc;
}

/* Whether the incoming device state is all there; DOR_E_IO when QEMU cannot take it. */
static int
is_loaded(struct cli_qmp *qmp, bool *ret)
{
    AUTO_JSON json_t *state = NULL;
    int rc = cli_qmp_do(qmp, "query-migrate", NULL, -1, &state);
    if (rc != 0)
        return rc;
    const char *status = json_string_value(json_object_get(state, "status"));
    const char *words = json_string_value(json_object_get(state, "error-desc"));
    if (status != NULL && (strcmp(status, "failed") == 0 || strcmp(status, "cancelled") == 0))
        return dor_fail(
            DOR_E_IO,
            "QEMU cannot take the device state%s%s: it needs the machine, the devices "
            "and the QEMU that it was saved with",
            words == NULL ? "" : ": ", words == NULL ? "" : words);
    *ret = status != NULL && strcmp(status, "completed") == 0;
    return 0;
}

static int
await_load(struct cli_qmp *qmp)
{
    uint64_t deadline_ns = base_clock_monotonic_ns() + LOAD_S * NS_PER_S;
    const struct timespec step = {.tv_nsec = LOAD_STEP_NS};
    bool loaded = false;
    int rc = is_loaded(qmp, &loaded);
    while (rc == 0 && !loaded) {
        nanosleep(&step, NULL);
        rc = cli_stop_check();
        if (rc == 0 && base_clock_monotonic_ns() > deadline_ns)
            rc = dor_fail(DOR_E_TIMEOUT, "QEMU does not come to an end with the device state");
        if (rc == 0)
            rc = is_loaded(qmp, &loaded);
    }
    return rc;
}

int
cli_qmp_load(struct cli_qmp *qmp, int state_fd)
{
    json_t *capabilities = json_pack(
        "{s:[{s:s, s:b}]}", "capabilities", "capability", "x-ignore-shared", "state", 1);
    int rc = cli_qmp_do(qmp, "migrate-set-capabilities", capabilities, -1, NULL);
    if (rc == 0)
        rc = cli_qmp_do(qmp, "getfd", json_pack("{s:s}", "fdname", "state"), state_fd, NULL);
    if (rc == 0)
        rc = cli_qmp_do(
            qmp, "migrate-incoming", json_pack("{s:s}", "uri", "fd:state"), -1, NULL);
    return rc == 0 ? await_load(qmp) : rc;
}

bool
cli_qmp_drain(struct cli_qmp *qmp)
{
    char bytes[STEP_BYTES];
    ssize_t count = recv(qmp->fd, bytes, sizeof bytes, MSG_DONTWAIT);
    return count > 0 || (count < 0 && (errno == EAGAIN || errno == EINTR));
}
