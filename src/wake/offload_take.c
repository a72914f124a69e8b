/* SPDX-License-Identifier: Apache-2.0 */
/*
 * offload_take.c - takes a machine from the monitor: the receiver's side of the protocol.
 *
 *     Start -> MemoryFd, at least one -> Config -> State -> Complete or CompletePaused
 *       |             |                    |         |          |
 *       Ok            Ok                   Ok        Ok         nothing yet: the image is read now,
 *                                                               from the paused machine's memory,
 *                                                               and Ok means that it is on disk
 *
 * Abandon may come instead of each. Anything else is answered with Error, and the monitor goes on
 * with its machine as if it had not been asked.
 */
#include "wake/offload_take.h"

#include "base/err.h"
#include "base/le.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/size.h"

#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#define TEXT_BYTES_MAX (UINT64_C(64) << 20)
enum { SLOTS_MAX = 4096 };

struct dor_offload {
    struct offload_peer peer;
    struct dor_offload_machine machine;
    size_t slot_room;
    bool complete; /* the monitor waits for the last answer */
};

int
offload_take_new(const struct offload_peer *peer, struct dor_offload **ret)
{
    struct dor_offload *offload = base_zalloc(sizeof *offload);
    if (offload == NULL)
        return DOR_E_NO_MEMORY;
    offload->peer = *peer;
    *ret = offload;
    return 0;
}

int
dor_offload_accept(
    const char *socket_path, const struct dor_offload_options *options,
    struct dor_offload **ret)
{
    struct offload_peer nobody = {.fd = -1};
    struct dor_offload *offload = NULL;
    if (options != NULL)
        nobody.options = *options;
    int rc = offload_take_new(&nobody, &offload);
    if (rc != 0)
        return rc;
    rc = offload_accept(socket_path, &offload->peer);
    if (rc != 0) {
        dor_offload_close(offload);
        return rc;
    }
    *ret = offload;
    return 0;
}

void
dor_offload_close(struct dor_offload *offload)
{
    if (offload == NULL)
        return;
    offload_peer_close(&offload->peer);
    dor_offload_machine_fini(&offload->machine);
    base_free(offload);
}

/* ------------------------------------------------------------------ messages */

static int
unexpected(const struct offload_request *request)
{
    return dor_fail(
        DOR_E_CORRUPT, "offload: %s with %" PRIu64 " bytes may not come here",
        offload_command_name((unsigned)request->command), request->length);
}

static int
take_start(const struct offload_request *request)
{
    if (request->command != OFFLOAD_START || request->length != 0)
        return unexpected(request);
    if (request->version != OFFLOAD_VERSION)
        return dor_fail(
            DOR_E_UNSUPPORTED, "offload: the monitor speaks version %u of the protocol, not %d",
            request->version, OFFLOAD_VERSION);
    return 0;
}

static int
make_room(struct dor_offload *offload)
{
    struct dor_offload_machine *machine = &offload->machine;
    if (machine->slot_count == SLOTS_MAX)
        return dor_fail(DOR_E_CORRUPT, "offload: more than %d slots of memory", SLOTS_MAX);
    if (machine->slot_count < offload->slot_room)
        return 0;
    size_t room = offload->slot_room == 0 ? 8 : offload->slot_room * 2;
    struct dor_offload_slot *slots = base_realloc_array(machine->slots, room, sizeof *slots);
    if (slots == NULL)
        return DOR_E_NO_MEMORY;
    machine->slots = slots;
    offload->slot_room = room;
    return 0;
}

static int
check_slot(const struct dor_offload_machine *machine, uint32_t number, int fd)
{
    struct stat status;
    if (fd < 0)
        return dor_fail(
            DOR_E_CORRUPT, "offload: slot %" PRIu32 " came without a descriptor", number);
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode))
        return dor_fail(
            DOR_E_CORRUPT, "offload: the descriptor of slot %" PRIu32 " is no memory file",
            number);
    for (size_t i = 0; i < machine->slot_count; i++)
        if (machine->slots[i].slot == number)
            return dor_fail(DOR_E_CORRUPT, "offload: slot %" PRIu32 " came twice", number);
    return 0;
}

static int
take_memory(struct dor_offload *offload, const struct offload_request *request)
{
    AUTO_CLOSE int fd = -1;
    uint8_t bytes[sizeof(uint32_t)];
    if (request->length != sizeof bytes || offload->machine.config != NULL)
        return unexpected(request);
    int rc = make_room(offload);
    if (rc == 0)
        rc = offload_receive(&offload->peer, bytes, sizeof bytes, &fd);
    if (rc == 0)
        rc = check_slot(&offload->machine, base_le32_get(bytes), fd);
    if (rc != 0)
        return rc;
    offload->machine.slots[offload->machine.slot_count++] =
        (struct dor_offload_slot){.slot = base_le32_get(bytes), .fd = base_take_fd(&fd)};
    return 0;
}

/* Text that comes once. */
static int
take_text(
    struct dor_offload *offload, const struct offload_request *request, char **text,
    size_t *size_bytes)
{
    if (*text != NULL || request->length == 0 || request->length > TEXT_BYTES_MAX)
        return unexpected(request);
    AUTO_FREE char *data = base_alloc((size_t)request->length);
    if (data == NULL)
        return DOR_E_NO_MEMORY;
    int rc = offload_receive(&offload->peer, data, (size_t)request->length, NULL);
    if (rc != 0)
        return rc;
    *text = TAKE(data);
    *size_bytes = (size_t)request->length;
    return 0;
}

static int
take_abandon(struct dor_offload *offload)
{
    /* It is gone either way. */
    if (offload_send_answer(&offload->peer, true) != 0)
        dor_log(INFO, "wake", "offload_abandon_unanswered", "why=%s", dor_err_message());
    return dor_fail(DOR_E_IO, "offload: the monitor gave up; its log says why");
}

static int
take_one(struct dor_offload *offload, const struct offload_request *request)
{
    struct dor_offload_machine *machine = &offload->machine;
    switch (request->command) {
    case OFFLOAD_MEMORY_FD:
        return take_memory(offload, request);
    case OFFLOAD_CONFIG:
        if (machine->slot_count == 0)
            return unexpected(request);
        return take_text(offload, request, &machine->config, &machine->config_bytes);
    case OFFLOAD_STATE:
        if (machine->config == NULL)
            return unexpected(request);
        return take_text(offload, request, &machine->state, &machine->state_bytes);
    case OFFLOAD_COMPLETE:
    case OFFLOAD_COMPLETE_PAUSED:
        if (machine->state == NULL || request->length != 0)
            return unexpected(request);
        offload->complete = true;
        return 0;
    case OFFLOAD_MEMORY:
        return dor_fail(
            DOR_E_UNSUPPORTED, "offload: the monitor sends its memory as bytes; call "
                               "send-migration with local=on, "
                               "and give the machine shared memory");
    case OFFLOAD_ABANDON:
        return take_abandon(offload);
    case OFFLOAD_START:
    case OFFLOAD_PAGE_FAULT:
    case OFFLOAD_COMMANDS:
        break;
    }
    return unexpected(request);
}

/* ------------------------------------------------------------------ the whole */

static int
take_all(struct dor_offload *offload)
{
    struct offload_request request;
    int rc = offload_receive_request(&offload->peer, false, &request, NULL);
    if (rc == 0)
        rc = take_start(&request);
    while (rc == 0 && !offload->complete) {
        rc = offload_send_answer(&offload->peer, true);
        if (rc == 0)
            rc = offload_receive_request(&offload->peer, false, &request, NULL);
        if (rc == 0)
            rc = take_one(offload, &request);
    }
    return rc;
}

/* Tell the monitor as well, if it still listens; the words of the first error are kept. */
static void
answer_error(struct dor_offload *offload)
{
    struct base_err first = *base_err_record();
    if (offload_send_answer(&offload->peer, false) != 0)
        dor_log(INFO, "wake", "offload_error_unanswered", "why=%s", dor_err_message());
    else
        offload_drain(&offload->peer);
    base_err_load(&first);
}

int
dor_offload_receive(struct dor_offload *offload, struct dor_image **ret)
{
    int rc = take_all(offload);
    if (rc == 0)
        rc = dor_offload_image_open(&offload->machine, ret);
    if (rc != 0) {
        answer_error(offload);
        offload->complete = false;
    }
    return rc;
}

int
dor_offload_answer(struct dor_offload *offload, bool stored)
{
    if (!offload->complete)
        return dor_fail(DOR_E_USAGE, "offload: the monitor does not wait for an answer");
    offload->complete = false;
    return offload_send_answer(&offload->peer, stored);
}
