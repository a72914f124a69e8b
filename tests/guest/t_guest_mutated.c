/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_guest_mutated.c - a real guest's memory with words changed where an inspection looks: in page
 * tables, page records, and in what can be reached from its tasks. However it is told, the
 * inspection comes back. The guest is pyjson-a of the build folder's guests.
 */
#include <dirent.h>
#include <fcntl.h>
#include <libgen.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/random.h"
#include "guest/choose.h"
#include "guest/inspect_priv.h"
#include "guest/profile.h"
#include "guest/tasks.h"
#include "tap.h"

enum { RUNS = 300, WORDS_MAX = 1000, PAGES_MAX = 6000, WORDS_IN_PAGE = 512, REACH_DEPTH = 2 };

/* Pages of one kind, by row. */
struct pages {
    uint64_t rows[PAGES_MAX];
    size_t count;
};

struct target {
    uint8_t *bytes;
    struct dor_image_range range;
    struct dor_image_info info;
    struct pages tables, records, reached;
};

struct change {
    uint8_t *at;
    uint64_t before;
};

static void
add_page(struct pages *pages, uint64_t row)
{
    for (size_t i = 0; i < pages->count; i++)
        if (pages->rows[i] == row)
            return;
    if (pages->count < PAGES_MAX)
        pages->rows[pages->count++] = row;
}

static void
open_target(struct target *target)
{
    char path[600];
    char program[512];
    struct stat status;
    const char *given = getenv("DORMOUSE");
    snprintf(program, sizeof program, "%s", given == NULL ? "build/dormouse" : given);
    snprintf(path, sizeof path, "%s/guests/pyjson-a/mem", dirname(program));
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) != 0)
        skip_all("there is no guest pyjson-a; tools/guest/corpus makes it");
    size_t bytes = (size_t)status.st_size;
    target->bytes = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    close(fd);
    if (target->bytes == MAP_FAILED)
        bail("cannot map %s", path);
    target->range =
        (struct dor_image_range){.page_count = bytes / DOR_PAGE_BYTES, .data = target->bytes};
    target->info = (struct dor_image_info){
        .format = DOR_IMAGE_RAW,
        .page_count = bytes / DOR_PAGE_BYTES,
        .ranges = &target->range,
        .range_count = 1,
    };
}

/* Whatever in the pages from FIRST on looks like an address leads to a page, too. */
static void
reach_more(struct target *target, struct guest_look *look, size_t first)
{
    size_t end = target->reached.count;
    for (size_t i = first; i < end; i++)
        for (size_t word = 0; word < WORDS_IN_PAGE; word++) {
            uint64_t address = base_le64_get(
                target->bytes + target->reached.rows[i] * DOR_PAGE_BYTES + word * 8);
            uint64_t physical;
            if (address >> 63 != 0 &&
                guest_tables_address(&look->kernel.tables, address, &physical) &&
                physical / DOR_PAGE_BYTES < target->info.page_count)
                add_page(&target->reached, physical / DOR_PAGE_BYTES);
        }
}

static void
find_reached(struct target *target, struct guest_look *look)
{
    uint64_t first;
    uint64_t physical;
    if (!guest_tasks_find_first(look, &first) ||
        !guest_tables_address(
            &look->kernel.tables, first + guest_offset(&look->profile, GUEST_task_tasks),
            &physical))
        bail("the guest has no tasks");
    add_page(&target->reached, physical / DOR_PAGE_BYTES);
    size_t done = 0;
    for (unsigned depth = 0; depth < REACH_DEPTH; depth++) {
        size_t end = target->reached.count;
        reach_more(target, look, done);
        done = end;
    }
}

static void
find_records(struct target *target, struct guest_look *look)
{
    for (uint64_t pfn = 0; pfn < target->info.page_count; pfn += 64) {
        uint64_t physical;
        if (guest_tables_address(
                &look->kernel.tables, look->kernel.vmemmap + pfn * 64, &physical))
            add_page(&target->records, physical / DOR_PAGE_BYTES);
    }
}

/* Where to change words, from a first inspection that also leaves a profile. */
static void
find_places(struct target *target)
{
    const struct dor_inspect options = {.profile_directory = tap_dir()};
    struct dor_inspection *inspection;
    struct guest_look look = {.info = &target->info, .options = &options};
    if (guest_inspect(NULL, &target->info, &options, &inspection) != 0 ||
        inspection->tier != DOR_TIER_FULL)
        bail("the guest cannot be inspected");
    for (uint64_t row = 0; row < inspection->page_count; row++)
        if (inspection->pages[row].page_class == DOR_CLASS_PAGE_TABLE)
            add_page(&target->tables, row);
    if (guest_survey_make(NULL, NULL, &target->info, &look.survey) != 0 ||
        guest_choose_kernel(&look) != 0 || !look.has_kernel ||
        guest_profile_load(options.profile_directory, inspection->build_id, &look.profile) != 0)
        bail("%s", dor_err_message());
    find_reached(target, &look);
    find_records(target, &look);
    guest_look_fini(&look);
    dor_inspection_free(inspection);
    note(
        "%zu pages of tables, %zu of records, %zu reached from tasks", target->tables.count,
        target->records.count, target->reached.count);
}

static uint64_t
other_value(struct base_random *random, const struct target *target, uint64_t value)
{
    uint64_t other = base_random_below(random, target->info.page_count * WORDS_IN_PAGE);
    switch (base_random_below(random, 6)) {
    case 0:
        return value ^ UINT64_C(1) << base_random_below(random, 64);
    case 1:
        return base_random_next(random);
    case 2:
        return base_le64_get(target->bytes + other * 8);
    case 3:
        return value + 8 * base_random_below(random, 1024);
    case 4:
        return base_random_below(random, 2) == 0 ? 0 : UINT64_MAX;
    default:
        return value & 0xfff ? (value & 0xfff) | other * 8 << 12 : other;
    }
}

static struct change
change_word(struct base_random *random, struct target *target)
{
    const struct pages *kinds[] = {
        &target->tables, &target->records, &target->reached, &target->reached};
    const struct pages *pages = kinds[base_random_below(random, ARRAY_LEN(kinds))];
    uint64_t row = pages->rows[base_random_below(random, pages->count)];
    uint8_t *page = target->bytes + row * DOR_PAGE_BYTES;
    struct change change = {.at = page};
    /* A word that holds something, if there is one soon. */
    for (unsigned tries = 0; tries < 32; tries++) {
        change.at = page + base_random_below(random, WORDS_IN_PAGE) * 8;
        change.before = base_le64_get(change.at);
        if (change.before != 0)
            break;
    }
    base_le64_put(change.at, other_value(random, target, change.before));
    return change;
}

int
main(void)
{
    static struct target target;
    static struct change changes[WORDS_MAX];
    struct base_random random;
    unsigned tiers[3] = {0};
    unsigned partial = 0;
    uint64_t slowest_ns = 0;
    open_target(&target);
    base_random_init(&random, tap_seed());
    find_places(&target);
    for (unsigned run = 0; run < RUNS; run++) {
        struct dor_inspection *inspection;
        size_t count = 1 + base_random_below(&random, WORDS_MAX);
        for (size_t i = 0; i < count; i++)
            changes[i] = change_word(&random, &target);
        uint64_t start_ns = base_clock_monotonic_ns();
        int rc = guest_inspect(NULL, &target.info, NULL, &inspection);
        slowest_ns = base_max_u64(slowest_ns, base_clock_monotonic_ns() - start_ns);
        for (size_t i = count; i-- > 0;)
            base_le64_put(changes[i].at, changes[i].before);
        if (rc != 0)
            bail("run %u: %s", run, dor_err_message());
        tiers[inspection->tier]++;
        partial += inspection->partial ? 1 : 0;
        dor_inspection_free(inspection);
    }
    note(
        "tiers: content %u, note %u, full %u; partial %u; slowest %.0f ms", tiers[0], tiers[1],
        tiers[2], partial, (double)slowest_ns / 1e6);
    ok(tiers[DOR_TIER_FULL] > 0 && partial > 0, "%d changed guests are inspected", RUNS);
    return done_testing();
}
