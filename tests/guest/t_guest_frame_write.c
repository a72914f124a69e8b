/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_guest_frame_write.c - writing an image's files: each way in which the place is not fit, and
 * at every call an error, at every change a death: the name has all of the image, or nothing.
 */
#include <errno.h>
#include <sys/wait.h>

#include "base/fault.h"
#include "guest/make_formats.h"
#include "guest/round_trip.h"

enum { TRIES_MAX = 3000 };

static char from_path[300]; /* a folder, and a file, in the test's directory */
static char to_path[300];
static char part_path[310];

static void
set_paths(const char *from)
{
    snprintf(from_path, sizeof from_path, "%s/%s", tap_dir(), from);
    snprintf(to_path, sizeof to_path, "%s/to", tap_dir());
    snprintf(part_path, sizeof part_path, "%s.part", to_path);
}

static int
copy(void)
{
    return copy_image(from_path, to_path, DOR_IMAGE_AUTO, false);
}

static bool
exists(const char *path)
{
    struct stat status;
    return lstat(path, &status) == 0;
}

/* ------------------------------------------------------------------ places */

static void
test_places(bool folder)
{
    char path[600];
    set_paths(folder ? "criu" : "core");
    snprintf(path, sizeof path, "%s/nowhere/to", tap_dir());
    is_int(
        copy_image(from_path, path, DOR_IMAGE_AUTO, false), DOR_E_NOT_FOUND,
        "a directory that is not there");
    is_int(
        copy_image(from_path, "", DOR_IMAGE_AUTO, false), DOR_E_USAGE, "a path that is empty");
    snprintf(path, sizeof path, "%s/", to_path);
    if (folder)
        is_ok(
            copy_image(from_path, path, DOR_IMAGE_AUTO, false), "a path that ends in a slash");
    remove_all(to_path);
    if (symlink("nowhere", to_path) != 0)
        bail("symlink");
    is_int(copy(), DOR_E_USAGE, "a link is not replaced");
    remove_all(to_path);
    if (mkfifo(to_path, 0600) != 0)
        bail("mkfifo");
    is_int(copy(), DOR_E_USAGE, "a pipe is not replaced");
    remove_all(to_path);
    make_folder(to_path);
    is_int(copy(), folder ? 0 : DOR_E_USAGE, "an empty folder is, by a folder");
    remove_all(to_path);
    write_text(tap_dir(), "to", "old");
    is_int(copy(), folder ? DOR_E_USAGE : 0, "a file is, by a file");
    remove_all(to_path);
    ok(!exists(part_path), "nothing is left over");
}

/* What stands under the temporary name. */
static void
test_parts(bool folder)
{
    set_paths(folder ? "criu" : "core");
    write_text(tap_dir(), "to.part", "left by a killed writer");
    is_ok(copy(), "a file that was left is removed");
    ok(same_files(from_path, to_path), "the copy is right");
    remove_all(to_path);
    if (symlink("/dev/null", part_path) != 0)
        bail("symlink");
    is_ok(copy(), "a link there is not followed");
    ok(same_files(from_path, to_path), "the copy is right");
    remove_all(to_path);
    make_folder(part_path);
    write_text(part_path, folder ? "pages-1.img" : "x", "half");
    is_int(copy(), folder ? 0 : DOR_E_EXISTS, "a folder that was left is removed");
    remove_all(to_path);
    remove_all(part_path);
    make_folder(part_path);
    write_text(part_path, "mine", "not of an image");
    is_int(copy(), DOR_E_EXISTS, "but not one with other files");
    ok(strstr(dor_err_message(), "mine") != NULL, "which are named");
    remove_all(part_path);
}

/* ------------------------------------------------------------------ sources */

static int
fail_read(void *context, uint64_t first_page, size_t page_count, void *pages)
{
    (void)context;
    (void)pages;
    if (first_page + page_count > 5)
        return dor_fail(DOR_E_CORRUPT, "page 5 is gone");
    memset(pages, 1, page_count * DOR_PAGE_BYTES);
    return 0;
}

static void
test_source(void)
{
    struct dor_page_source source = {.page_count = 6, .read = fail_read};
    set_paths("raw");
    is_int(dor_frame_write(NULL, 0, to_path, &source), DOR_E_CORRUPT, "a page is not read");
    is_str(dor_err_message(), "page 5 is gone", "its error is told");
    ok(!exists(to_path) && !exists(part_path), "nothing is there");
    source.page_count = 0;
    is_int(dor_frame_write(NULL, 0, to_path, &source), DOR_E_USAGE, "a row of no pages");
    is_int(
        dor_frame_write("not a frame", 11, to_path, &source), DOR_E_USAGE, "with a bad frame");
    source.page_count = 4;
    is_int(dor_frame_write("not a frame", 11, to_path, &source), DOR_E_CORRUPT, "a bad frame");
    ok(!exists(to_path) && !exists(part_path), "nothing is there");
}

/* ------------------------------------------------------------------ faults */

/* Open once, so that only the writing is tried. */
static struct dor_image *image;

static int
write_it(void)
{
    const struct dor_image_info *info = dor_image_info(image);
    struct dor_page_source source = image_source(image, false);
    return dor_frame_write(info->frame, info->frame_bytes, to_path, &source);
}

/* True while there are more calls to fail. */
static bool
try_failure(enum base_fault_kind kind, uint64_t nth, int want, unsigned *wrong)
{
    base_fault_arm(kind, nth, EIO);
    int rc = write_it();
    base_fault_arm(FAULT_NONE, 0, 0);
    bool fired = base_fault_fired();
    bool there = exists(to_path);
    /* The last sync may fail after the rename: then all of it is there. */
    bool fine = rc == 0 ? there : rc == want && fired;
    if (!fine || (there && !same_files(from_path, to_path)) ||
        (kind == FAULT_ALLOC && rc != 0 && exists(part_path))) {
        note("call %d: %d, %s", (int)nth, rc, dor_err_message());
        ++*wrong;
    }
    remove_all(to_path);
    remove_all(part_path);
    return fired && nth < TRIES_MAX;
}

static void
try_failures(enum base_fault_kind kind, int want, const char *name)
{
    unsigned wrong = 0;
    uint64_t nth = tap_first();
    while (try_failure(kind, nth, want, &wrong))
        nth += tap_every();
    is_int(wrong, 0, "%s at one in %u of %d calls", name, tap_every(), (int)nth - 1);
    ok(nth > 1, "there were some");
}

/* True while there are more writes to die at. */
static bool
try_kill(enum base_fault_kind kind, uint64_t nth, unsigned *wrong)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        base_fault_arm(kind, nth, 0);
        _exit(write_it() == 0 ? 0 : 1);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
        bail("the child is lost");
    int code = WEXITSTATUS(status);
    bool there = exists(to_path);
    bool fine = code == FAULT_EXIT_CODE || (code == 0 && there);
    fine = fine && (!there || same_files(from_path, to_path));
    /* The next writer is not in the way of what is left. */
    remove_all(to_path);
    fine = fine && write_it() == 0 && same_files(from_path, to_path) && !exists(part_path);
    if (!fine) {
        note("write %d: exit code %d: %s", (int)nth, code, dor_err_message());
        ++*wrong;
    }
    remove_all(to_path);
    return code == FAULT_EXIT_CODE && nth < TRIES_MAX;
}

static void
try_kills(enum base_fault_kind kind, const char *name)
{
    unsigned wrong = 0;
    uint64_t nth = tap_first();
    while (try_kill(kind, nth, &wrong))
        nth += tap_every();
    is_int(wrong, 0, "%s at one in %u of %d writes", name, tap_every(), (int)nth - 1);
    ok(nth > 3, "there were some");
}

static void
test_faults(const char *from)
{
    set_paths(from);
    note("%s", from);
    if (dor_image_open(from_path, DOR_IMAGE_AUTO, &image) != 0)
        bail("%s", dor_err_message());
    try_failures(FAULT_ALLOC, DOR_E_NO_MEMORY, "an allocation fails");
    try_failures(FAULT_IO_FAIL, DOR_E_IO, "a file call fails");
    try_failures(FAULT_IO_FAIL_STICKY, DOR_E_IO, "all file calls fail from there on");
    try_kills(FAULT_WRITE_KILL, "killed in the midst");
    try_kills(FAULT_WRITE_SKIP_KILL, "killed before");
    dor_image_close(image);
}

int
main(void)
{
    struct base_buf buf = {0};
    work_in_memory();
    set_paths("criu");
    make_criu(from_path);
    set_paths("core");
    make_core(from_path, false);
    set_paths("raw");
    put_pages(&buf, 0, 6);
    write_file(from_path, &buf);
    chmod(from_path, 0600);
    for (int folder = 0; folder < 2; folder++) {
        test_places(folder);
        test_parts(folder);
    }
    test_source();
    test_faults("criu");
    test_faults("core");
    test_faults("raw");
    return done_testing();
}
