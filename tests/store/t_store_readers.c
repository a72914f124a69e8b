/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_store_readers.c - one writer at a time, and readers that go on with right bytes while it puts,
 * replaces, removes and collects.
 */
#include <fcntl.h>
#include <sys/wait.h>

#include "store/images.h"

static struct base_random rng;

/* ------------------------------------------------------------------ one writer */

static int
open_in_child(const char *path, enum dor_open_mode mode)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        struct dor_store *store;
        _exit(-dor_store_open(path, mode, NULL, &store));
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
        bail("the child is lost");
    return -WEXITSTATUS(status);
}

static void
test_one_writer(const struct image *image)
{
    struct dor_store *other = NULL;
    struct dor_store *store = new_store("one", NULL);
    const char *path = test_path("one");
    must_put(store, "a", image);
    is_int(open_in_child(path, DOR_OPEN_WRITE), DOR_E_BUSY, "a second process cannot write");
    is_int(open_in_child(path, DOR_OPEN_READ), 0, "but read");
    is_int(
        dor_store_open(path, DOR_OPEN_WRITE, NULL, &other), DOR_E_BUSY,
        "nor can a second handle of this one");
    ok(strstr(dor_err_message(), "another process") != NULL, "and the words say why");
    int err = dor_store_create(path, NULL);
    ok(err == DOR_E_BUSY || err == DOR_E_EXISTS, "a store is not made over it");
    struct dor_store *reader = open_store(path, DOR_OPEN_READ);
    ok(reads_back(reader, "a", image), "a reader reads beside the writer");
    must_put(store, "b", image);
    ok(reads_back(reader, "b", image), "and finds what was put since");
    dor_store_close(store);
    is_int(open_in_child(path, DOR_OPEN_WRITE), 0, "the lock goes with its handle");
    dor_store_close(reader);
}

static void
test_writer_dies(const struct image *image)
{
    struct dor_store *store = new_store("dies", NULL);
    dor_store_close(store);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        store = open_store(test_path("dies"), DOR_OPEN_WRITE);
        must_put(store, "a", image);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    store = open_store(test_path("dies"), DOR_OPEN_WRITE);
    ok(reads_back(store, "a", image), "a writer that ends without closing leaves no lock");
    dor_store_close(store);
}

/* ------------------------------------------------------------------ an old catalog in hand */

/* A handle that still names a snapshot's old file learns of the new one, or says what it misses. */
static void
test_old_handle(const struct image *before, const struct image *after)
{
    struct dor_store *writer = new_store("old", NULL);
    struct dor_store *target = memory_store();
    struct dor_put put = {.replace = true};
    struct dor_put_result result;
    struct dor_explain explain = {0};
    must_put(writer, "a", before);
    struct dor_store *reader = open_store(test_path("old"), DOR_OPEN_READ);
    if (put_image(writer, "a", after, &put, NULL) != 0)
        bail("%s", dor_err_message());
    is_int(
        dor_store_copy(reader, "a", target, "a", &result), DOR_E_CORRUPT,
        "a copy of what was replaced since fails");
    ok(strstr(dor_err_message(), "missing") != NULL, "and says: %s", dor_err_message());
    is_ok(dor_store_explain(reader, "a", &explain), "explain finds what is there now");
    is_int(explain.total.logical_bytes, after->page_count * DOR_PAGE_BYTES, "all of its pages");
    dor_explain_fini(&explain);
    is_ok(dor_store_copy(reader, "a", target, "a", &result), "and then it is copied");
    ok(reads_back(target, "a", after), "as it is");
    if (dor_store_remove(writer, "a") != 0)
        bail("%s", dor_err_message());
    is_int(
        dor_store_explain(reader, "a", &explain), DOR_E_NOT_FOUND, "what is gone is not found");
    dor_store_close(reader);
    dor_store_close(writer);
    dor_store_close(target);
}

/* ------------------------------------------------------------------ a reader at work */

static bool
snapshot_is(struct dor_snapshot *snapshot, const struct image *image)
{
    AUTO_CLOSE int fd = memory_file();
    uint8_t page[DOR_PAGE_BYTES];
    if (dor_snapshot_write_image(snapshot, fd, NULL, NULL) != 0 || !file_is_image(fd, image))
        return false;
    for (uint64_t i = 0; i < image->page_count; i += 3)
        if (dor_snapshot_read_page(snapshot, i, page) != 0 ||
            memcmp(page, image_page(image, i), DOR_PAGE_BYTES) != 0)
            return false;
    return true;
}

struct open_reader {
    struct dor_store *store;
    struct dor_snapshot *snapshot;
};

static struct open_reader
open_reader(const char *path, const char *name)
{
    struct open_reader reader = {.store = open_store(path, DOR_OPEN_READ)};
    if (dor_snapshot_open(reader.store, name, &reader.snapshot) != 0)
        bail("%s", dor_err_message());
    return reader;
}

static void
close_reader(struct open_reader *reader)
{
    dor_snapshot_close(reader->snapshot);
    dor_store_close(reader->store);
}

static void
collect(struct dor_store *store, bool squeeze)
{
    struct dor_gc gc = {.squeeze = squeeze};
    struct dor_gc_result result;
    if (dor_store_gc(store, &gc, &result) != 0)
        bail("%s", dor_err_message());
}

/* IDLE has read nothing yet when things move, BUSY has all tables loaded. */
static void
test_snapshot_stays_open(const struct image *images)
{
    const char *path = test_path("open");
    struct dor_options *options =
        OPTIONS("gc_waste_percent", "0", "segment_bytes_max", "65536");
    struct dor_store *store = new_store("open", options);
    must_put(store, "old", &images[0]);
    must_put(store, "kept", &images[1]);
    struct open_reader idle = open_reader(path, "kept");
    struct open_reader busy = open_reader(path, "kept");
    ok(snapshot_is(busy.snapshot, &images[1]), "a reader reads");
    must_put(store, "new", &images[2]);
    ok(snapshot_is(busy.snapshot, &images[1]), "and again after a put");
    if (dor_store_remove(store, "old") != 0)
        bail("%s", dor_err_message());
    ok(snapshot_is(busy.snapshot, &images[1]), "after another snapshot is removed");
    collect(store, false);
    ok(snapshot_is(idle.snapshot, &images[1]),
       "after gc moved the pages: a reader that was idle");
    ok(snapshot_is(busy.snapshot, &images[1]), "and the busy one");
    collect(store, true);
    ok(snapshot_is(busy.snapshot, &images[1]), "after they were squeezed");
    ok(reads_back(busy.store, "new", &images[2]), "its handle finds the new snapshot too");
    ok(reads_back(idle.store, "kept", &images[1]), "and opens the old one again");
    close_reader(&idle);
    close_reader(&busy);
    dor_store_close(store);
    dor_options_free(options);
}

static void
check_sidecar(struct dor_snapshot *snapshot, const char *when)
{
    char name[DOR_NAME_BYTES_MAX + 1];
    void *data = NULL;
    size_t size_bytes = 0;
    is_ok(
        dor_snapshot_read_sidecar(snapshot, 0, name, &data, &size_bytes),
        "its sidecar is read %s", when);
    ok(data != NULL && size_bytes == 3 && memcmp(data, "abc", 3) == 0, "and right");
    free(data);
}

static void
test_removed_under_reader(const struct image *images)
{
    const char *path = test_path("removed");
    struct dor_store *store = new_store("removed", NULL);
    const struct dor_sidecar sidecar = {"vmstate", "abc", 3};
    struct dor_put put = {.sidecars = &sidecar, .sidecar_count = 1};
    if (put_image(store, "a", &images[0], &put, NULL) != 0)
        bail("%s", dor_err_message());
    struct open_reader reader = open_reader(path, "a");
    check_sidecar(reader.snapshot, "before");
    if (dor_store_remove(store, "a") != 0)
        bail("%s", dor_err_message());
    ok(snapshot_is(reader.snapshot, &images[0]),
       "a snapshot removed under its reader is read on");
    check_sidecar(reader.snapshot, "after");
    struct dor_snapshot *again = NULL;
    is_int(
        dor_snapshot_open(reader.store, "a", &again), DOR_E_NOT_FOUND,
        "but it cannot be opened again");
    close_reader(&reader);
    dor_store_close(store);
}

static void
test_replaced_under_reader(const struct image *images)
{
    const char *path = test_path("replaced");
    struct dor_store *store = new_store("replaced", NULL);
    struct dor_put put = {.replace = true};
    must_put(store, "a", &images[0]);
    struct open_reader reader = open_reader(path, "a");
    if (put_image(store, "a", &images[2], &put, NULL) != 0)
        bail("%s", dor_err_message());
    ok(snapshot_is(reader.snapshot, &images[0]), "a snapshot that is replaced is read on");
    is_int(compare_image(reader.store, "a", &images[2]), 1, "opened again it is the new one");
    close_reader(&reader);
    dor_store_close(store);
}

/* ------------------------------------------------------------------ all at once */

enum { READERS = 3, IMAGES = 6 };

/* Reads at random until the writer says it is done; exit code 0 when all was right. */
static void
read_on(const char *path, const struct image *images, int seed, int done_fd)
{
    char byte;
    struct dor_store *store = open_store(path, DOR_OPEN_READ);
    base_random_init(&rng, (uint64_t)seed);
    for (int count = 0; count < 5 || read(done_fd, &byte, 1) != 0; count++) {
        char name[16];
        uint64_t i = base_random_below(&rng, IMAGES);
        snprintf(name, sizeof name, "image-%d", (int)i);
        int got = count % 2 == 0 ? compare_image(store, name, &images[i])
                                 : compare_pages(store, name, &images[i], 5);
        /* Removed, or removed and collected while it was being read. */
        if (got != 1 && got != DOR_E_NOT_FOUND && got != DOR_E_CORRUPT) {
            note("reader: %s gives %d: %s", name, got, dor_err_message());
            _exit(1);
        }
        /* What is always there must always be right. */
        got = compare_pages(store, "always", &images[0], 7);
        if (got != 1) {
            note("reader: always gives %d: %s", got, dor_err_message());
            _exit(2);
        }
        if (count % 9 == 8) {
            dor_store_close(store);
            store = open_store(path, DOR_OPEN_READ);
        }
    }
    _exit(0);
}

static void
write_on(struct dor_store *store, const struct image *images)
{
    for (int count = 0; count < 60; count++) {
        char name[16];
        uint64_t i = base_random_below(&rng, IMAGES);
        uint64_t choice = base_random_below(&rng, 10);
        struct dor_put put = {.replace = true};
        int err = 0;
        snprintf(name, sizeof name, "image-%d", (int)i);
        if (choice < 6)
            err = put_image(store, name, &images[i], &put, NULL);
        else if (choice < 8)
            err = dor_store_remove(store, name);
        else
            collect(store, choice == 9);
        if (err != 0 && err != DOR_E_NOT_FOUND)
            bail("writer: %s", dor_err_message());
    }
}

static void
test_together(const struct image *images)
{
    int done[2];
    pid_t children[READERS];
    struct dor_options *options =
        OPTIONS("gc_waste_percent", "0", "segment_bytes_max", "131072", "squeeze_level", "1");
    struct dor_store *store = new_store("together", options);
    must_put(store, "always", &images[0]);
    if (pipe2(done, O_CLOEXEC | O_NONBLOCK) != 0)
        bail("no pipe");
    fflush(stdout);
    for (int i = 0; i < READERS; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            close(done[1]);
            read_on(test_path("together"), images, i + 1, done[0]);
        }
    }
    write_on(store, images);
    close(done[1]);
    for (int i = 0; i < READERS; i++) {
        int status = -1;
        waitpid(children[i], &status, 0);
        is_int(status, 0, "reader %d saw nothing but right bytes", i);
    }
    close(done[0]);
    ok(reads_back(store, "always", &images[0]), "nor does the writer");
    dor_store_close(store);
    dor_options_free(options);
}

int
main(void)
{
    struct image images[IMAGES];
    work_in_memory();
    base_random_init(&rng, tap_seed());
    image_make(&rng, &images[0], 150);
    for (int i = 1; i < IMAGES; i++) {
        image_copy(&images[i], &images[i - 1]);
        image_evolve(&rng, &images[i]);
    }
    test_one_writer(&images[0]);
    test_writer_dies(&images[0]);
    test_old_handle(&images[0], &images[1]);
    test_snapshot_stays_open(images);
    test_removed_under_reader(images);
    test_replaced_under_reader(images);
    test_together(images);
    for (int i = 0; i < IMAGES; i++)
        image_fini(&images[i]);
    return done_testing();
}
