/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_guest_offload.c - a machine as it is handed over becomes an image, and the image's frame a
 * machine again, text for text; whatever allocation or file call fails is an error of its kind.
 */
#include <dormouse/offload.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/size.h"
#include "tap.h"

enum { TRIES_MAX = 3000, PAGES = 8, SLOTS = 2 };

/* Two slots of eight pages; of the second, which is virtio-mem, only four are plugged. */
#define MEMORY                                                                                 \
    "{\"memory_ranges\":{\"data\":[{\"gpa\":0,\"length\":32768},"                              \
    "{\"gpa\":4294967296,\"length\":16384}]},\"guest_ram_mappings\":["                         \
    "{\"slot\":0,\"gpa\":0,\"size\":32768,\"zone_id\":\"mem0\",\"virtio_mem\":false,"          \
    "\"file_offset\":0},{\"slot\":7,\"gpa\":4294967296,\"size\":32768,\"zone_id\":\"mem0\","   \
    "\"virtio_mem\":true,\"file_offset\":0}]}"
#define MEMORY_AS_TEXT                                                                         \
    "{\\\"memory_ranges\\\":{\\\"data\\\":[{\\\"gpa\\\":0,\\\"length\\\":32768},"              \
    "{\\\"gpa\\\":4294967296,\\\"length\\\":16384}]}}"

static char config[] = "{\"vm_config\":{\"big\":18446744073709551615},\"common_cpuid\":[],"
                       "\"memory_manager_data\":" MEMORY "}";
static char state[] = "{\"snapshots\":{\"memory-manager\":{\"snapshots\":{},"
                      "\"snapshot_data\":{\"state\":\"" MEMORY_AS_TEXT "\"}}}}";
static struct dor_offload_slot slots[SLOTS];
static const struct dor_offload_machine machine = {
    config, sizeof config - 1, state, sizeof state - 1, slots, SLOTS};

/* Memory with a page of data at every odd place. */
static int
make_memory(uint8_t byte)
{
    uint8_t page[DOR_PAGE_BYTES];
    int fd = memfd_create("test", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, PAGES * (off_t)sizeof page) != 0)
        bail("no memory file");
    memset(page, byte, sizeof page);
    for (int i = 1; i < PAGES; i += 2)
        if (pwrite(fd, page, sizeof page, i * (off_t)sizeof page) != (ssize_t)sizeof page)
            bail("no memory");
    return fd;
}

/*
 * 0 when IMAGE has the right pages, and holes where there is nothing. Holes are not read, for that
 * would fill them.
 */
static int
check_pages(struct dor_image *image)
{
    const struct dor_image_info *info = dor_image_info(image);
    uint8_t page[DOR_PAGE_BYTES];
    uint64_t first = 0;
    uint64_t end = 0;
    if (info->page_count != PAGES + PAGES / 2)
        return 1;
    for (uint64_t i = 0; i < info->page_count; i++) {
        int want = i < PAGES ? 'a' : 'b';
        int rc = dor_image_next_data(image, i, &first, &end);
        if (rc != 0)
            return rc;
        if ((first == i) != (i % 2 == 1))
            return 1;
        if (first != i)
            continue;
        dor_image_read(image, i, 1, page);
        if (page[0] != want || page[DOR_PAGE_BYTES - 1] != want)
            return 1;
    }
    return 0;
}

static int
check_machine(const struct dor_offload_machine *got)
{
    bool good = got->config_bytes == machine.config_bytes &&
                memcmp(got->config, config, got->config_bytes) == 0 &&
                got->state_bytes == machine.state_bytes &&
                memcmp(got->state, state, got->state_bytes) == 0 && got->slot_count == SLOTS &&
                got->slots[0].slot == 0 && got->slots[0].fd == -1 && got->slots[1].slot == 7 &&
                got->slots[1].gpa == UINT64_C(1) << 32 && got->slots[1].virtio_mem;
    return good ? 0 : 1;
}

/* There and back. */
static int
use_machine(void)
{
    struct dor_image *image = NULL;
    struct dor_offload_machine got = {0};
    int rc = dor_offload_image_open(&machine, &image);
    if (rc != 0)
        return rc;
    const struct dor_image_info *info = dor_image_info(image);
    rc = check_pages(image);
    if (rc == 0)
        rc = dor_offload_machine_read(info->frame, info->frame_bytes, &got);
    if (rc == 0)
        rc = check_machine(&got);
    dor_offload_machine_fini(&got);
    dor_image_close(image);
    return rc;
}

static void
try_each(enum base_fault_kind kind, int want, const char *name)
{
    unsigned wrong = 0;
    uint64_t nth = 0;
    do {
        base_fault_arm(kind, ++nth, EIO);
        int rc = use_machine();
        base_fault_arm(FAULT_NONE, 0, 0);
        if (rc != (base_fault_fired() ? want : 0) && wrong++ < 8)
            note("call %d gives %d: %s", (int)nth, rc, dor_err_message());
    } while (base_fault_fired() && nth < TRIES_MAX);
    is_int(wrong, 0, "%s at each of %d calls", name, (int)nth - 1);
    ok(nth > 1, "there were some");
}

int
main(void)
{
    slots[0] = (struct dor_offload_slot){.slot = 7, .fd = make_memory('b')};
    slots[1] = (struct dor_offload_slot){.slot = 0, .fd = make_memory('a')};
    is_ok(use_machine(), "a machine there and back");
    try_each(FAULT_ALLOC, DOR_E_NO_MEMORY, "an allocation fails");
    try_each(FAULT_IO_FAIL, DOR_E_IO, "a file call fails");
    close(slots[0].fd);
    slots[0].fd = -1;
    is_int(use_machine(), DOR_E_CORRUPT, "a slot without memory");
    close(slots[1].fd);
    return done_testing();
}
