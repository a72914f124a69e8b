/* SPDX-License-Identifier: Apache-2.0 */
/*
 * profile.c - profiles as text. A file may come from anywhere: numbers are bounded when they are
 * read, and a number that is wrong all the same only makes look-ups fail, for every address made
 * with it is checked again.
 */
#include "guest/profile.h"

#include "base/err.h"
#include "base/file.h"
#include "base/size.h"

#include <ctype.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROFILE_BYTES_MAX = 65536, LINE_BYTES_MAX = 160 };

static const char head[] = "dormouse-profile 1";

const struct guest_row guest_rows[GUEST_NUMBERS] = {
#define MEMBER(name, owner, path, bytes) {#name, owner, path, GUEST_MEMBER, bytes},
#define COUNT(name, owner, path)         {#name, owner, path, GUEST_COUNT, 0},
#define VALUE(name, owner, path)         {#name, owner, path, GUEST_VALUE, 0},
#define SYMBOL(name)
#include "guest/profile.def"
#undef MEMBER
#undef COUNT
#undef VALUE
#undef SYMBOL
};

const char *const guest_symbol_names[GUEST_SYMBOLS] = {
#define MEMBER(...)
#define COUNT(...)
#define VALUE(...)
#define SYMBOL(name) #name,
#include "guest/profile.def"
#undef MEMBER
#undef COUNT
#undef VALUE
#undef SYMBOL
};

void
guest_profile_init(struct guest_profile *profile)
{
    memset(profile->build_id, 0, sizeof profile->build_id);
    for (size_t i = 0; i < GUEST_NUMBERS; i++)
        profile->numbers[i] = GUEST_UNKNOWN;
    for (size_t i = 0; i < GUEST_SYMBOLS; i++)
        profile->symbols[i] = GUEST_SYMBOL_UNKNOWN;
}

bool
guest_profile_symbol(
    const struct guest_profile *profile, enum guest_symbol symbol, uint64_t stext,
    uint64_t *ret)
{
    if (profile->symbols[symbol] == GUEST_SYMBOL_UNKNOWN)
        return false;
    *ret = stext + (uint64_t)profile->symbols[symbol];
    return true;
}

bool
guest_profile_has_tree(const struct guest_profile *profile)
{
    static const enum guest_number tree[] = {
        GUEST_mm_mt,        GUEST_tree_root,   GUEST_range_pivot,  GUEST_range_slot,
        GUEST_arange_pivot, GUEST_arange_slot, GUEST_range_slots,  GUEST_arange_slots,
        GUEST_maple_leaf,   GUEST_maple_range, GUEST_maple_arange,
    };
    bool has_tree = true;
    for (size_t i = 0; i < ARRAY_LEN(tree); i++)
        has_tree &= guest_knows(profile, tree[i]);
    return has_tree;
}

static bool
has_mappings(const struct guest_profile *profile)
{
    return guest_profile_has_tree(profile) ||
           (guest_knows(profile, GUEST_mm_mmap) && guest_knows(profile, GUEST_vma_next));
}

bool
guest_profile_has_tasks(const struct guest_profile *profile)
{
    static const enum guest_number needed[] = {
        GUEST_task_tasks,   GUEST_task_mm,      GUEST_task_pid,     GUEST_task_comm,
        GUEST_mm_pgd,       GUEST_vma_start,    GUEST_vma_end,      GUEST_vma_flags,
        GUEST_vma_file,     GUEST_file_dentry,  GUEST_file_mapping, GUEST_dentry_name,
        GUEST_dentry_alias, GUEST_mapping_host, GUEST_inode_sb,     GUEST_inode_ino,
        GUEST_inode_dentry, GUEST_sb_type,      GUEST_fs_name,      GUEST_page_index,
    };
    for (size_t i = 0; i < ARRAY_LEN(needed); i++)
        if (!guest_knows(profile, needed[i]))
            return false;
    return has_mappings(profile);
}

void
guest_profile_merge(struct guest_profile *profile, const struct guest_profile *from)
{
    for (size_t i = 0; i < GUEST_NUMBERS; i++)
        if (profile->numbers[i] == GUEST_UNKNOWN)
            profile->numbers[i] = from->numbers[i];
    for (size_t i = 0; i < GUEST_SYMBOLS; i++)
        if (profile->symbols[i] == GUEST_SYMBOL_UNKNOWN)
            profile->symbols[i] = from->symbols[i];
}

bool
guest_profile_clean(struct guest_profile *profile)
{
    static const struct {
        enum guest_number number;
        int32_t least, most;
    } bounds[] = {
        {GUEST_range_slots, 1, 64},     {GUEST_arange_slots, 1, 64},
        {GUEST_pcp_list_count, 1, 256}, {GUEST_pg_dirty, 0, 63},
        {GUEST_pg_reserved, 0, 63},     {GUEST_pg_head, 0, 63},
        {GUEST_maple_leaf, 0, 15},      {GUEST_maple_range, 0, 15},
        {GUEST_maple_arange, 0, 15},    {GUEST_type_table, 0, 255},
        {GUEST_type_slab, 0, 255},      {GUEST_range_pivot, 0, 4096},
        {GUEST_range_slot, 0, 4096},    {GUEST_arange_pivot, 0, 4096},
        {GUEST_arange_slot, 0, 4096},
    };
    bool clean = true;
    for (size_t i = 0; i < ARRAY_LEN(bounds); i++) {
        int32_t number = profile->numbers[bounds[i].number];
        if (number != GUEST_UNKNOWN && (number < bounds[i].least || number > bounds[i].most)) {
            profile->numbers[bounds[i].number] = GUEST_UNKNOWN;
            clean = false;
        }
    }
    return clean;
}

bool
guest_build_id_fits(const char *text)
{
    size_t digits = strspn(text, "0123456789abcdef");
    return text[digits] == '\0' && digits >= 8 && digits < GUEST_BUILD_ID_BYTES;
}

/* One line "name value"; false when it is not. Names of later versions are passed over. */
static bool
parse_row(const char *name, const char *value, struct guest_profile *profile)
{
    char *end;
    long long number = strtoll(value, &end, 10);
    if ((!isdigit((unsigned char)value[0]) && value[0] != '-') || *end != '\0')
        return false;
    for (size_t i = 0; i < GUEST_NUMBERS; i++)
        if (strcmp(name, guest_rows[i].name) == 0) {
            profile->numbers[i] = (int32_t)number;
            return number >= 0 && number <= GUEST_NUMBER_MAX;
        }
    for (size_t i = 0; i < GUEST_SYMBOLS; i++)
        if (strcmp(name, guest_symbol_names[i]) == 0) {
            profile->symbols[i] = number;
            return number >= -GUEST_SYMBOL_MAX && number <= GUEST_SYMBOL_MAX;
        }
    return true;
}

static bool
parse_line(char *line, struct guest_profile *profile)
{
    char *value = strchr(line, ' ');
    if (value == NULL)
        return false;
    *value++ = '\0';
    if (strcmp(line, "build-id") != 0)
        return parse_row(line, value, profile);
    if (!guest_build_id_fits(value))
        return false;
    snprintf(profile->build_id, sizeof profile->build_id, "%s", value);
    return true;
}

int
guest_profile_parse(const char *text, size_t size_bytes, struct guest_profile *ret)
{
    struct guest_profile profile;
    unsigned number = 0;
    guest_profile_init(&profile);
    for (const char *end = text + size_bytes; text < end; number++) {
        char line[LINE_BYTES_MAX];
        const char *next = memchr(text, '\n', (size_t)(end - text));
        size_t line_bytes = (size_t)((next == NULL ? end : next) - text);
        if (line_bytes >= sizeof line || memchr(text, '\0', line_bytes) != NULL)
            return dor_fail(
                DOR_E_CORRUPT, "profile: line %u is too long or binary", number + 1);
        memcpy(line, text, line_bytes);
        line[line_bytes] = '\0';
        if (number == 0 ? strcmp(line, head) != 0 : !parse_line(line, &profile))
            return dor_fail(DOR_E_CORRUPT, "profile: line %u makes no sense", number + 1);
        text += base_min_size(line_bytes + 1, (size_t)(end - text));
    }
    if (number == 0 || !guest_profile_clean(&profile))
        return dor_fail(DOR_E_CORRUPT, "profile: empty, or numbers that cannot be");
    *ret = profile;
    return 0;
}

static int
print_line(struct base_buf *buf, const char *name, int64_t value)
{
    char line[LINE_BYTES_MAX];
    int used = snprintf(line, sizeof line, "%s %" PRId64 "\n", name, value);
    return base_buf_append(buf, line, (size_t)used);
}

int
guest_profile_print(const struct guest_profile *profile, struct base_buf *buf)
{
    char line[LINE_BYTES_MAX];
    int used = snprintf(line, sizeof line, "%s\nbuild-id %s\n", head, profile->build_id);
    int rc = base_buf_append(buf, line, (size_t)used);
    for (size_t i = 0; i < GUEST_NUMBERS && rc == 0; i++)
        if (profile->numbers[i] != GUEST_UNKNOWN)
            rc = print_line(buf, guest_rows[i].name, profile->numbers[i]);
    for (size_t i = 0; i < GUEST_SYMBOLS && rc == 0; i++)
        if (profile->symbols[i] != GUEST_SYMBOL_UNKNOWN)
            rc = print_line(buf, guest_symbol_names[i], profile->symbols[i]);
    return rc;
}

static void
file_name(const char *build_id, char name[LINE_BYTES_MAX])
{
    snprintf(name, LINE_BYTES_MAX, "%s.profile", build_id);
}

int
guest_profile_load(const char *directory, const char *build_id, struct guest_profile *ret)
{
    char name[LINE_BYTES_MAX];
    struct guest_profile profile;
    AUTO_BUF struct base_buf buf = {0};
    AUTO_CLOSE int dir = -1;
    guest_profile_init(&profile);
    if (!guest_build_id_fits(build_id))
        return dor_fail(DOR_E_NOT_FOUND, "the guest's build id is not known");
    file_name(build_id, name);
    int rc = base_file_open(AT_FDCWD, directory, O_RDONLY | O_DIRECTORY, 0, &dir);
    if (rc == 0)
        rc = base_file_read_all(dir, name, PROFILE_BYTES_MAX, &buf);
    if (rc == 0)
        rc = guest_profile_parse((const char *)buf.data, buf.size_bytes, &profile);
    if (rc == 0 && strcmp(profile.build_id, build_id) != 0)
        rc = dor_fail(DOR_E_CORRUPT, "profile: of another build: %s", profile.build_id);
    if (rc != 0)
        return dor_fail_wrap("%s/%s", directory, name);
    *ret = profile;
    return 0;
}

int
guest_profile_save(const char *directory, const struct guest_profile *profile)
{
    char name[LINE_BYTES_MAX];
    AUTO_BUF struct base_buf buf = {0};
    AUTO_CLOSE int dir = -1;
    if (!guest_build_id_fits(profile->build_id))
        return dor_fail(DOR_E_USAGE, "a profile without a build id cannot be kept");
    file_name(profile->build_id, name);
    int rc = guest_profile_print(profile, &buf);
    if (rc == 0)
        rc = base_file_open(AT_FDCWD, directory, O_RDONLY | O_DIRECTORY, 0, &dir);
    if (rc == 0)
        rc = base_file_replace(dir, name, buf.data, buf.size_bytes);
    return rc == 0 ? 0 : dor_fail_wrap("%s/%s", directory, name);
}
