/* SPDX-License-Identifier: Apache-2.0 */
/*
 * btf.c - BTF by libbpf, behind a check of its own.
 *
 *     offset  size  header field, little-endian
 *          0     2  magic 0xeb9f
 *          2     1  version 1
 *          4     4  bytes of the header: 24
 *          8     4  types: offset after the header, 0
 *         12     4  types: bytes
 *         16     4  strings: offset after the header
 *         20     4  strings: bytes
 *
 * libbpf 1.1 checks that types lie inside their section, but not the numbers by which types name
 * each other, and prints to standard error about kinds it does not know. A guest's bytes pass
 * check_types() first, on a private copy, since a running guest could change them between the two.
 */
#include "guest/btf.h"

#include "base/err.h"
#include "base/le.h"

#include <bpf/btf.h>
#include <string.h>

enum {
    HEADER_BYTES = 24,
    MAGIC = 0xeb9f,
    TYPE_BYTES = 12,
    BTF_BYTES_MAX = 64 << 20,
    DEPTH_MAX = 8,
    PATH_BYTES_MAX = 64,
    STEPS_MAX = 1 << 16,
    STEPS_ALL_MAX = 1 << 22,
};

#define AUTO_BTF __attribute__((cleanup(auto_btf)))

static void
auto_btf(struct btf **btf)
{
    btf__free(*btf);
}

/* Bytes of a type after its first 12; SIZE_MAX for a kind that is not known. */
static size_t
extra_bytes(uint32_t kind, uint32_t count)
{
    switch (kind) {
    case BTF_KIND_PTR:
    case BTF_KIND_FWD:
    case BTF_KIND_TYPEDEF:
    case BTF_KIND_VOLATILE:
    case BTF_KIND_CONST:
    case BTF_KIND_RESTRICT:
    case BTF_KIND_FUNC:
    case BTF_KIND_FLOAT:
    case BTF_KIND_TYPE_TAG:
        return 0;
    case BTF_KIND_INT:
    case BTF_KIND_VAR:
    case BTF_KIND_DECL_TAG:
        return 4;
    case BTF_KIND_ARRAY:
        return 12;
    case BTF_KIND_ENUM:
    case BTF_KIND_FUNC_PROTO:
        return (size_t)count * 8;
    case BTF_KIND_STRUCT:
    case BTF_KIND_UNION:
    case BTF_KIND_DATASEC:
    case BTF_KIND_ENUM64:
        return (size_t)count * 12;
    default:
        return SIZE_MAX;
    }
}

/* Every type is whole and of a known kind. */
static bool
check_types(const uint8_t *types, size_t size_bytes)
{
    size_t at = 0;
    while (at < size_bytes) {
        if (size_bytes - at < TYPE_BYTES)
            return false;
        uint32_t info = base_le32_get(types + at + 4);
        size_t extra = extra_bytes(info >> 24 & 31, info & 0xffff);
        at += TYPE_BYTES;
        if (extra > size_bytes - at)
            return false;
        at += extra;
    }
    return true;
}

/* Header, sections one after the other, strings that begin and end with NUL. */
static bool
check_btf(const uint8_t *data, size_t size_bytes)
{
    if (size_bytes < HEADER_BYTES || size_bytes > BTF_BYTES_MAX ||
        base_le16_get(data) != MAGIC || data[2] != 1 || base_le32_get(data + 4) != HEADER_BYTES)
        return false;
    uint64_t types = base_le32_get(data + 12);
    uint64_t strings = base_le32_get(data + 20);
    if (base_le32_get(data + 8) != 0 || base_le32_get(data + 16) != types || strings == 0 ||
        HEADER_BYTES + types + strings > size_bytes)
        return false;
    const uint8_t *text = data + HEADER_BYTES + types;
    return text[0] == '\0' && text[strings - 1] == '\0' &&
           check_types(data + HEADER_BYTES, types);
}

/* Unnamed structs inside each other may branch without end: members looked at are counted. */
struct reader {
    const struct btf *btf;
    uint64_t steps_left; /* of one look-up */
    uint64_t all_left;   /* of all together */
};

static const char *
name_at(const struct reader *reader, uint32_t offset)
{
    const char *name = btf__name_by_offset(reader->btf, offset);
    return name == NULL ? "" : name;
}

/* Through const, volatile and typedef. */
static const struct btf_type *
resolve(const struct reader *reader, uint32_t id)
{
    for (unsigned depth = 0; depth < DEPTH_MAX; depth++) {
        const struct btf_type *type = btf__type_by_id(reader->btf, id);
        if (type == NULL)
            return NULL;
        if (!btf_is_mod(type) && !btf_is_typedef(type))
            return type;
        id = type->type;
    }
    return NULL;
}

struct member {
    uint64_t offset; /* bytes */
    const struct btf_type *type;
    uint64_t struct_bytes;
};

/* The member NAME of TYPE, also inside its unnamed structs and unions. */
static bool
find_member(
    struct reader *reader, const struct btf_type *type, const char *name, unsigned depth,
    struct member *ret)
{
    const struct btf_member *members = btf_members(type);
    for (uint32_t i = 0; i < btf_vlen(type) && reader->steps_left > 0; i++) {
        reader->steps_left--;
        reader->all_left--;
        const char *member_name = name_at(reader, members[i].name_off);
        uint64_t offset = btf_member_bit_offset(type, i) / 8;
        if (member_name[0] != '\0' && strcmp(member_name, name) != 0)
            continue;
        const struct btf_type *inner = resolve(reader, members[i].type);
        if (inner == NULL)
            continue;
        if (member_name[0] != '\0') {
            *ret = (struct member){offset, inner, type->size};
            return true;
        }
        if (depth < DEPTH_MAX && btf_is_composite(inner) &&
            find_member(reader, inner, name, depth + 1, ret)) {
            ret->offset += offset;
            ret->struct_bytes = type->size;
            return true;
        }
    }
    return false;
}

/* PATH of LENGTH bytes, names divided by dots. */
static bool
find_path(
    struct reader *reader, const struct btf_type *type, const char *path, size_t length,
    struct member *ret)
{
    char buf[PATH_BYTES_MAX];
    struct member found = {.type = type};
    reader->steps_left = base_min_u64(STEPS_MAX, reader->all_left);
    if (length >= sizeof buf)
        return false;
    memcpy(buf, path, length);
    buf[length] = '\0';
    char *rest = buf;
    for (char *name = strsep(&rest, "."); name != NULL; name = strsep(&rest, ".")) {
        struct member step;
        if (!btf_is_composite(found.type) || !find_member(reader, found.type, name, 0, &step))
            return false;
        found.type = step.type;
        found.offset += step.offset;
    }
    found.struct_bytes = type->size;
    *ret = found;
    return true;
}

/* The first of the paths divided by '|' that there is. */
static bool
find_paths(
    struct reader *reader, const struct btf_type *type, const char *paths, struct member *ret)
{
    for (const char *path = paths; *path != '\0';) {
        size_t length = strcspn(path, "|");
        if (find_path(reader, type, path, length, ret))
            return true;
        path += length;
        path += *path == '|' ? 1 : 0;
    }
    return false;
}

static int32_t
member_number(struct reader *reader, const struct btf_type *type, const struct guest_row *row)
{
    struct member member;
    if (!btf_is_struct(type) || !find_paths(reader, type, row->path, &member))
        return GUEST_UNKNOWN;
    if (row->kind == GUEST_COUNT) {
        uint32_t count = btf_is_array(member.type) ? btf_array(member.type)->nelems : 0;
        return count > 0 && count <= 256 ? (int32_t)count : GUEST_UNKNOWN;
    }
    /* What lies outside its own struct is a lie. */
    if (member.struct_bytes > GUEST_NUMBER_MAX ||
        member.offset + row->bytes > member.struct_bytes)
        return GUEST_UNKNOWN;
    return (int32_t)member.offset;
}

static int32_t
enum_number(
    const struct reader *reader, const struct btf_type *type, const struct guest_row *row)
{
    if (!btf_is_enum(type))
        return GUEST_UNKNOWN;
    const struct btf_enum *values = btf_enum(type);
    for (uint32_t i = 0; i < btf_vlen(type); i++)
        if (strcmp(name_at(reader, values[i].name_off), row->path) == 0)
            return values[i].val >= 0 && values[i].val < 256 ? values[i].val : GUEST_UNKNOWN;
    return GUEST_UNKNOWN;
}

/* All rows about the named struct or enum TYPE; each keeps the first answer. */
static void
read_type(struct reader *reader, const struct btf_type *type, struct guest_profile *profile)
{
    const char *name = name_at(reader, type->name_off);
    for (size_t i = 0; i < GUEST_NUMBERS; i++) {
        const struct guest_row *row = &guest_rows[i];
        if (profile->numbers[i] != GUEST_UNKNOWN || name[0] != row->owner[0] ||
            strcmp(name, row->owner) != 0)
            continue;
        profile->numbers[i] = row->kind == GUEST_VALUE ? enum_number(reader, type, row)
                                                       : member_number(reader, type, row);
    }
}

int
guest_btf_read(const void *data, size_t size_bytes, struct guest_profile *profile)
{
    AUTO_FREE uint8_t *copy = NULL;
    AUTO_BTF struct btf *btf = NULL;
    if (size_bytes <= BTF_BYTES_MAX) {
        copy = base_alloc(size_bytes);
        if (copy == NULL)
            return DOR_E_NO_MEMORY;
        memcpy(copy, data, size_bytes);
    }
    if (copy == NULL || !check_btf(copy, size_bytes))
        return dor_fail(DOR_E_CORRUPT, "type information: not BTF, or damaged");
    uint32_t whole = HEADER_BYTES + base_le32_get(copy + 12) + base_le32_get(copy + 20);
    btf = btf__new(copy, whole);
    if (btf == NULL)
        return dor_fail(DOR_E_CORRUPT, "type information: libbpf does not take it");
    struct reader reader = {.btf = btf, .all_left = STEPS_ALL_MAX};
    for (uint32_t id = 1; id < btf__type_cnt(btf); id++) {
        const struct btf_type *type = btf__type_by_id(btf, id);
        if (btf_is_struct(type) || btf_is_enum(type))
            read_type(&reader, type, profile);
    }
    return 0;
}

/* The candidate at DATA, of which LEFT bytes are there. */
static bool
is_candidate(const uint8_t *data, size_t left, size_t *ret_bytes)
{
    if (left < HEADER_BYTES || base_le32_get(data) != (MAGIC | 1u << 16) ||
        base_le32_get(data + 4) != HEADER_BYTES)
        return false;
    uint64_t types = base_le32_get(data + 12);
    uint64_t bytes = HEADER_BYTES + types + base_le32_get(data + 20);
    if (types < 65536 || bytes > left || !check_btf(data, bytes))
        return false;
    *ret_bytes = bytes;
    return true;
}

/* The read-only pages of the kernel's image as one piece of memory. */
struct image {
    uint64_t first, end; /* physical */
};

static bool
add_leaf(void *context, uint64_t address, const struct guest_leaf *leaf)
{
    struct image *image = context;
    (void)address;
    if (leaf->writable || !leaf->no_execute)
        return true;
    if (image->end == 0)
        image->first = leaf->address;
    image->end = base_max_u64(image->end, leaf->address + (UINT64_C(1) << leaf->shift));
    image->first = base_min_u64(image->first, leaf->address);
    return true;
}

static const uint8_t *
scan_image(struct guest_kernel *kernel, size_t *ret_bytes)
{
    struct image image = {0};
    const struct guest_visit visit = {
        .leaf = add_leaf,
        .context = &image,
        .first = GUEST_KERNEL_IMAGE,
        .end = GUEST_KERNEL_IMAGE_END,
    };
    (void)!guest_tables_visit(&kernel->tables, kernel->tables.top, &visit);
    size_t size_bytes = base_min_u64(image.end - image.first, (uint64_t)BTF_BYTES_MAX * 4);
    const uint8_t *data = guest_memory_at(kernel->memory, image.first, size_bytes);
    if (data == NULL)
        return NULL;
    for (size_t at = 0; at + HEADER_BYTES <= size_bytes; at += 4)
        if (is_candidate(data + at, size_bytes - at, ret_bytes))
            return data + at;
    return NULL;
}

const uint8_t *
guest_btf_find(struct guest_kernel *kernel, uint64_t start, uint64_t stop, size_t *ret_bytes)
{
    if (start != 0 && stop > start && stop - start <= BTF_BYTES_MAX) {
        const uint8_t *data = guest_kernel_at(kernel, start, (size_t)(stop - start));
        if (data != NULL && check_btf(data, (size_t)(stop - start))) {
            *ret_bytes = (size_t)(stop - start);
            return data;
        }
    }
    return scan_image(kernel, ret_bytes);
}
