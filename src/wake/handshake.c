/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handshake.c - the one message of Firecracker's protocol.
 *
 *     [{"base_host_virt_addr": u64, "size": bytes, "offset": bytes in the image,
 *       "page_size": bytes, "page_size_kib": bytes too, despite its name, and deprecated}, ...]
 *
 * One object for each region of guest memory, no length before and no end after it. Unknown fields
 * are passed over; without a page size it is 4 KiB, as before Firecracker 1.7. The userfaultfd
 * comes by SCM_RIGHTS with the text, and perhaps the memory file behind the regions after it.
 */
#include "wake/handshake.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/err.h"
#include "base/size.h"

#define RECEIVE_BYTES ((size_t)16 << 10)
/* Who sends a byte at a time is not served. */
#define MESSAGES_MAX 256
/* Room for more descriptors than are wanted, so that too many can be told from two. */
#define DESCRIPTORS_MAX 16
#define ADDRESS_END     (UINT64_C(1) << 56)
#define TMPFS_ID        0x01021994

/* ------------------------------------------------------------------ text */

/* Field NAME of OBJECT: *FOUND, and its value where it is. */
static int
read_number(const json_t *object, const char *name, size_t index, bool *found, uint64_t *ret)
{
    const json_t *value = json_object_get(object, name);
    *found = value != NULL;
    if (value == NULL)
        return 0;
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return dor_fail(
            DOR_E_CORRUPT, "handshake: mapping %zu: %s is no whole number", index, name);
    *ret = (uint64_t)json_integer_value(value);
    return 0;
}

static int
read_needed(const json_t *object, const char *name, size_t index, uint64_t *ret)
{
    bool found = false;
    int err = read_number(object, name, index, &found, ret);
    if (err == 0 && !found)
        err = dor_fail(DOR_E_CORRUPT, "handshake: mapping %zu has no %s", index, name);
    return err;
}

static int
read_page_bytes(const json_t *object, size_t index, uint64_t *ret)
{
    bool has_new = false;
    bool has_old = false;
    uint64_t page_bytes = DOR_PAGE_BYTES;
    uint64_t old_bytes = 0;
    int err = read_number(object, "page_size", index, &has_new, &page_bytes);
    if (err == 0)
        err = read_number(object, "page_size_kib", index, &has_old, &old_bytes);
    if (err != 0)
        return err;
    if (has_old && !has_new)
        page_bytes = old_bytes;
    if (has_old && page_bytes != old_bytes)
        return dor_fail(
            DOR_E_CORRUPT, "handshake: mapping %zu: page_size and page_size_kib differ", index);
    if (page_bytes != DOR_PAGE_BYTES && page_bytes != WAKE_HUGE_BYTES)
        return dor_fail(
            DOR_E_UNSUPPORTED,
            "handshake: mapping %zu: pages of %" PRIu64 " bytes; 4096 and 2097152 are possible",
            index, page_bytes);
    *ret = page_bytes;
    return 0;
}

static int
check_mapping(const struct wake_mapping *mapping, size_t index, uint64_t image_bytes)
{
    uint64_t end = 0;
    if (mapping->size_bytes == 0)
        return dor_fail(DOR_E_CORRUPT, "handshake: mapping %zu is empty", index);
    if (mapping->address % mapping->page_bytes != 0 ||
        mapping->size_bytes % mapping->page_bytes != 0 || mapping->offset % DOR_PAGE_BYTES != 0)
        return dor_fail(
            DOR_E_CORRUPT, "handshake: mapping %zu is not aligned to its pages", index);
    if (!base_add_u64(mapping->address, mapping->size_bytes, &end) || end > ADDRESS_END)
        return dor_fail(
            DOR_E_CORRUPT, "handshake: mapping %zu goes past the end of memory", index);
    if (!base_add_u64(mapping->offset, mapping->size_bytes, &end) || end > image_bytes)
        return dor_fail(
            DOR_E_CORRUPT,
            "handshake: mapping %zu goes past the image, which has %" PRIu64 " bytes", index,
            image_bytes);
    return 0;
}

static bool
overlap(uint64_t a, uint64_t a_bytes, uint64_t b, uint64_t b_bytes)
{
    return a < b + b_bytes && b < a + a_bytes;
}

/* Put MAPPING, the INDEXth that was said, in its place. */
static int
add_mapping(struct wake_mappings *mappings, const struct wake_mapping *mapping, size_t index)
{
    size_t at = mappings->count;
    for (size_t i = 0; i < mappings->count; i++) {
        const struct wake_mapping *other = &mappings->items[i];
        if (overlap(mapping->address, mapping->size_bytes, other->address, other->size_bytes) ||
            overlap(mapping->offset, mapping->size_bytes, other->offset, other->size_bytes))
            return dor_fail(
                DOR_E_CORRUPT, "handshake: mapping %zu overlaps one before it", index);
    }
    while (at > 0 && mappings->items[at - 1].address > mapping->address) {
        mappings->items[at] = mappings->items[at - 1];
        at--;
    }
    mappings->items[at] = *mapping;
    mappings->count++;
    return 0;
}

static int
read_mapping(
    const json_t *object, size_t index, uint64_t image_bytes, struct wake_mappings *mappings)
{
    struct wake_mapping mapping = {0};
    if (!json_is_object(object))
        return dor_fail(DOR_E_CORRUPT, "handshake: mapping %zu is no object", index);
    int err = read_needed(object, "base_host_virt_addr", index, &mapping.address);
    if (err == 0)
        err = read_needed(object, "size", index, &mapping.size_bytes);
    if (err == 0)
        err = read_needed(object, "offset", index, &mapping.offset);
    if (err == 0)
        err = read_page_bytes(object, index, &mapping.page_bytes);
    if (err == 0)
        err = check_mapping(&mapping, index, image_bytes);
    return err == 0 ? add_mapping(mappings, &mapping, index) : err;
}

static int
read_mappings(const json_t *array, uint64_t image_bytes, struct wake_mappings *ret)
{
    size_t count = json_array_size(array);
    if (!json_is_array(array) || count == 0)
        return dor_fail(DOR_E_CORRUPT, "handshake: no array of mappings");
    if (count > WAKE_MAPPINGS_MAX)
        return dor_fail(
            DOR_E_UNSUPPORTED, "handshake: %zu mappings; %d are possible", count,
            WAKE_MAPPINGS_MAX);
    ret->count = 0;
    for (size_t i = 0; i < count; i++) {
        int err = read_mapping(json_array_get(array, i), i, image_bytes, ret);
        if (err != 0)
            return err;
    }
    return 0;
}

int
wake_handshake_parse(
    const char *text, size_t size_bytes, uint64_t image_bytes, struct wake_mappings *ret)
{
    json_error_t error;
    /* The parser takes it for the end of the text. */
    if (memchr(text, '\0', size_bytes) != NULL)
        return dor_fail(DOR_E_CORRUPT, "handshake: no JSON: a zero byte");
    json_t *array = json_loadb(text, size_bytes, JSON_REJECT_DUPLICATES, &error);
    if (array == NULL && json_error_code(&error) == json_error_premature_end_of_input)
        return DOR_E_BUSY;
    if (array == NULL && json_error_code(&error) == json_error_out_of_memory)
        return dor_fail(DOR_E_NO_MEMORY, "handshake: no memory");
    if (array == NULL)
        return dor_fail(DOR_E_CORRUPT, "handshake: no JSON: %s", error.text);
    int err = read_mappings(array, image_bytes, ret);
    json_decref(array);
    return err;
}

/* ------------------------------------------------------------------ descriptors */

/* The features that the userfaultfd FD was opened with: "API: version:features:possible". */
static int
read_features(int fd, uint64_t *ret)
{
    char path[64];
    char line[128];
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return dor_fail_errno(errno, "handshake: %s", path);
    *ret = 0;
    while (fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, "API:", 4) == 0) {
            char *end = NULL;
            (void)strtoull(line + 4, &end, 16);
            *ret = *end == ':' ? strtoull(end + 1, NULL, 16) : 0;
        }
    fclose(file);
    return 0;
}

static int
check_uffd(int fd)
{
    char path[64];
    char words[64] = "";
    uint64_t features = 0;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (readlink(path, words, sizeof words - 1) < 0)
        return dor_fail_errno(errno, "handshake: %s", path);
    if (strcmp(words, "anon_inode:[userfaultfd]") != 0)
        return dor_fail(DOR_E_CORRUPT, "handshake: the descriptor is no userfaultfd");
    int err = read_features(fd, &features);
    if (err != 0)
        return err;
    /* A child's memory would come with a descriptor of its own, moved memory with new addresses. */
    if ((features & (UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP)) != 0)
        return dor_fail(
            DOR_E_UNSUPPORTED,
            "handshake: the userfaultfd tells of forks or moved memory, which is not followed");
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0)
        return dor_fail_errno(errno, "handshake: the userfaultfd");
    return 0;
}

static int
check_memory(int fd, const struct wake_mappings *mappings)
{
    struct statfs system;
    struct stat info;
    if (fd < 0)
        return 0;
    if (fstat(fd, &info) != 0 || fstatfs(fd, &system) != 0)
        return dor_fail_errno(errno, "handshake: the memory file");
    if (!S_ISREG(info.st_mode) || (fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDWR)
        return dor_fail(DOR_E_CORRUPT, "handshake: the memory file is none, or not writable");
    for (size_t i = 0; i < mappings->count; i++) {
        const struct wake_mapping *mapping = &mappings->items[i];
        if (mapping->page_bytes == DOR_PAGE_BYTES && system.f_type != TMPFS_ID)
            return dor_fail(DOR_E_UNSUPPORTED, "handshake: the memory file is not in memory");
        if (mapping->offset + mapping->size_bytes > (uint64_t)info.st_size)
            return dor_fail(DOR_E_CORRUPT, "handshake: the memory file is too short");
    }
    return 0;
}

static void
close_all(const int *fds, size_t count)
{
    for (size_t i = 0; i < count; i++)
        close(fds[i]);
}

/* Keep the descriptors that came with a message: at most two come in all. */
static int
keep_descriptors(struct wake_handshake *handshake, const int *fds, size_t count)
{
    size_t kept = 0;
    if (kept < count && handshake->uffd < 0)
        handshake->uffd = fds[kept++];
    if (kept < count && handshake->memory < 0)
        handshake->memory = fds[kept++];
    if (kept == count)
        return 0;
    close_all(fds + kept, count - kept);
    return dor_fail(DOR_E_CORRUPT, "handshake: more than two descriptors");
}

/* ------------------------------------------------------------------ receiving */

void
wake_handshake_init(struct wake_handshake *handshake)
{
    *handshake = (struct wake_handshake){.uffd = -1, .memory = -1};
}

void
wake_handshake_fini(struct wake_handshake *handshake)
{
    base_buf_free(&handshake->text);
    base_auto_close(&handshake->uffd);
    base_auto_close(&handshake->memory);
    wake_handshake_init(handshake);
}

/* One message: *RET_BYTES, 0 at the end. */
static int
receive_message(struct wake_handshake *handshake, int socket, size_t *ret_bytes)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(DESCRIPTORS_MAX * sizeof(int))];
    } control;
    struct base_buf *text = &handshake->text;
    int err = base_buf_reserve(text, RECEIVE_BYTES);
    if (err != 0)
        return err;
    struct iovec bytes = {text->data + text->size_bytes, RECEIVE_BYTES};
    struct msghdr message = {
        .msg_iov = &bytes,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof control.bytes};
    ssize_t got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return DOR_E_BUSY;
    if (got < 0)
        return dor_fail_errno(errno, "handshake");
    text->size_bytes += (size_t)got;
    for (struct cmsghdr *at = CMSG_FIRSTHDR(&message); at != NULL;
         at = CMSG_NXTHDR(&message, at)) {
        int fds[DESCRIPTORS_MAX];
        if (at->cmsg_level != SOL_SOCKET || at->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (at->cmsg_len - CMSG_LEN(0)) / sizeof fds[0];
        memcpy(fds, CMSG_DATA(at), count * sizeof fds[0]);
        int kept = keep_descriptors(handshake, fds, count);
        err = err == 0 ? kept : err;
    }
    if (err == 0 && (message.msg_flags & MSG_CTRUNC) != 0)
        err = dor_fail(DOR_E_CORRUPT, "handshake: more descriptors than can be received");
    *ret_bytes = (size_t)got;
    return err;
}

/* A message with no byte is the end of the connection, or nothing at all. */
static int
hung_up(const struct wake_handshake *handshake)
{
    return dor_fail(
        DOR_E_IO, "handshake: the client hung up after %zu bytes", handshake->text.size_bytes);
}

static int
finish(const struct wake_handshake *handshake, uint64_t image_bytes, struct wake_mappings *ret)
{
    const struct base_buf *text = &handshake->text;
    int err =
        wake_handshake_parse((const char *)text->data, text->size_bytes, image_bytes, ret);
    if (err == DOR_E_BUSY && (text->size_bytes >= WAKE_HANDSHAKE_BYTES_MAX ||
                              handshake->message_count >= MESSAGES_MAX))
        return dor_fail(DOR_E_CORRUPT, "handshake: too long, or in too many pieces");
    if (err == 0 && handshake->uffd < 0)
        err = dor_fail(DOR_E_CORRUPT, "handshake: no descriptor came with the mappings");
    if (err == 0)
        err = check_uffd(handshake->uffd);
    return err == 0 ? check_memory(handshake->memory, ret) : err;
}

int
wake_handshake_receive(
    struct wake_handshake *handshake, int socket, uint64_t image_bytes,
    struct wake_mappings *ret)
{
    int err = 0;
    while (err == 0) {
        size_t got = 0;
        err = receive_message(handshake, socket, &got);
        if (err != 0)
            break;
        if (got == 0)
            return hung_up(handshake);
        handshake->message_count++;
        err = finish(handshake, image_bytes, ret);
        if (err == 0)
            return 0;
        if (err == DOR_E_BUSY)
            err = 0;
    }
    return err;
}
