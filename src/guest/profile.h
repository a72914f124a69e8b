/* SPDX-License-Identifier: Apache-2.0 */
/*
 * profile.h - what is known of one build of Linux: offsets of members, sizes of arrays, constants,
 * places of symbols. It depends on nothing but the build, so that what one guest or one vmlinux
 * tells holds for every guest of the same build id, wherever its kernel was loaded.
 *
 * A profile file is text, named BUILD-ID.profile:
 *
 *     dormouse-profile 1
 *     build-id eb4fbcd037e7253717950bf2b93bd5566f47c56f
 *     task_tasks 2216
 *     ...
 *     init_task 27656640
 *
 * Ownership:  caller's memory, nothing to be freed.
 * Threads:    any.
 * Errors:     DOR_E_CORRUPT for text that is no profile; DOR_E_NOT_FOUND; what the system says.
 */
#ifndef DOR_GUEST_PROFILE_H
#define DOR_GUEST_PROFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

enum guest_number {
#define MEMBER(name, ...) GUEST_##name,
#define COUNT(name, ...)  GUEST_##name,
#define VALUE(name, ...)  GUEST_##name,
#define SYMBOL(name)
#include "guest/profile.def"
#undef MEMBER
#undef COUNT
#undef VALUE
#undef SYMBOL
    GUEST_NUMBERS
};

enum guest_symbol {
#define MEMBER(...)
#define COUNT(...)
#define VALUE(...)
#define SYMBOL(name) GUEST_SYMBOL_##name,
#include "guest/profile.def"
#undef MEMBER
#undef COUNT
#undef VALUE
#undef SYMBOL
    GUEST_SYMBOLS
};

enum guest_row_kind { GUEST_MEMBER, GUEST_COUNT, GUEST_VALUE };

/* A row of profile.def other than a symbol. */
struct guest_row {
    const char *name, *owner, *path;
    enum guest_row_kind kind;
    uint32_t bytes; /* of a member */
};

extern const struct guest_row guest_rows[GUEST_NUMBERS];
extern const char *const guest_symbol_names[GUEST_SYMBOLS];

enum { GUEST_UNKNOWN = -1, GUEST_BUILD_ID_BYTES = 64, GUEST_NUMBER_MAX = 1 << 20 };

#define GUEST_SYMBOL_UNKNOWN INT64_MIN
#define GUEST_SYMBOL_MAX     (INT64_C(1) << 30)

struct guest_profile {
    char build_id[GUEST_BUILD_ID_BYTES]; /* "" when not known */
    int32_t numbers[GUEST_NUMBERS]; /* GUEST_UNKNOWN or 0 ... GUEST_NUMBER_MAX; see clean */
    int64_t symbols[GUEST_SYMBOLS]; /* GUEST_SYMBOL_UNKNOWN or within a GiB of _stext */
};

/* Nothing is known. */
void guest_profile_init(struct guest_profile *profile);

static inline bool
guest_knows(const struct guest_profile *profile, enum guest_number number)
{
    return profile->numbers[number] >= 0;
}

/* The number as an offset; only after guest_knows() or guest_profile_has_tasks(). */
static inline uint64_t
guest_offset(const struct guest_profile *profile, enum guest_number number)
{
    return (uint64_t)profile->numbers[number];
}

/* The address of SYMBOL in a kernel whose _stext is at STEXT; false when it is not known. */
bool guest_profile_symbol(
    const struct guest_profile *profile, enum guest_symbol symbol, uint64_t stext,
    uint64_t *ret);

/* Whether tasks, mappings and files can be read by it, given init_task. */
bool guest_profile_has_tasks(const struct guest_profile *profile);

/* Whether mappings are in a maple tree, as since 6.1, all of whose nodes' members are known. */
bool guest_profile_has_tree(const struct guest_profile *profile);

/* Forget numbers that exceed what they may index; true when there were none. */
bool guest_profile_clean(struct guest_profile *profile);

/* Take from FROM what PROFILE does not know. */
void guest_profile_merge(struct guest_profile *profile, const struct guest_profile *from);

/* Whether TEXT may be a build id: 8 to 63 hexadecimal digits. */
bool guest_build_id_fits(const char *text);

DOR_MUST_CHECK int
guest_profile_parse(const char *text, size_t size_bytes, struct guest_profile *ret);
DOR_MUST_CHECK int
guest_profile_print(const struct guest_profile *profile, struct base_buf *buf);

/* The profile of BUILD_ID in DIRECTORY; DOR_E_NOT_FOUND when there is none. */
DOR_MUST_CHECK int
guest_profile_load(const char *directory, const char *build_id, struct guest_profile *ret);

/* Keep it there, in one step that a crash cannot split. The directory must exist. */
DOR_MUST_CHECK int
guest_profile_save(const char *directory, const struct guest_profile *profile);

#endif
