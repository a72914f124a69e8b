/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_store_medium.c - files in a directory and files in memory behave alike: names, second names,
 * replacing, renaming, and what is open stays readable when its name is gone.
 */
#include "store/images.h"
#include "store/medium.h"

static int
count_name(const char *name, void *context)
{
    unsigned *count = context;
    *count += strcmp(name, "lock") != 0;
    return 0;
}

static unsigned
count_names(struct store_medium *medium)
{
    unsigned count = 0;
    is_ok(store_medium_list(medium, count_name, &count), "names are listed");
    return count;
}

/* True when the file NAME has the LETTER and nothing else. */
static bool
has_letter(struct store_medium *medium, const char *name, char letter)
{
    AUTO_CLOSE int fd = -1;
    uint64_t size_bytes = 0;
    char found = 0;
    return store_medium_open(medium, name, false, &fd) == 0 &&
           base_file_size(fd, name, &size_bytes) == 0 && size_bytes == 1 &&
           base_file_pread(fd, &found, 1, 0, name) == 0 && found == letter;
}

static void
test_names(struct store_medium *medium, const char *kind)
{
    AUTO_CLOSE int fd = -1;
    int none = -1;
    char found = 0;
    is_int(store_medium_open(medium, "a", false, &none), DOR_E_NOT_FOUND, "%s: nothing", kind);
    is_ok(store_medium_create(medium, "a", &fd), "a file");
    is_int(store_medium_create(medium, "a", &none), DOR_E_EXISTS, "not twice");
    is_ok(base_file_pwrite(fd, "x", 1, 0, "a"), "with a letter");
    is_ok(store_medium_link(medium, "a", "b"), "it gets a second name");
    is_int(store_medium_link(medium, "a", "b"), DOR_E_EXISTS, "not twice");
    is_int(store_medium_link(medium, "none", "c"), DOR_E_NOT_FOUND, "what is not there, none");
    is_int(count_names(medium), 2, "two names");
    is_ok(base_file_pwrite(fd, "y", 1, 0, "a"), "another letter");
    ok(has_letter(medium, "a", 'y') && has_letter(medium, "b", 'y'), "is there by both names");
    is_ok(store_medium_unlink(medium, "a"), "the first name goes");
    ok(!has_letter(medium, "a", 'y') && has_letter(medium, "b", 'y'), "the second stays");
    is_ok(store_medium_replace(medium, "c", "z", 1), "a third file");
    is_ok(store_medium_rename(medium, "c", "b"), "takes that name");
    ok(has_letter(medium, "b", 'z') && count_names(medium) == 1, "one file is left");
    is_ok(base_file_pread(fd, &found, 1, 0, "a"), "what was open");
    ok(found == 'y', "is still readable");
    is_ok(store_medium_unlink(medium, "b"), "the last name goes");
    is_int(store_medium_unlink(medium, "b"), DOR_E_NOT_FOUND, "once");
    is_int(count_names(medium), 0, "no names");
}

int
main(void)
{
    struct store_medium *medium;
    work_in_memory();
    if (store_medium_open_memory(&medium) != 0)
        bail("%s", dor_err_message());
    test_names(medium, "memory");
    store_medium_close(medium);
    if (store_medium_open_directory(test_path("medium"), true, &medium) != 0)
        bail("%s", dor_err_message());
    test_names(medium, "directory");
    store_medium_close(medium);
    return done_testing();
}
