/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_store_names.c - which names are fine and which are not, for snapshots, domains and parents.
 */
#include "store/images.h"

#define TEN   "0123456789"
#define FIFTY TEN TEN TEN TEN TEN
#define EURO  "\xe2\x82\xac"

static const char *const good[] = {
    "a",
    "-",
    "...",
    ".a",
    "a.",
    " ",
    " a ",
    "~",
    "a b\\c:d*?\"<>|",
    "\xc3\xa9",
    EURO,
    "\xf0\x9f\x90\xad",
    "\xf4\x8f\xbf\xbf",
    "\xed\x9f\xbf",
    "\xee\x80\x80",
    "\xc2\xa0",
    FIFTY FIFTY FIFTY FIFTY,
    FIFTY FIFTY FIFTY TEN TEN TEN TEN "0123456" EURO};

static const struct {
    const char *name;
    const char *why;
} bad[] = {
    {"", "empty"},
    {".", "the directory"},
    {"..", "its parent"},
    {"/", "a slash"},
    {"a/b", "a slash inside"},
    {"a/", "a slash at the end"},
    {"a\n", "a line feed"},
    {"\t", "a tab"},
    {"\x7f", "delete"},
    {"a\x1b[31m", "an escape sequence"},
    {"\xc2\x80", "a C1 control character"},
    {"\xc2\x9f", "the last of them"},
    {FIFTY FIFTY FIFTY FIFTY "x", "201 bytes"},
    {FIFTY FIFTY FIFTY TEN TEN TEN TEN "01234567" EURO, "201 bytes that end in a character"},
    {"\x80", "a lone continuation"},
    {"\xc3", "a character cut short"},
    {"a\xe2\x82", "another"},
    {"\xf0\x9f\x90", "a third"},
    {"\xc0\xaf", "an overlong slash"},
    {"\xc1\xbf", "an overlong letter"},
    {"\xe0\x9f\xbf", "three bytes for two"},
    {"\xf0\x8f\xbf\xbf", "four bytes for three"},
    {"\xed\xa0\x80", "a surrogate"},
    {"\xed\xbf\xbf", "the last surrogate"},
    {"\xf4\x90\x80\x80", "beyond Unicode"},
    {"\xf8\x88\x80\x80\x80", "five bytes"},
    {"\xff", "a byte that is never there"},
};

static void
test_good(struct dor_store *store, const struct image *image)
{
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        struct dor_put put = {.domain = good[i], .parent = i % 2 == 0 ? NULL : good[i]};
        is_ok(dor_name_check(good[i]), "good: %s", good[i]);
        if (put.parent != NULL) {
            struct dor_put first = {.domain = good[i]};
            is_ok(put_image(store, good[i], image, &first, NULL), "it names a parent");
            put.replace = true;
        }
        is_ok(put_image(store, good[i], image, &put, NULL), "it names a snapshot and a domain");
        ok(reads_back(store, good[i], image), "that is found again");
    }
}

static void
test_bad(struct dor_store *store, const struct image *image)
{
    struct dor_snapshot *snapshot = NULL;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct dor_put put = {.domain = bad[i].name};
        is_int(dor_name_check(bad[i].name), DOR_E_USAGE, "bad: %s", bad[i].why);
        is_int(put_image(store, bad[i].name, image, NULL, NULL), DOR_E_USAGE, "not put");
        is_int(put_image(store, "fine", image, &put, NULL), DOR_E_USAGE, "no domain");
        int err = dor_store_remove(store, bad[i].name);
        ok(err == DOR_E_USAGE || err == DOR_E_NOT_FOUND, "not removed");
        err = dor_snapshot_open(store, bad[i].name, &snapshot);
        ok(err == DOR_E_USAGE || err == DOR_E_NOT_FOUND, "not opened");
        put = (struct dor_put){.parent = bad[i].name};
        err = put_image(store, "fine", image, &put, NULL);
        ok(err == DOR_E_USAGE || err == DOR_E_NOT_FOUND, "no parent");
    }
}

int
main(void)
{
    struct base_random rng;
    struct image image;
    base_random_init(&rng, tap_seed());
    image_make(&rng, &image, 4);
    struct dor_store *store = memory_store();
    test_bad(store, &image);
    test_good(store, &image);
    dor_store_close(store);
    image_fini(&image);
    return done_testing();
}
