/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_wake_park.c - what a process leaves to the next one: names of parked descriptors, states in
 * memory files with what they say, and files that are none.
 */
#include "wake/park.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/size.h"
#include "tap.h"

enum { PAGES = 1000 };

static const struct wake_mappings mappings = {
    .count = 2,
    .items = {
        {0x700000000000, 600 * DOR_PAGE_BYTES, 0, DOR_PAGE_BYTES},
        {0x710000000000, 400 * DOR_PAGE_BYTES, 600 * DOR_PAGE_BYTES, DOR_PAGE_BYTES}}};

static int
new_state(struct wake_state **ret)
{
    struct dor_snapshot_info info = {.name = "one", .id = 7};
    int fd = -1;
    if (wake_state_new(&info, PAGES, &mappings, &fd, ret) != 0)
        return -1;
    return fd;
}

static void
test_names(void)
{
    static const char *const wrong[] = {
        "",
        "wake-",
        "wake-2a-uffd",
        "wake-000000000000002a-",
        "wake-000000000000002a-uff",
        "wake-000000000000002a-uffdx",
        "wake-000000000000002A-uffd",
        "wake-0000000000000000002a-uffd",
        "wake-x00000000000002a-uffd",
        "listen"};
    char name[WAKE_PARK_NAME_BYTES];
    enum wake_park_role role = WAKE_PARK_ROLES;
    uint64_t id = 0;
    wake_park_name(42, WAKE_PARK_UFFD, name);
    is_str(name, "wake-000000000000002a-uffd", "a name");
    for (unsigned i = 0; i < WAKE_PARK_ROLES; i++) {
        wake_park_name(UINT64_MAX - i, i, name);
        ok(wake_park_name_parse(name, &id, &role) && id == UINT64_MAX - i && role == i,
           "%s is understood", name);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        ok(!wake_park_name_parse(wrong[i], &id, &role), "\"%s\" is not", wrong[i]);
}

static void
test_state(void)
{
    struct wake_state *state = NULL;
    struct wake_state *same = NULL;
    int fd = new_state(&state);
    unsigned wrong = 0;
    ok(fd >= 0, "a state is made");
    for (uint64_t page = 0; page < PAGES; page++) {
        wrong += wake_state_is_removed(state, page) || wake_state_is_given(state, page);
        if (page % 3 == 0)
            wake_state_set_removed(state, page);
        if (page % 5 == 0)
            wake_state_set_given(state, page);
    }
    is_int(wrong, 0, "nothing is marked at first");
    ok(wake_state_map(fd, &same) == 0, "another process maps it");
    for (uint64_t page = 0; page < PAGES; page++)
        wrong += wake_state_is_removed(same, page) != (page % 3 == 0) ||
                 wake_state_is_given(same, page) != (page % 5 == 0);
    is_int(wrong, 0, "and finds each mark");
    ok(memcmp(&same->mappings, &mappings, sizeof mappings) == 0, "the mappings");
    is_str(same->snapshot, "one", "the snapshot's name");
    ok(same->snapshot_id == 7 && same->page_count == PAGES, "and which one it is");
    ok(ftruncate(fd, 0) != 0 && errno == EPERM, "nobody can cut the file");
    wake_state_unmap(same);
    wake_state_unmap(state);
    wake_state_unmap(NULL);
    close(fd);
}

/* A state with one field changed is refused, and so is what is none at all. */
static void
test_damage(void)
{
    struct wake_state *state = NULL;
    struct wake_state *none = NULL;
    int fd = new_state(&state);
    struct wake_state sound = *state;
    struct stat info;
    fstat(fd, &info);
    state->magic++;
    is_int(wake_state_map(fd, &none), DOR_E_UNSUPPORTED, "another magic");
    *state = sound;
    state->version++;
    is_int(wake_state_map(fd, &none), DOR_E_UNSUPPORTED, "another version");
    *state = sound;
    state->page_count += 64;
    is_int(wake_state_map(fd, &none), DOR_E_UNSUPPORTED, "more pages than there are bits");
    state->page_count = UINT64_MAX;
    is_int(wake_state_map(fd, &none), DOR_E_UNSUPPORTED, "pages without end");
    *state = sound;
    state->mappings.count = WAKE_MAPPINGS_MAX + 1;
    is_int(wake_state_map(fd, &none), DOR_E_UNSUPPORTED, "too many mappings");
    state->mappings.count = 0;
    is_int(wake_state_map(fd, &none), DOR_E_UNSUPPORTED, "no mappings");
    *state = sound;
    memset(state->snapshot, 'x', sizeof state->snapshot);
    is_int(wake_state_map(fd, &none), DOR_E_UNSUPPORTED, "a name without end");
    *state = sound;
    ok(wake_state_map(fd, &none) == 0, "as it was, it is fine");
    wake_state_unmap(none);
    wake_state_unmap(state);
    close(fd);
    fd = memfd_create("short", MFD_CLOEXEC);
    is_int(wake_state_map(fd, &none), DOR_E_CORRUPT, "an empty file");
    ok(ftruncate(fd, info.st_size) == 0, "a file of zeros");
    is_int(wake_state_map(fd, &none), DOR_E_UNSUPPORTED, "is none");
    close(fd);
    is_int(wake_state_map(-1, &none), DOR_E_IO, "no file");
}

static void
test_parked(void)
{
    struct wake_parked parked = {.id = 1, .fds = {-1, -1, -1, -1}};
    struct wake_state *state = NULL;
    ok(!wake_parked_is_gone(&parked), "without a state nobody is said to be gone");
    parked.fds[WAKE_PARK_STATE] = new_state(&state);
    parked.fds[WAKE_PARK_UFFD] = memfd_create("no uffd", MFD_CLOEXEC);
    ok(!wake_parked_is_gone(&parked), "nor with a descriptor that is no userfaultfd");
    int fd = parked.fds[WAKE_PARK_UFFD];
    wake_parked_close(&parked);
    ok(fcntl(fd, F_GETFD) < 0 && parked.fds[WAKE_PARK_UFFD] == -1, "all are closed");
    wake_parked_close(&parked);
    wake_state_unmap(state);
}

int
main(void)
{
    test_names();
    test_state();
    test_damage();
    test_parked();
    return done_testing();
}
