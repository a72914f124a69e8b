/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_store_verbs.c - making and opening stores; listing, replacing and removing snapshots; each of
 * them with what it refuses.
 */
#include <fcntl.h>

#include "store/images.h"
#include "store/tree.h"

static struct base_random rng;

/* ------------------------------------------------------------------ making and opening */

static void
test_opening(void)
{
    struct dor_store *store = NULL;
    const char *path = test_path("made");
    is_int(dor_store_open(path, DOR_OPEN_READ, NULL, &store), DOR_E_NOT_FOUND, "no directory");
    is_ok(dor_store_create(path, NULL), "a store is made, with its directory");
    is_int(dor_store_create(path, NULL), DOR_E_EXISTS, "not twice");
    for (int mode = DOR_OPEN_READ; mode <= DOR_OPEN_WRITE; mode++) {
        is_ok(dor_store_open(path, (enum dor_open_mode)mode, NULL, &store), "it is opened");
        dor_store_close(store);
    }
    const char *empty = test_path("empty");
    mkdir(empty, 0755);
    is_int(dor_store_open(empty, DOR_OPEN_WRITE, NULL, &store), DOR_E_NOT_FOUND, "no store");
    struct tree tree;
    tree_read(&tree, empty);
    is_int(tree.count, 0, "and looking for one leaves nothing behind");
    tree_fini(&tree);
    is_ok(dor_store_create(empty, NULL), "an empty directory will do");
    int err = dor_store_create(test_path("no/such/place"), NULL);
    is_int(err, DOR_E_NOT_FOUND, "its parent must be there");
    dor_store_close(NULL);
}

static void
test_read_only(const struct image *image)
{
    struct dor_store *store = new_store("read only", NULL);
    must_put(store, "there", image);
    dor_store_close(store);
    store = open_store(test_path("read only"), DOR_OPEN_READ);
    is_int(put_image(store, "x", image, NULL, NULL), DOR_E_USAGE, "a reader cannot put");
    is_int(dor_store_remove(store, "there"), DOR_E_USAGE, "nor remove");
    ok(reads_back(store, "there", image), "it reads");
    dor_store_close(store);
}

/* ------------------------------------------------------------------ bad images */

static void
refuse_image(struct dor_store *store, int fd, int want, const char *what)
{
    struct dor_put put = {.image_fd = fd};
    struct dor_put_result result;
    is_int(dor_store_put(store, "bad", &put, &result), want, "image: %s", what);
    close(fd);
}

static void
test_bad_images(struct dor_store *store)
{
    int pipe_fds[2];
    uint8_t page[DOR_PAGE_BYTES] = {1};
    if (pipe(pipe_fds) != 0)
        bail("no pipe");
    refuse_image(store, pipe_fds[0], DOR_E_USAGE, "a pipe");
    close(pipe_fds[1]);
    refuse_image(store, open(tap_dir(), O_RDONLY), DOR_E_USAGE, "a directory");
    refuse_image(store, memory_file(), DOR_E_USAGE, "empty");
    refuse_image(store, open("/dev/zero", O_RDONLY), DOR_E_USAGE, "a device");
    refuse_image(store, -1, DOR_E_USAGE, "no file");
    int fd = memory_file();
    if (write(fd, page, 4095) != 4095)
        bail("no memory file");
    refuse_image(store, fd, DOR_E_USAGE, "a byte too short");
    fd = memory_file();
    if (write(fd, page, 4096) != 4096 || write(fd, page, 1) != 1)
        bail("no memory file");
    refuse_image(store, fd, DOR_E_USAGE, "a byte too long");
    fd = memory_file();
    if (ftruncate(fd, (INT64_C(1) << 44) + 4096) == 0)
        refuse_image(store, fd, DOR_E_USAGE, "too large");
    const char *path = test_path("write only");
    fd = open(path, O_WRONLY | O_CREAT, 0600);
    if (write(fd, page, 4096) != 4096)
        bail("no file");
    refuse_image(store, fd, DOR_E_IO, "not readable");
    struct dor_snapshot *snapshot;
    is_int(dor_snapshot_open(store, "bad", &snapshot), DOR_E_NOT_FOUND, "nothing was put");
}

/* ------------------------------------------------------------------ listing */

struct seen {
    char names[8][DOR_NAME_BYTES_MAX + 1];
    int count;
    int stop_after;
};

static int
see(void *context, const struct dor_snapshot_info *info)
{
    struct seen *seen = context;
    snprintf(seen->names[seen->count++], sizeof seen->names[0], "%s", info->name);
    return seen->count == seen->stop_after ? 42 : 0;
}

static void
check_info(struct dor_store *store, const struct image *image, uint64_t before_ns)
{
    struct dor_snapshot *snapshot;
    if (dor_snapshot_open(store, "middle", &snapshot) != 0)
        bail("%s", dor_err_message());
    const struct dor_snapshot_info *info = dor_snapshot_info(snapshot);
    is_str(info->name, "middle", "its name");
    is_str(info->domain, "default", "its domain");
    is_str(info->parent, "zebra", "its parent");
    is_int(info->logical_bytes, image->page_count * DOR_PAGE_BYTES, "its size");
    is_int(info->sidecar_count, 1, "its sidecars");
    ok(info->id > 0 && info->recipe_bytes > 0, "its number and its recipe's size");
    ok(info->created_ns >= before_ns && info->created_ns < before_ns + UINT64_C(3600000000000),
       "its time");
    is_int(info->put.total.logical_bytes, info->logical_bytes, "what put said is kept");
    dor_snapshot_close(snapshot);
}

static void
test_list(struct dor_store *store, const struct image *image)
{
    struct seen seen = {0};
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t before_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
    is_ok(dor_store_list(store, see, &seen), "an empty store is listed");
    is_int(seen.count, 0, "without snapshots");
    const struct dor_sidecar sidecar = {"vmstate", "x", 1};
    struct dor_put put = {.parent = "zebra", .sidecars = &sidecar, .sidecar_count = 1};
    must_put(store, "zebra", image);
    must_put(store, "aardvark", image);
    is_ok(put_image(store, "middle", image, &put, NULL), "a third with all there is to say");
    must_put(store, "\xc3\xa9", image);
    is_ok(dor_store_list(store, see, &seen), "four are listed");
    is_int(seen.count, 4, "all of them");
    ok(strcmp(seen.names[0], "aardvark") == 0 && strcmp(seen.names[1], "middle") == 0 &&
           strcmp(seen.names[2], "zebra") == 0 && strcmp(seen.names[3], "\xc3\xa9") == 0,
       "in the order of their bytes");
    seen = (struct seen){.stop_after = 2};
    is_int(dor_store_list(store, see, &seen), 42, "the visitor can end it");
    is_int(seen.count, 2, "at once");
    check_info(store, image, before_ns);
}

/* ------------------------------------------------------------------ replacing and removing */

static void
test_replace(struct dor_store *store, const struct image *image)
{
    struct image other;
    struct dor_put put = {.replace = true};
    image_make(&rng, &other, image->page_count / 2);
    is_int(put_image(store, "zebra", &other, NULL, NULL), DOR_E_EXISTS, "a name is not reused");
    ok(strstr(dor_err_message(), "zebra") != NULL, "and the words say which");
    ok(reads_back(store, "zebra", image), "what was there is unharmed");
    is_ok(put_image(store, "zebra", &other, &put, NULL), "unless it is asked for");
    ok(reads_back(store, "zebra", &other), "then the new is there");
    ok(reads_back(store, "aardvark", image), "and the others as before");
    is_ok(put_image(store, "new", &other, &put, NULL), "there need not be an old one");
    put.parent = "new";
    is_ok(put_image(store, "new", image, &put, NULL), "one can replace its own parent");
    ok(reads_back(store, "new", image), "and is right");
    image_fini(&other);
}

static void
test_remove(struct dor_store *store, const struct image *image)
{
    struct dor_snapshot *snapshot;
    is_int(dor_store_remove(store, "nobody"), DOR_E_NOT_FOUND, "what is not there");
    is_ok(dor_store_remove(store, "aardvark"), "what is");
    is_int(dor_store_remove(store, "aardvark"), DOR_E_NOT_FOUND, "not twice");
    is_int(dor_snapshot_open(store, "aardvark", &snapshot), DOR_E_NOT_FOUND, "it is gone");
    ok(reads_back(store, "middle", image), "others that share its pages are not");
    must_put(store, "aardvark", image);
    ok(reads_back(store, "aardvark", image), "the name can be used again");
}

static void
test_parent(struct dor_store *store, const struct image *image)
{
    struct dor_put put = {.parent = "nobody"};
    is_int(put_image(store, "child", image, &put, NULL), DOR_E_NOT_FOUND, "no such parent");
    put = (struct dor_put){.parent = "middle", .domain = "elsewhere"};
    is_int(
        put_image(store, "child", image, &put, NULL), DOR_E_NOT_FOUND,
        "a parent in another domain is none");
    struct dor_snapshot *snapshot;
    is_int(dor_snapshot_open(store, "child", &snapshot), DOR_E_NOT_FOUND, "nothing was put");
}

static int
stop_at_once(void *context, uint64_t done_bytes, uint64_t total_bytes)
{
    *(uint64_t *)context = total_bytes;
    return done_bytes > 0;
}

static void
test_stopped(const struct image *image)
{
    uint64_t total_bytes = 0;
    struct dor_options *options = OPTIONS("window_bytes", "1M");
    struct dor_store *store = new_store("stopped", options);
    struct image large;
    struct dor_put put = {.progress = stop_at_once, .progress_context = &total_bytes};
    must_put(store, "there", image);
    uint64_t before = directory_bytes(test_path("stopped"));
    image_make(&rng, &large, 1000);
    is_int(put_image(store, "large", &large, &put, NULL), DOR_E_BUSY, "a put is stopped");
    is_int(total_bytes, large.page_count * DOR_PAGE_BYTES, "it knew how much there was");
    is_int(directory_bytes(test_path("stopped")), before, "nothing of it is left");
    is_ok(put_image(store, "large", &large, NULL, NULL), "the handle can go on");
    ok(reads_back(store, "large", &large) && reads_back(store, "there", image), "all is right");
    struct dor_snapshot *snapshot;
    AUTO_CLOSE int fd = memory_file();
    if (dor_snapshot_open(store, "large", &snapshot) != 0)
        bail("%s", dor_err_message());
    AUTO_CLOSE int full = image_file(image, false);
    is_int(
        dor_snapshot_write_image(snapshot, full, NULL, NULL), DOR_E_USAGE,
        "an image is not written over another");
    is_ok(
        dor_snapshot_write_image(snapshot, fd, stop_at_once, &total_bytes),
        "a short get is over before it can be stopped");
    uint8_t page[DOR_PAGE_BYTES];
    is_int(dor_snapshot_read_page(snapshot, 1000, page), DOR_E_USAGE, "no page after the last");
    is_int(dor_snapshot_read_page(snapshot, UINT64_MAX, page), DOR_E_USAGE, "nor far from it");
    dor_snapshot_close(snapshot);
    dor_snapshot_close(NULL);
    dor_store_close(store);
    dor_options_free(options);
    image_fini(&large);
}

int
main(void)
{
    struct image image;
    work_in_memory();
    base_random_init(&rng, tap_seed());
    image_make(&rng, &image, 60);
    test_opening();
    test_read_only(&image);
    struct dor_store *stores[] = {memory_store(), new_store("store", NULL)};
    for (size_t i = 0; i < ARRAY_LEN(stores); i++) {
        test_bad_images(stores[i]);
        test_list(stores[i], &image);
        test_replace(stores[i], &image);
        test_remove(stores[i], &image);
        test_parent(stores[i], &image);
        dor_store_close(stores[i]);
    }
    test_stopped(&image);
    image_fini(&image);
    return done_testing();
}
