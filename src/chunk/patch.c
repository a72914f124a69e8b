/* SPDX-License-Identifier: Apache-2.0 */
/*
 * patch.c - the two page delta codecs. docs/formats/patch.md has worked bytes.
 *
 *   words         u8 1
 *                 u64 little endian: bit l set = line l (64 bytes) has changed words
 *                 one u8 per set bit, in order: bit w set = word w of that line changed
 *                 one u8 op per changed word, in order
 *                 the literals of the ops, in order
 *   copy/insert   u8 2
 *                 repeat { varint n, n literal bytes; end when 4096 bytes are made;
 *                          varint m, zigzag varint d: copy m bytes of the base from here + d }
 *
 * Ops (t = target word, b = base word, r = recent differences of this page, r0 the latest):
 *   0, 1, 2   t = b + r0, r1, r2; the used one becomes r0
 *   3 low 2 bytes, 4 low 4 bytes, 6 high 4 bytes follow, the others are b's; 5 all 8 bytes follow
 *   16 + k    t = b + slide k
 * All but 0 and 3 push t - b as r0.
 *
 * Invariants
 *  (1) Depth is one: the base of a patch is a page that is stored plain.
 *  (2) The encoder is deterministic: the same three inputs give the same bytes on every machine.
 */
#include "chunk/patch.h"

#include <string.h>

#include "base/err.h"
#include "base/le.h"
#include "base/size.h"
#include "chunk/kernels.h"

enum { CODEC_WORDS = 1, CODEC_COPY = 2 };
enum { OP_RECENT0, OP_RECENT1, OP_RECENT2, OP_LOW2, OP_LOW4, OP_ALL, OP_HIGH4, OP_SLIDE = 16 };

/* Copy/insert is tried on patches larger than this, and must then take less than half the bytes:
 * a patch of changed words packs better in its group than one of literal runs. */
#define COPY_TRY_BYTES     512
#define COPY_WORTH_PERCENT 50

static uint64_t
load_word(const uint8_t *page, unsigned word)
{
    return base_le64_get(page + (size_t)word * 8);
}

struct recent {
    uint64_t delta[3];
};

static void
recent_push(struct recent *recent, uint64_t delta)
{
    recent->delta[2] = recent->delta[1];
    recent->delta[1] = recent->delta[0];
    recent->delta[0] = delta;
}

static void
recent_use(struct recent *recent, unsigned index)
{
    uint64_t delta = recent->delta[index];
    for (unsigned i = index; i > 0; i--)
        recent->delta[i] = recent->delta[i - 1];
    recent->delta[0] = delta;
}

/* The op for target word T over base word B; its literal goes to *LITERALS, which is moved on. */
static uint8_t
encode_word(
    const struct chunk_slides *slides, struct recent *recent, uint64_t t, uint64_t b,
    uint8_t **literals)
{
    uint64_t delta = t - b;
    for (unsigned i = 0; i < 3; i++)
        if (recent->delta[i] == delta) {
            recent_use(recent, i);
            return (uint8_t)(OP_RECENT0 + i);
        }
    int slide = chunk_slides_find(slides, delta);
    uint8_t op;
    if (slide >= 0) {
        op = (uint8_t)(OP_SLIDE + slide);
    } else if (t >> 16 == b >> 16) {
        base_le16_put(*literals, (uint16_t)t);
        *literals += 2;
        return OP_LOW2;
    } else if (t >> 32 == b >> 32) {
        base_le32_put(*literals, (uint32_t)t);
        *literals += 4;
        op = OP_LOW4;
    } else if ((uint32_t)t == (uint32_t)b) {
        base_le32_put(*literals, (uint32_t)(t >> 32));
        *literals += 4;
        op = OP_HIGH4;
    } else {
        base_le64_put(*literals, t);
        *literals += 8;
        op = OP_ALL;
    }
    recent_push(recent, delta);
    return op;
}

static size_t
encode_words(
    const struct chunk_slides *slides, const uint8_t *target, const uint8_t *base, uint8_t *out)
{
    uint8_t masks[CHUNK_PAGE_LINES];
    uint8_t ops[CHUNK_PAGE_WORDS];
    uint8_t literals[DOR_PAGE_BYTES];
    uint8_t *literal_end = literals;
    size_t op_count = 0;
    uint64_t lines = 0;
    struct recent recent = {{0}};
    uint8_t *at = out + 9;
    chunk_kernels()->diff(target, base, masks);
    for (unsigned line = 0; line < CHUNK_PAGE_LINES; line++) {
        if (masks[line] == 0)
            continue;
        lines |= UINT64_C(1) << line;
        *at++ = masks[line];
        for (unsigned mask = masks[line]; mask != 0; mask &= mask - 1) {
            unsigned word = line * 8 + (unsigned)__builtin_ctz(mask);
            ops[op_count++] = encode_word(
                slides, &recent, load_word(target, word), load_word(base, word), &literal_end);
        }
    }
    out[0] = CODEC_WORDS;
    base_le64_put(out + 1, lines);
    memcpy(at, ops, op_count);
    at += op_count;
    size_t literal_bytes = (size_t)(literal_end - literals);
    memcpy(at, literals, literal_bytes);
    return (size_t)(at - out) + literal_bytes;
}

/* ------------------------------------------------------------------ copy/insert */

#define ANCHOR_SLOTS 2048
#define ANCHOR_STEP  4
#define ANCHOR_NONE  UINT16_MAX
#define MISS_STEP    64 /* the longer nothing was found, the larger the steps */

static unsigned
anchor_hash(uint64_t word)
{
    return (unsigned)(word * UINT64_C(0x9e3779b97f4a7c15) >> 53);
}

static void
anchors_build(uint16_t anchors[ANCHOR_SLOTS], const uint8_t *base)
{
    memset(anchors, 0xff, ANCHOR_SLOTS * sizeof anchors[0]);
    for (int at = (int)DOR_PAGE_BYTES - 8; at >= 0; at -= ANCHOR_STEP)
        anchors[anchor_hash(base_le64_get(base + at))] = (uint16_t)at;
}

static size_t
equal_bytes(const uint8_t *left, const uint8_t *right, size_t max)
{
    size_t i = 0;
    for (; i + 8 <= max; i += 8) {
        uint64_t x = base_le64_get(left + i) ^ base_le64_get(right + i);
        if (x != 0)
            return i + (unsigned)__builtin_ctzll(x) / 8;
    }
    while (i < max && left[i] == right[i])
        i++;
    return i;
}

struct copier {
    const uint8_t *target, *base;
    uint16_t anchors[ANCHOR_SLOTS];
    int last_shift;
};

static bool
matches_at(const struct copier *copier, int at, int source)
{
    return source >= 0 && source <= (int)DOR_PAGE_BYTES - 8 &&
           base_le64_get(copier->target + at) == base_le64_get(copier->base + source);
}

/*
 * Where in the base the 8 bytes at AT are found: same place, same shift as last, by anchor; or
 * -1.
 */
static int
find_source(const struct copier *copier, int at)
{
    if (matches_at(copier, at, at))
        return at;
    if (matches_at(copier, at, at + copier->last_shift))
        return at + copier->last_shift;
    uint16_t anchor = copier->anchors[anchor_hash(base_le64_get(copier->target + at))];
    return anchor != ANCHOR_NONE && matches_at(copier, at, anchor) ? anchor : -1;
}

/* Returns the size, or 0 when it would be LIMIT bytes or more. */
static size_t
encode_copy(const uint8_t *target, const uint8_t *base, uint8_t *out, size_t limit)
{
    struct copier copier = {.target = target, .base = base};
    anchors_build(copier.anchors, base);
    uint8_t *to = out;
    int literal_start = 0;
    *to++ = CODEC_COPY;
    for (int at = 0; at <= (int)DOR_PAGE_BYTES - 8;) {
        int source = find_source(&copier, at);
        if (source < 0) {
            at += 1 + (at - literal_start) / MISS_STEP;
            continue;
        }
        size_t room = DOR_PAGE_BYTES - (size_t)(source > at ? source : at);
        size_t run = equal_bytes(target + at, base + source, room);
        while (at > literal_start && source > 0 && target[at - 1] == base[source - 1]) {
            at--;
            source--;
            run++;
        }
        size_t literal_bytes = (size_t)(at - literal_start);
        if ((size_t)(to - out) + literal_bytes + 16 > limit)
            return 0;
        to = base_varint_put(to, literal_bytes);
        memcpy(to, target + literal_start, literal_bytes);
        to = base_varint_put(to + literal_bytes, run);
        to = base_varint_put(to, base_zigzag_encode(source - at));
        copier.last_shift = source - at;
        at += (int)run;
        literal_start = at;
    }
    size_t rest = DOR_PAGE_BYTES - (size_t)literal_start;
    if (rest > 0) {
        if ((size_t)(to - out) + rest + 8 > limit)
            return 0;
        to = base_varint_put(to, rest);
        memcpy(to, target + literal_start, rest);
        to += rest;
    }
    return (size_t)(to - out);
}

size_t
chunk_patch_encode(
    const struct chunk_slides *slides, const void *target, const void *base,
    enum chunk_patch_effort effort, uint8_t out[CHUNK_PATCH_BYTES_MAX])
{
    size_t words_bytes = encode_words(slides, target, base, out);
    if (effort == CHUNK_PATCH_WORDS || words_bytes <= COPY_TRY_BYTES)
        return words_bytes;
    uint8_t copy[DOR_PAGE_BYTES];
    size_t limit = base_min_size(sizeof copy, words_bytes * COPY_WORTH_PERCENT / 100);
    size_t copy_bytes = encode_copy(target, base, copy, limit);
    if (copy_bytes == 0)
        return words_bytes;
    memcpy(out, copy, copy_bytes);
    return copy_bytes;
}

/* ------------------------------------------------------------------ applying */

/*
 * Bits set in COUNT mask bytes, eight at a time: without a popcnt instruction each count is a
 * call.
 */
static size_t
count_bits(const uint8_t *masks, size_t count)
{
    size_t bits = 0;
    for (; count >= 8; count -= 8, masks += 8)
        bits += (size_t)__builtin_popcountll(base_le64_get(masks));
    uint64_t rest = 0;
    memcpy(&rest, masks, count);
    return bits + (size_t)__builtin_popcountll(rest);
}

static int
malformed(const char *what)
{
    return dor_fail(DOR_E_CORRUPT, "patch: %s", what);
}

bool
chunk_patch_uses_slides(const uint8_t *patch, size_t size_bytes)
{
    if (size_bytes < 9 || patch[0] != CODEC_WORDS)
        return false;
    const uint8_t *masks = patch + 9;
    size_t mask_count = (size_t)__builtin_popcountll(base_le64_get(patch + 1));
    if (mask_count > size_bytes - 9)
        return false;
    size_t op_count = count_bits(masks, mask_count);
    for (size_t i = 0; i < op_count && 9 + mask_count + i < size_bytes; i++)
        if (masks[mask_count + i] >= OP_SLIDE)
            return true;
    return false;
}

struct applier {
    const struct chunk_slides *slides;
    const uint8_t *literal, *end;
    struct recent recent;
};

/* The next literal of SIZE_BYTES, or NULL when there is none. */
static inline const uint8_t *
take_literal(struct applier *applier, ptrdiff_t size_bytes)
{
    const uint8_t *literal = applier->literal;
    if (applier->end - literal < size_bytes)
        return NULL;
    applier->literal += size_bytes;
    return literal;
}

/*
 * Turn the base word *WORD into the target's by a literal; false when there is none or no such
 * op.
 */
static inline bool
apply_literal(struct applier *applier, unsigned op, uint64_t *word)
{
    static const uint8_t sizes[OP_SLIDE] = {
        [OP_LOW2] = 2, [OP_LOW4] = 4, [OP_ALL] = 8, [OP_HIGH4] = 4};
    const uint8_t *literal = sizes[op] == 0 ? NULL : take_literal(applier, sizes[op]);
    if (literal == NULL)
        return false;
    uint64_t b = *word;
    if (op == OP_LOW2) {
        *word = (b & ~UINT64_C(0xffff)) | base_le16_get(literal);
        return true;
    }
    if (op == OP_LOW4)
        *word = (b & ~UINT64_C(0xffffffff)) | base_le32_get(literal);
    else if (op == OP_HIGH4)
        *word = (b & UINT64_C(0xffffffff)) | (uint64_t)base_le32_get(literal) << 32;
    else
        *word = base_le64_get(literal);
    recent_push(&applier->recent, *word - b);
    return true;
}

/*
 * Turn the base word *WORD into the target's; false for an op that does not exist or lacks
 * bytes.
 */
static inline bool
apply_word(struct applier *applier, unsigned op, uint64_t *word)
{
    if (op <= OP_RECENT2) {
        if (op != OP_RECENT0)
            recent_use(&applier->recent, op);
        *word += applier->recent.delta[0];
        return true;
    }
    if (op < OP_SLIDE)
        return apply_literal(applier, op, word);
    if (op - OP_SLIDE >= applier->slides->count)
        return false;
    uint64_t delta = applier->slides->slide[op - OP_SLIDE];
    *word += delta;
    recent_push(&applier->recent, delta);
    return true;
}

static int
apply_words(
    const struct chunk_slides *slides, const uint8_t *patch, size_t size_bytes,
    const uint8_t *base, uint8_t *target)
{
    if (size_bytes < 9)
        return malformed("ends early");
    uint64_t lines = base_le64_get(patch + 1);
    const uint8_t *end = patch + size_bytes;
    const uint8_t *masks = patch + 9;
    size_t mask_count = (size_t)__builtin_popcountll(lines);
    if ((size_t)(end - masks) < mask_count)
        return malformed("line masks end early");
    size_t op_count = count_bits(masks, mask_count);
    const uint8_t *ops = masks + mask_count;
    if ((size_t)(end - ops) < op_count)
        return malformed("ops end early");
    struct applier applier = {.slides = slides, .literal = ops + op_count, .end = end};
    memcpy(target, base, DOR_PAGE_BYTES);
    for (; lines != 0; lines &= lines - 1) {
        uint8_t *line = target + (size_t)__builtin_ctzll(lines) * 64;
        for (unsigned mask = *masks++; mask != 0; mask &= mask - 1) {
            uint8_t *word = line + (size_t)__builtin_ctz(mask) * 8;
            uint64_t value = base_le64_get(word);
            if (!apply_word(&applier, *ops++, &value))
                return malformed("an op that is not known or lacks its literal");
            base_le64_put(word, value);
        }
    }
    return applier.literal == end ? 0 : malformed("bytes left over");
}

static int
apply_copy(const uint8_t *patch, size_t size_bytes, const uint8_t *base, uint8_t *target)
{
    const uint8_t *from = patch + 1;
    const uint8_t *end = patch + size_bytes;
    size_t made = 0;
    while (made < DOR_PAGE_BYTES) {
        uint64_t literal_bytes;
        uint64_t run = 0;
        uint64_t shift = 0;
        from = base_varint_get(from, end, &literal_bytes);
        if (from == NULL || literal_bytes > DOR_PAGE_BYTES - made ||
            literal_bytes > (size_t)(end - from))
            return malformed("bad literal run");
        memcpy(target + made, from, literal_bytes);
        from += literal_bytes;
        made += literal_bytes;
        if (made == DOR_PAGE_BYTES)
            break;
        from = base_varint_get(from, end, &run);
        from = from == NULL ? NULL : base_varint_get(from, end, &shift);
        if (from == NULL || run == 0 || run > DOR_PAGE_BYTES - made)
            return malformed("bad copy");
        int64_t distance = base_zigzag_decode(shift);
        int64_t page_bytes = (int64_t)DOR_PAGE_BYTES;
        if (distance < -page_bytes || distance > page_bytes)
            return malformed("copy from outside the base");
        int64_t source = (int64_t)made + distance;
        if (source < 0 || source + (int64_t)run > page_bytes)
            return malformed("copy from outside the base");
        memcpy(target + made, base + source, run);
        made += run;
    }
    return from == end ? 0 : malformed("bytes left over");
}

int
chunk_patch_apply(
    const struct chunk_slides *slides, const uint8_t *patch, size_t size_bytes,
    const void *base, void *target)
{
    if (size_bytes == 0)
        return malformed("empty");
    switch (patch[0]) {
    case CODEC_WORDS:
        return apply_words(slides, patch, size_bytes, base, target);
    case CODEC_COPY:
        return apply_copy(patch, size_bytes, base, target);
    default:
        return malformed("unknown codec");
    }
}
