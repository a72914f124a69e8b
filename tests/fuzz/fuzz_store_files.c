/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_store_files.c - a tiny store is made once; the input damages one of its files, and every
 * way to read the store must then give the exact bytes or an error.
 *
 *     u8 file, u16 offset, u8 what (0 replace, 1 and cut there, 2 cut at the offset, 3 insert),
 *     then the bytes
 *
 * Nothing is mended: the checksums are a part of what is tested. What cannot be read, check must
 * find.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <dormouse/store.h>

#include "base/file.h"
#include "mend.h"
#include "tap.h"

enum { PAGES = 8, IMAGES = 2, FILES_MAX = 32, FILE_BYTES_MAX = 1 << 20, HEAD_BYTES = 4 };
enum { REPLACE, REPLACE_AND_CUT, CUT, INSERT, DAMAGES };

struct file {
    char name[64];
    struct base_buf bytes;
};

static uint8_t images[IMAGES][PAGES * DOR_PAGE_BYTES];
static const char *const names[IMAGES] = {"first", "second"};
static const char sidecar_bytes[] = "the state of the devices, the state of the devices";
static char store_path[320];
static struct file files[FILES_MAX];
static size_t file_count;

/* ------------------------------------------------------------------ the store */

/* Zero, text, noise, the same noise changed a little, and pages that are there twice. */
static void
make_images(void)
{
    uint64_t v = 7;
    for (unsigned at = 0; at < DOR_PAGE_BYTES; at += 8) {
        v = v * UINT64_C(6364136223846793005) + 1442695040888963407;
        base_le64_put(images[0] + DOR_PAGE_BYTES + at, v ^ v >> 29);
        memcpy(images[0] + 2 * DOR_PAGE_BYTES + at, "dormice.", 8);
        base_le64_put(images[0] + 5 * DOR_PAGE_BYTES + at, UINT64_C(0x7f5500000000) + at * 40);
    }
    memcpy(images[0] + 3 * DOR_PAGE_BYTES, images[0] + DOR_PAGE_BYTES, DOR_PAGE_BYTES);
    memcpy(images[0] + 4 * DOR_PAGE_BYTES, images[0] + DOR_PAGE_BYTES, DOR_PAGE_BYTES);
    images[0][4 * DOR_PAGE_BYTES + 99] ^= 0xff;
    memcpy(images[1], images[0], sizeof images[1]);
    for (unsigned at = 0; at < sizeof images[1]; at += 3000)
        images[1][at] ^= 0x55;
}

static int
put(struct dor_store *store, unsigned i)
{
    AUTO_CLOSE int fd = memfd_create("image", MFD_CLOEXEC);
    static const uint8_t types[PAGES] = {0, 0, 1, 1, 2, 2, 0, 1};
    struct dor_sidecar sidecar = {
        .name = "devstate", .data = sidecar_bytes, .size_bytes = sizeof sidecar_bytes};
    struct dor_put put = {
        .image_fd = fd, .region_types = types, .sidecars = &sidecar, .sidecar_count = 1};
    struct dor_put_result result;
    int rc = base_file_pwrite(fd, images[i], sizeof images[i], 0, "image");
    return rc != 0 ? rc : dor_store_put(store, names[i], &put, &result);
}

static int
keep_file(const char *name, void *arg)
{
    struct stat about;
    int dir = *(const int *)arg;
    struct file *file = &files[file_count];
    if (fstatat(dir, name, &about, 0) != 0 || !S_ISREG(about.st_mode))
        return 0;
    dor_assert(file_count < FILES_MAX && strlen(name) < sizeof file->name);
    snprintf(file->name, sizeof file->name, "%s", name);
    file_count++;
    return base_file_read_all(dir, name, FILE_BYTES_MAX, &file->bytes);
}

static int
by_name(const void *a, const void *b)
{
    return strcmp(((const struct file *)a)->name, ((const struct file *)b)->name);
}

static void
make_store(void)
{
    work_in_memory();
    snprintf(store_path, sizeof store_path, "%s/store", tap_dir());
    make_images();
    struct dor_store *store = NULL;
    int rc = dor_store_create(store_path, NULL);
    if (rc == 0)
        rc = dor_store_open(store_path, DOR_OPEN_WRITE, NULL, &store);
    for (unsigned i = 0; i < IMAGES && rc == 0; i++)
        rc = put(store, i);
    dor_store_close(store);
    AUTO_CLOSE int dir = -1;
    if (rc == 0)
        rc = base_file_open(AT_FDCWD, store_path, O_RDONLY | O_DIRECTORY, 0, &dir);
    if (rc == 0)
        rc = base_dir_list(dir, keep_file, &dir);
    if (rc != 0)
        bail("cannot make the store: %s", dor_err_message());
    qsort(files, file_count, sizeof *files, by_name);
}

/* ------------------------------------------------------------------ damage */

static void
write_file(const struct file *file, const void *data, size_t size_bytes)
{
    char path[400];
    AUTO_CLOSE int fd = -1;
    snprintf(path, sizeof path, "%s/%s", store_path, file->name);
    int rc = base_file_open(AT_FDCWD, path, O_WRONLY | O_CREAT, 0600, &fd);
    if (rc == 0)
        rc = base_file_truncate(fd, size_bytes, path);
    if (rc == 0)
        rc = base_file_pwrite(fd, data, size_bytes, 0, path);
    if (rc != 0)
        bail("%s", dor_err_message());
}

static void
damage(const struct file *file, const uint8_t *input, size_t input_bytes)
{
    size_t old_bytes = file->bytes.size_bytes;
    size_t at = base_le16_get(input + 1) % (old_bytes + 1);
    unsigned what = input[3] % DAMAGES;
    size_t new_bytes = what == CUT ? 0 : input_bytes - HEAD_BYTES;
    size_t skipped = what == REPLACE ? new_bytes : what == INSERT ? 0 : old_bytes;
    size_t rest = at + skipped < old_bytes ? old_bytes - at - skipped : 0;
    AUTO_FREE uint8_t *data = base_alloc(at + new_bytes + rest);
    dor_assert(data != NULL);
    if (at > 0)
        memcpy(data, file->bytes.data, at);
    if (new_bytes > 0)
        memcpy(data + at, input + HEAD_BYTES, new_bytes);
    if (rest > 0)
        memcpy(data + at + new_bytes, file->bytes.data + at + skipped, rest);
    write_file(file, data, at + new_bytes + rest);
}

/* ------------------------------------------------------------------ reading */

/* After an error the file holds no wrong bytes, only missing ones, whole pages of them. */
static void
check_image(int fd, int rc, const uint8_t *image)
{
    static const uint8_t zero[DOR_PAGE_BYTES];
    uint64_t size_bytes = 0;
    dor_assert(base_file_size(fd, "out", &size_bytes) == 0);
    dor_assert(size_bytes <= sizeof images[0] && (rc != 0 || size_bytes == sizeof images[0]));
    for (uint64_t at = 0; at + DOR_PAGE_BYTES <= size_bytes; at += DOR_PAGE_BYTES) {
        uint8_t page[DOR_PAGE_BYTES];
        dor_assert(base_file_pread(fd, page, sizeof page, at, "out") == 0);
        dor_assert(
            memcmp(page, image + at, sizeof page) == 0 ||
            (rc != 0 && memcmp(page, zero, sizeof page) == 0));
    }
}

static bool
read_pages(struct dor_snapshot *snapshot, const uint8_t *image)
{
    bool whole = true;
    for (uint64_t i = 0; i < PAGES; i++) {
        uint8_t page[DOR_PAGE_BYTES];
        if (dor_snapshot_read_page(snapshot, i, page) == 0)
            dor_assert(memcmp(page, image + i * DOR_PAGE_BYTES, sizeof page) == 0);
        else
            whole = false;
    }
    return whole;
}

static bool
read_sidecar(struct dor_snapshot *snapshot)
{
    char name[DOR_NAME_BYTES_MAX + 1];
    void *data;
    size_t size_bytes;
    if (dor_snapshot_read_sidecar(snapshot, 0, name, &data, &size_bytes) != 0)
        return false;
    dor_assert(size_bytes == sizeof sidecar_bytes && strcmp(name, "devstate") == 0);
    dor_assert(memcmp(data, sidecar_bytes, size_bytes) == 0);
    free(data);
    return true;
}

/* Whether all of snapshot I can be had. */
static bool
read_snapshot(struct dor_store *store, unsigned i)
{
    struct dor_snapshot *snapshot;
    if (dor_snapshot_open(store, names[i], &snapshot) != 0)
        return false;
    const struct dor_snapshot_info *info = dor_snapshot_info(snapshot);
    dor_assert(info->logical_bytes == sizeof images[i] && info->sidecar_count == 1);
    AUTO_CLOSE int fd = memfd_create("out", MFD_CLOEXEC);
    dor_assert(fd >= 0);
    int rc = dor_snapshot_write_image(snapshot, fd, NULL, NULL);
    check_image(fd, rc, images[i]);
    bool whole = read_pages(snapshot, images[i]);
    dor_assert(whole == (rc == 0));
    whole = read_sidecar(snapshot) && whole;
    dor_snapshot_close(snapshot);
    return whole;
}

static int
count_one(void *context, const struct dor_snapshot_info *info)
{
    unsigned *count = context;
    dor_assert(*count < IMAGES && strcmp(info->name, names[*count]) == 0);
    ++*count;
    return 0;
}

static void
read_store(void)
{
    static const struct dor_check check = {0};
    struct dor_check_result result = {0};
    struct dor_store *store;
    bool whole = false;
    if (dor_store_open(store_path, DOR_OPEN_READ, NULL, &store) == 0) {
        unsigned count = 0;
        whole = dor_store_list(store, count_one, &count) == 0 && count == IMAGES;
        for (unsigned i = 0; i < IMAGES; i++)
            whole = read_snapshot(store, i) && whole;
        int rc = dor_store_check(store, &check, &result);
        dor_assert(whole || rc != 0 || result.findings > 0);
        dor_store_close(store);
    }
    int rc = dor_store_check_directory(store_path, &check, &result);
    dor_assert(whole || rc != 0 || result.findings > 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    if (file_count == 0)
        make_store();
    if (size_bytes < HEAD_BYTES)
        return 0;
    const struct file *file = &files[data[0] % file_count];
    damage(file, data, size_bytes);
    read_store();
    write_file(file, file->bytes.data, file->bytes.size_bytes);
    return 0;
}
