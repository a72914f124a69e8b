/* SPDX-License-Identifier: Apache-2.0 */
/*
 * offload.c - a machine that Cloud Hypervisor handed over as an image, and back.
 *
 *     slots --mapped beside each other, in the order of the state's table--> memory-ranges
 *     Config -> config.json (its vm_config), migration_config.json (all of it); State -> state.json
 *
 * Then the reader of Cloud Hypervisor's folders (format_cloud_hypervisor.c) makes row and frame, as
 * if the folder had been opened. Holes of the memory files stay holes: they are looked for once,
 * when the image is opened, and not touched, for to read a hole of a memory file would fill it.
 */
#include <dormouse/offload.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/size.h"
#include "guest/cloud.h"
#include "guest/image_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const char config_name[] = "config.json";
static const char memory_name[] = "memory-ranges";
static const char migration_name[] = "migration_config.json";
static const char state_name[] = "state.json";

/* Large pages of hugetlbfs must be mapped where they are aligned. */
#define MAP_ALIGN_BYTES  (UINT64_C(2) << 20)
#define MEMORY_BYTES_MAX (UINT64_C(1) << 44)
enum { FILE_MODE = 0600 };

struct making {
    const struct dor_offload_machine *machine;
    struct dor_image *image;
    struct dor_offload_slot *slots; /* as Config has them, with the machine's descriptors */
    size_t slot_count;
    struct dor_image_range *ranges; /* the state's table: address and page_count */
    size_t range_count;
    uint64_t memory_bytes;
};

/* ------------------------------------------------------------------ files */

static int
add_file(struct dor_image *image, const char *name, struct guest_file **ret)
{
    AUTO_FREE char *label = base_alloc(strlen(name) + 1);
    struct guest_file *files =
        base_realloc_array(image->files, image->file_count + 1, sizeof *files);
    if (files != NULL)
        image->files = files;
    if (label == NULL || files == NULL)
        return DOR_E_NO_MEMORY;
    memcpy(label, name, strlen(name) + 1);
    struct guest_file *file = &files[image->file_count++];
    *file = (struct guest_file){.name = label, .fd = -1, .mode = FILE_MODE};
    file->label = TAKE(label);
    *ret = file;
    return 0;
}

/* A file with these bytes: mapped, as all files of images are. */
static int
add_text(struct dor_image *image, const char *name, const char *text, size_t size_bytes)
{
    struct guest_file *file;
    int rc = add_file(image, name, &file);
    if (rc != 0)
        return rc;
    void *map =
        mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED)
        return dor_fail_errno(errno, "image: no memory for %s", name);
    memcpy(map, text, size_bytes);
    file->data = map;
    file->size_bytes = size_bytes;
    return 0;
}

/* ------------------------------------------------------------------ memory */

/* The slot that holds ADDRESS; NULL when none does. */
static const struct dor_offload_slot *
slot_at(const struct making *making, uint64_t address)
{
    for (size_t i = 0; i < making->slot_count; i++) {
        const struct dor_offload_slot *slot = &making->slots[i];
        if (address >= slot->gpa && address - slot->gpa < slot->size_bytes)
            return slot;
    }
    return NULL;
}

/* Give each slot of Config its descriptor; each must have one, and each descriptor a slot. */
static int
match_descriptors(struct making *making)
{
    const struct dor_offload_machine *machine = making->machine;
    for (size_t i = 0; i < making->slot_count; i++) {
        struct dor_offload_slot *slot = &making->slots[i];
        uint64_t file_bytes = 0;
        for (size_t k = 0; k < machine->slot_count; k++)
            if (machine->slots[k].slot == slot->slot)
                slot->fd = machine->slots[k].fd;
        if (slot->fd < 0)
            return dor_fail(
                DOR_E_CORRUPT, "machine: slot %" PRIu32 " of its Config came without memory",
                slot->slot);
        int rc = base_file_size(slot->fd, "machine: memory", &file_bytes);
        if (rc != 0)
            return rc;
        if (slot->offset > file_bytes || slot->size_bytes > file_bytes - slot->offset)
            return dor_fail(
                DOR_E_CORRUPT,
                "machine: slot %" PRIu32 " is %" PRIu64 " bytes at %" PRIu64
                " and its memory has only %" PRIu64,
                slot->slot, slot->size_bytes, slot->offset, file_bytes);
    }
    if (machine->slot_count != making->slot_count)
        return dor_fail(
            DOR_E_CORRUPT, "machine: memory came for %zu slots, its Config has %zu",
            machine->slot_count, making->slot_count);
    return 0;
}

/* All memory must be in the table but what of virtio-mem is not plugged. */
static int
check_covered(const struct making *making)
{
    for (size_t i = 0; i < making->slot_count; i++) {
        const struct dor_offload_slot *slot = &making->slots[i];
        uint64_t covered = 0;
        for (size_t k = 0; k < making->range_count; k++) {
            uint64_t start = base_max_u64(making->ranges[k].address, slot->gpa);
            uint64_t end = base_min_u64(
                making->ranges[k].address + making->ranges[k].page_count * DOR_PAGE_BYTES,
                slot->gpa + slot->size_bytes);
            covered += start < end ? end - start : 0;
        }
        if (covered > slot->size_bytes)
            return dor_fail(
                DOR_E_CORRUPT, "machine: the table of memory_ranges overlaps in slot %" PRIu32,
                slot->slot);
        if (covered < slot->size_bytes && !slot->virtio_mem)
            return dor_fail(
                DOR_E_UNSUPPORTED,
                "machine: slot %" PRIu32
                " is kept in a file of its own by the monitor; snapshot "
                "such a machine with vm.snapshot",
                slot->slot);
    }
    return 0;
}

/* Map SIZE_BYTES of guest memory at ADDRESS to the place AT, which is reserved. */
static int
map_range(const struct making *making, uint64_t address, uint64_t size_bytes, uint8_t *at)
{
    while (size_bytes > 0) {
        const struct dor_offload_slot *slot = slot_at(making, address);
        if (slot == NULL)
            return dor_fail(
                DOR_E_CORRUPT, "machine: no slot has the memory at %#" PRIx64, address);
        uint64_t skip = address - slot->gpa;
        uint64_t step = base_min_u64(size_bytes, slot->size_bytes - skip);
        if (mmap(
                at, step, PROT_READ, MAP_SHARED | MAP_FIXED, slot->fd,
                (off_t)(slot->offset + skip)) == MAP_FAILED)
            return dor_fail_errno(
                errno, "machine: the memory of slot %" PRIu32 " cannot be mapped", slot->slot);
        address += step;
        size_bytes -= step;
        at += step;
    }
    return 0;
}

/* Address space of MEMORY_BYTES, aligned. */
static uint8_t *
reserve(uint64_t memory_bytes)
{
    uint8_t *map = mmap(
        NULL, memory_bytes + MAP_ALIGN_BYTES, PROT_NONE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return NULL;
    size_t before = (size_t)(-(uintptr_t)map % MAP_ALIGN_BYTES);
    if (before > 0)
        munmap(map, before);
    munmap(map + before + memory_bytes, MAP_ALIGN_BYTES - before);
    return map + before;
}

static int
map_memory(struct making *making)
{
    struct guest_file *file;
    int rc = add_file(making->image, memory_name, &file);
    if (rc != 0)
        return rc;
    uint8_t *map = reserve(making->memory_bytes);
    if (map == NULL)
        return dor_fail(
            DOR_E_NO_MEMORY, "machine: no address space for %" PRIu64 " bytes",
            making->memory_bytes);
    file->data = map;
    file->size_bytes = making->memory_bytes;
    for (size_t i = 0; rc == 0 && i < making->range_count; i++) {
        uint64_t size_bytes = making->ranges[i].page_count * DOR_PAGE_BYTES;
        rc = map_range(making, making->ranges[i].address, size_bytes, map);
        map += size_bytes;
    }
    return rc;
}

static int
add_up(struct making *making)
{
    for (size_t i = 0; i < making->range_count; i++)
        if (making->ranges[i].page_count > MEMORY_BYTES_MAX / DOR_PAGE_BYTES ||
            (making->memory_bytes += making->ranges[i].page_count * DOR_PAGE_BYTES) >
                MEMORY_BYTES_MAX)
            return dor_fail(DOR_E_CORRUPT, "machine: more than 16 TiB of memory");
    if (making->memory_bytes == 0)
        return dor_fail(DOR_E_CORRUPT, "machine: has no memory");
    return 0;
}

/* ------------------------------------------------------------------ holes */

static void
set_bits(uint8_t *bitmap, uint64_t from, uint64_t to)
{
    for (uint64_t i = from; i < to; i++)
        bitmap[i / 8] |= (uint8_t)(1u << i % 8);
}

/* Which of the pages from ADDRESS on have data, as bits from FIRST_BIT on. */
static int
find_data(
    const struct making *making, uint64_t address, uint64_t page_count, uint8_t *bitmap,
    uint64_t first_bit)
{
    for (uint64_t page = 0; page < page_count;) {
        const struct dor_offload_slot *slot = slot_at(making, address + page * DOR_PAGE_BYTES);
        dor_assert(slot != NULL);
        uint64_t skip = address + page * DOR_PAGE_BYTES - slot->gpa;
        uint64_t count =
            base_min_u64(page_count - page, (slot->size_bytes - skip) / DOR_PAGE_BYTES);
        uint64_t at = slot->offset + skip;
        uint64_t end = at + count * DOR_PAGE_BYTES;
        while (at < end) {
            uint64_t data = end;
            uint64_t data_end = end;
            int rc = base_file_next_data(slot->fd, at, end, &data, &data_end);
            if (rc != 0)
                return dor_fail_wrap("machine: memory of slot %" PRIu32, slot->slot);
            uint64_t shift = slot->offset + skip;
            set_bits(
                bitmap, first_bit + page + (data - shift) / DOR_PAGE_BYTES,
                first_bit + page + DIV_ROUND_UP(data_end - shift, DOR_PAGE_BYTES));
            at = data_end;
        }
        page += count;
    }
    return 0;
}

/* The runs of memory-ranges get bitmaps, kept as a file that nobody sees. */
static int
note_holes(struct making *making)
{
    struct dor_image *image = making->image;
    uint64_t pages = image->info.page_count;
    size_t size_bytes = (size_t)DIV_ROUND_UP(pages, 8);
    AUTO_FREE uint8_t *bitmap = base_zalloc(size_bytes);
    if (bitmap == NULL)
        return DOR_E_NO_MEMORY;
    uint64_t bit = 0;
    for (size_t i = 0; i < making->range_count; i++) {
        const struct dor_image_range *range = &making->ranges[i];
        int rc = find_data(making, range->address, range->page_count, bitmap, bit);
        if (rc != 0)
            return rc;
        bit += range->page_count;
    }
    /* All of the row is one file from its beginning on, so there is one run. */
    dor_assert(image->run_count == 1 && bit == pages);
    image->runs[0].bitmap = image->bitmap = TAKE(bitmap);
    return 0;
}

/* ------------------------------------------------------------------ the image */

static int
read_parts(struct making *making)
{
    const struct dor_offload_machine *machine = making->machine;
    struct guest_span config = {machine->config, machine->config_bytes};
    int rc = guest_cloud_check(config.text, config.size_bytes, "machine: Config");
    if (rc == 0)
        rc = guest_cloud_slots(
            guest_cloud_member(config, "memory_manager_data"), "machine: Config",
            &making->slots, &making->slot_count);
    if (rc == 0)
        rc = match_descriptors(making);
    if (rc == 0)
        rc = guest_cloud_hypervisor_table(
            machine->state, machine->state_bytes, &making->ranges, &making->range_count);
    if (rc == 0)
        rc = add_up(making);
    return rc == 0 ? check_covered(making) : rc;
}

/* The files in the order of their names, as images have them. */
static int
make_files(struct making *making)
{
    const struct dor_offload_machine *machine = making->machine;
    struct guest_span config = {machine->config, machine->config_bytes};
    struct guest_span vm = guest_cloud_member(config, "vm_config");
    if (vm.size_bytes == 0)
        return dor_fail(DOR_E_CORRUPT, "machine: Config has no vm_config");
    int rc = add_text(making->image, config_name, vm.text, vm.size_bytes);
    if (rc == 0)
        rc = map_memory(making);
    if (rc == 0)
        rc = add_text(making->image, migration_name, config.text, config.size_bytes);
    if (rc == 0)
        rc = add_text(making->image, state_name, machine->state, machine->state_bytes);
    return rc;
}

int
dor_offload_image_open(const struct dor_offload_machine *machine, struct dor_image **ret)
{
    static const char path[] = "offload";
    struct making making = {.machine = machine};
    struct dor_image *image = base_zalloc(sizeof *image);
    if (image == NULL)
        return DOR_E_NO_MEMORY;
    making.image = image;
    image->info.format = DOR_IMAGE_CLOUD_HYPERVISOR;
    image->folder = true;
    image->path = base_alloc(sizeof path);
    int rc = image->path == NULL ? DOR_E_NO_MEMORY : 0;
    if (rc == 0) {
        memcpy(image->path, path, sizeof path);
        rc = read_parts(&making);
    }
    if (rc == 0)
        rc = make_files(&making);
    if (rc == 0)
        rc = guest_image_read_format(image);
    if (rc == 0)
        rc = note_holes(&making);
    base_free(making.slots);
    base_free(making.ranges);
    if (rc != 0) {
        dor_image_close(image);
        return rc;
    }
    *ret = image;
    return 0;
}

/* ------------------------------------------------------------------ the machine */

/* The content of file NAME, all of it in the frame; empty when there is no such file. */
static int
read_file(const struct guest_frame_reader *first, const char *name, struct base_buf *ret)
{
    static const uint8_t zeros[4096];
    struct guest_frame_reader reader = *first;
    struct guest_frame_op op;
    bool inside = false;
    int rc = 0;
    for (guest_frame_next(&reader, &op); rc == 0 && op.kind != GUEST_FRAME_END;
         guest_frame_next(&reader, &op)) {
        if (op.kind == GUEST_FRAME_FILE) {
            inside = op.count == strlen(name) && memcmp(op.data, name, op.count) == 0;
            if (inside && op.file_bytes > GUEST_CLOUD_JSON_BYTES_MAX)
                rc = dor_fail(DOR_E_CORRUPT, "%s: is too large", name);
        } else if (inside && op.kind == GUEST_FRAME_LITERAL) {
            rc = base_buf_append(ret, op.data, (size_t)op.count);
        } else if (inside && op.kind == GUEST_FRAME_ZEROS) {
            for (uint64_t left = op.count; rc == 0 && left > 0;) {
                size_t step = (size_t)base_min_u64(left, sizeof zeros);
                rc = base_buf_append(ret, zeros, step);
                left -= step;
            }
        } else if (inside && op.kind == GUEST_FRAME_PAGES) {
            rc = dor_fail(DOR_E_CORRUPT, "%s: is memory, not text", name);
        }
    }
    return rc;
}

static struct guest_span
span_of(const struct base_buf *buf)
{
    return (struct guest_span){(const char *)buf->data, buf->size_bytes};
}

static int
read_machine(
    const struct guest_frame_reader *reader, struct base_buf *config, struct base_buf *state)
{
    AUTO_BUF struct base_buf vm = {0};
    int rc = read_file(reader, state_name, state);
    if (rc == 0)
        rc = guest_cloud_check((const char *)state->data, state->size_bytes, state_name);
    if (rc == 0)
        rc = read_file(reader, migration_name, config);
    if (rc != 0 || config->size_bytes > 0)
        return rc;
    char *text = NULL;
    size_t size_bytes = 0;
    rc = read_file(reader, config_name, &vm);
    if (rc == 0)
        rc = guest_cloud_check((const char *)vm.data, vm.size_bytes, config_name);
    if (rc == 0)
        rc = guest_cloud_make_config(span_of(&vm), span_of(state), &text, &size_bytes);
    if (rc == 0)
        *config = (struct base_buf){(uint8_t *)text, size_bytes, size_bytes};
    return rc;
}

int
dor_offload_machine_read(const void *frame, size_t frame_bytes, struct dor_offload_machine *ret)
{
    struct guest_frame_reader reader;
    struct dor_frame_info info;
    AUTO_BUF struct base_buf config = {0};
    AUTO_BUF struct base_buf state = {0};
    struct dor_offload_machine machine = {0};
    int rc = guest_frame_open(frame, frame_bytes, 0, &reader, &info);
    if (rc == 0 && info.format != DOR_IMAGE_CLOUD_HYPERVISOR)
        rc = dor_fail(
            DOR_E_UNSUPPORTED,
            "the image is of format %s; only those of Cloud Hypervisor can "
            "be woken by offload",
            dor_image_format_name(info.format));
    if (rc == 0)
        rc = read_machine(&reader, &config, &state);
    if (rc == 0)
        rc = guest_cloud_check((const char *)config.data, config.size_bytes, migration_name);
    if (rc == 0)
        rc = guest_cloud_slots(
            guest_cloud_member(span_of(&config), "memory_manager_data"), migration_name,
            &machine.slots, &machine.slot_count);
    if (rc != 0)
        return rc;
    machine.config = (char *)config.data;
    machine.config_bytes = config.size_bytes;
    machine.state = (char *)state.data;
    machine.state_bytes = state.size_bytes;
    config = state = (struct base_buf){0};
    *ret = machine;
    return 0;
}

void
dor_offload_machine_fini(struct dor_offload_machine *machine)
{
    for (size_t i = 0; i < machine->slot_count; i++)
        base_auto_close(&machine->slots[i].fd);
    base_free(machine->slots);
    base_free(machine->config);
    base_free(machine->state);
    *machine = (struct dor_offload_machine){0};
}
