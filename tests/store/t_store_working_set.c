/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_store_working_set.c - the file of a working set: it comes back as it was written, lives and
 * dies with its snapshot, and when it is damaged that costs the lesson and nothing else.
 */
#include "base/log.h"
#include "store/tree.h"
#include "store/working_sets.h"

enum { PAGES = 1000 };

static struct base_random rng;
static struct image image;

/* ------------------------------------------------------------------ what is in a set */

static void
test_histories(void)
{
    ok(!store_set_history_is_in(0) && !store_set_history_is_in(1), "no history is not in");
    ok(store_set_history_is_in(3), "needed by the only wake");
    ok(store_set_history_is_in(5) && store_set_history_is_in(9), "by one of two, of three");
    ok(!store_set_history_is_in(17), "by one of four: no longer");
    ok(store_set_history_is_in(0x80 | 7) && !store_set_history_is_in(0x80 | 3),
       "three of seven are enough, two are not");
    is_int(store_set_history_wakes(0xff), 7, "seven wakes are remembered");
}

static void
test_order(void)
{
    struct store_set_window windows[] = {
        {.window = 0, .pages = 1, .rank_count = 3, .ranks = {255, 9, 0}, .histories = {3}},
        {.window = 1, .pages = 3, .rank_count = 1, .ranks = {8}, .histories = {3, 17}},
        {.window = 2, .pages = 0x8001, .rank_count = 1, .ranks = {8}, .histories = {3}},
    };
    windows[2].histories[15] = 3;
    struct store_working_set set = {.wakes = 3, .window_count = 3, .windows = windows};
    struct dor_working_set_run *runs = NULL;
    size_t count = 0;
    is_ok(store_working_set_runs(&set, STORE_SET_NO_TURN, &runs, &count), "runs are made");
    is_int(count, 4, "one for each piece");
    ok(runs[0].first_page == 16 && runs[0].page_count == 1, "windows of a rank by address");
    ok(runs[1].first_page == 32 && runs[2].first_page == 47, "pages between are left out");
    ok(runs[3].first_page == 0, "the median of the ranks counts, not the latest");
    base_free(runs);
}

/* Every window is left out in one turn, and only in that. */
static void
test_turns(void)
{
    struct store_working_set set = random_set(&rng, PAGES);
    struct dor_working_set_run *runs = NULL;
    size_t count = 0;
    uint64_t all = 0;
    uint64_t given = 0;
    is_ok(store_working_set_runs(&set, STORE_SET_NO_TURN, &runs, &count), "the whole set");
    for (size_t i = 0; i < count; i++)
        all += runs[i].page_count;
    base_free(runs);
    for (uint64_t turn = 7; turn < 7 + STORE_SET_TURNS; turn++) {
        if (store_working_set_runs(&set, turn, &runs, &count) != 0)
            bail("%s", dor_err_message());
        for (size_t i = 0; i < count; i++)
            given += runs[i].page_count;
        base_free(runs);
    }
    is_int(given, (STORE_SET_TURNS - 1) * all, "each page misses one turn");
    store_working_set_fini(&set);
}

/* ------------------------------------------------------------------ the file */

static void
test_round_trip(void)
{
    struct store_set_key key = {.uuid = {1, 2, 3}, .snapshot_id = 9};
    unsigned wrong = 0;
    for (unsigned i = 0; i < 200; i++) {
        AUTO_BUF struct base_buf file = {0};
        struct store_working_set got = {0};
        key.page_count = 1 + base_random_below(&rng, PAGES);
        struct store_working_set set = random_set(&rng, key.page_count);
        wrong += store_working_set_encode(&key, &set, &file) != 0 ||
                 store_working_set_decode(&key, file.data, file.size_bytes, &got) != 0 ||
                 !sets_are_same(&set, &got);
        store_working_set_fini(&got);
        store_working_set_fini(&set);
    }
    is_int(wrong, 0, "what is written is read");
}

static int
decode_with(const struct store_set_key *key, const struct base_buf *file)
{
    struct store_working_set set = {0};
    int err = store_working_set_decode(key, file->data, file->size_bytes, &set);
    store_working_set_fini(&set);
    return err;
}

static void
test_strangers(void)
{
    struct store_set_key key = {.uuid = {1}, .snapshot_id = 9, .page_count = PAGES};
    struct store_set_key other = key;
    AUTO_BUF struct base_buf file = {0};
    struct store_working_set set = random_set(&rng, PAGES);
    is_ok(store_working_set_encode(&key, &set, &file), "a file");
    store_working_set_fini(&set);
    other.uuid[3] ^= 1;
    is_int(decode_with(&other, &file), DOR_E_CORRUPT, "is not another store's");
    other = key;
    other.snapshot_id++;
    is_int(decode_with(&other, &file), DOR_E_CORRUPT, "nor another snapshot's");
    other = key;
    other.page_count--;
    is_int(decode_with(&other, &file), DOR_E_CORRUPT, "nor of another size");
    unsigned wrong = 0;
    for (size_t i = 0; i < file.size_bytes; i++) {
        uint8_t kept = file.data[i];
        file.data[i] ^= (uint8_t)(1 + base_random_below(&rng, 255));
        int want = i == 7 ? DOR_E_UNSUPPORTED : DOR_E_CORRUPT;
        wrong += decode_with(&key, &file) != want;
        file.data[i] = kept;
    }
    is_int(wrong, 0, "a changed byte anywhere is seen");
    for (; file.size_bytes > 0; file.size_bytes--) {
        struct base_buf cut = {.data = file.data, .size_bytes = file.size_bytes - 1};
        wrong += decode_with(&key, &cut) != DOR_E_CORRUPT;
    }
    is_int(wrong, 0, "so is every cut");
}

/* ------------------------------------------------------------------ with its snapshot */

static unsigned
count_files(const char *folder, const char *prefix)
{
    struct tree tree;
    unsigned count = 0;
    tree_read(&tree, test_path(folder));
    for (size_t i = 0; i < tree.count; i++)
        count += strncmp(tree.files[i].name, prefix, strlen(prefix)) == 0;
    tree_fini(&tree);
    return count;
}

static uint64_t
stat_sets(struct dor_store *store)
{
    struct dor_stat stat = {0};
    if (dor_store_stat(store, &stat) != 0)
        bail("%s", dor_err_message());
    ok(stat.stored_bytes > stat.working_set_bytes &&
           (stat.working_set_bytes > 0) == (stat.working_sets > 0),
       "stat counts their bytes");
    return stat.working_sets;
}

static void
test_life(void)
{
    struct dor_store *store = new_store("life", NULL);
    struct dor_working_set set;
    must_put(store, "a", &image);
    must_put(store, "b", &image);
    is_int(dor_working_set_read(store, "a", &set), DOR_E_NOT_FOUND, "at first there is none");
    is_int(dor_working_set_forget(store, "a"), DOR_E_NOT_FOUND, "and none to forget");
    is_int(dor_working_set_read(store, "c", &set), DOR_E_NOT_FOUND, "no snapshot, no set");
    is_int(stat_sets(store), 0, "none is counted");
    must_teach(&rng, store, "a");
    must_teach(&rng, store, "b");
    is_int(stat_sets(store), 2, "two are counted");
    is_ok(dor_working_set_read(store, "a", &set), "it is read");
    uint64_t pages = 0;
    for (size_t i = 0; i < set.run_count; i++)
        pages += set.runs[i].page_count;
    ok(pages == set.page_count &&
           pages == set.pages_by_share[0] + set.pages_by_share[1] + set.pages_by_share[2],
       "its numbers agree");
    dor_working_set_fini(&set);
    is_ok(dor_store_remove(store, "a"), "rm");
    is_int(count_files("life", "wset."), 1, "takes it away");
    if (put_image(store, "b", &image, &(struct dor_put){.replace = true}, NULL) != 0)
        bail("%s", dor_err_message());
    is_int(count_files("life", "wset."), 0, "so does replacing the snapshot");
    must_teach(&rng, store, "b");
    dor_store_close(store);
    store = open_store(test_path("life"), DOR_OPEN_READ);
    is_ok(dor_working_set_forget(store, "b"), "a reader may forget it");
    is_int(count_files("life", "wset."), 0, "and it is gone");
    dor_store_close(store);
}

/* What a reader that was killed left, and the set of a snapshot that is gone. */
static void
test_leftovers(void)
{
    struct dor_store *store = new_store("leftovers", NULL);
    must_put(store, "a", &image);
    must_teach(&rng, store, "a");
    struct store_set_key key = key_of(store, "a");
    struct store_working_set set = random_set(&rng, PAGES);
    key.snapshot_id += 7;
    is_ok(store_working_set_write(&key, &set), "a set without a snapshot");
    dor_store_close(store);
    FILE *half = fopen(test_path("leftovers/wset.0000000000000001.0badcafe"), "w");
    if (half == NULL || fclose(half) != 0)
        bail("no file");
    is_int(count_files("leftovers", "wset."), 3, "and a half-written one");
    store = open_store(test_path("leftovers"), DOR_OPEN_WRITE);
    is_int(count_files("leftovers", "wset."), 1, "are removed by the next writer");
    ok(!has_set(store, "a", &set), "the one that is named stays");
    struct dor_working_set told;
    is_ok(dor_working_set_read(store, "a", &told), "and can be read");
    dor_working_set_fini(&told);
    store_working_set_fini(&set);
    dor_store_close(store);
}

static void
test_copy(void)
{
    struct dor_store *source = new_store("source", NULL);
    struct dor_store *target;
    struct dor_put_result result;
    if (dor_store_open_memory(NULL, &target) != 0)
        bail("%s", dor_err_message());
    must_put(source, "a", &image);
    struct store_set_key key = key_of(source, "a");
    struct store_working_set set = random_set(&rng, PAGES);
    is_ok(store_working_set_write(&key, &set), "a set");
    is_ok(dor_store_copy(source, "a", target, "copied", &result), "is copied");
    ok(has_set(target, "copied", &set), "with its snapshot, to memory");
    is_ok(dor_working_set_forget(target, "copied"), "where it can be forgotten");
    ok(!has_set(target, "copied", &set), "too");
    store_working_set_fini(&set);
    dor_store_close(target);
    dor_store_close(source);
}

static void
damage(const char *path)
{
    FILE *file = fopen(path, "r+");
    if (file == NULL || fseek(file, 40, SEEK_SET) != 0 || fputc(0xee, file) == EOF ||
        fclose(file) != 0)
        bail("%s cannot be damaged", path);
}

static void
test_damage(void)
{
    struct dor_store *store = new_store("damage", NULL);
    struct dor_check check = {0};
    struct dor_check_result result = {0};
    struct dor_working_set set;
    must_put(store, "a", &image);
    must_teach(&rng, store, "a");
    is_ok(dor_store_check(store, &check, &result), "check");
    is_int(result.findings, 0, "has nothing against a good one");
    damage(test_path("damage/wset.0000000000000001"));
    is_int(dor_working_set_read(store, "a", &set), DOR_E_CORRUPT, "a damaged one is refused");
    is_ok(dor_store_check(store, &check, &result), "check");
    ok(result.findings == 1 && result.damaged_snapshots == 0,
       "finds it, and the snapshot good");
    ok(reads_back(store, "a", &image), "which reads as ever");
    check.repair = true;
    is_ok(dor_store_check(store, &check, &result), "repair");
    ok(result.findings == 1 && result.quarantined_snapshots == 0, "tells it");
    is_int(count_files("damage", "bad.wset."), 1, "puts it aside");
    is_int(dor_working_set_read(store, "a", &set), DOR_E_NOT_FOUND, "and it is learnt anew");
    dor_store_close(store);
}

int
main(void)
{
    work_in_memory();
    base_log_level_set(LOG_LEVEL_ERROR);
    base_random_init(&rng, tap_seed());
    image_make(&rng, &image, PAGES);
    test_histories();
    test_order();
    test_turns();
    test_round_trip();
    test_strangers();
    test_life();
    test_leftovers();
    test_copy();
    test_damage();
    image_fini(&image);
    return done_testing();
}
