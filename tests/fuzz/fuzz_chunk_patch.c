/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_chunk_patch.c - the input is a count of slides (1 byte) and a patch against a fixed page.
 * What applies gives the same page again, does without slides when it says so, and the page it
 * made survives being encoded anew.
 */
#include "chunk/patch.h"
#include "mend.h"

static uint8_t base[DOR_PAGE_BYTES];
static struct chunk_slides no_slides;

static void
make_base(void)
{
    uint64_t v = 1;
    for (unsigned word = 0; word < sizeof base / 8; word++) {
        v = v * UINT64_C(6364136223846793005) + 1442695040888963407;
        base_le64_put(
            base + 8 * (size_t)word, word % 3 == 0 ? v : UINT64_C(0x7f0000000000) + word);
    }
}

static void
make_slides(unsigned count, struct chunk_slides *slides)
{
    memset(slides, 0, sizeof *slides);
    for (unsigned i = 0; i < count; i++)
        chunk_slides_add(slides, (uint64_t)(i + 1) << 12);
}

static void
check_encode(const struct chunk_slides *slides, const uint8_t *target)
{
    static const enum chunk_patch_effort efforts[] = {CHUNK_PATCH_WORDS, CHUNK_PATCH_FULL};
    for (unsigned i = 0; i < 2; i++) {
        uint8_t patch[CHUNK_PATCH_BYTES_MAX];
        uint8_t back[DOR_PAGE_BYTES];
        size_t bytes = chunk_patch_encode(slides, target, base, efforts[i], patch);
        dor_assert(bytes > 0 && bytes <= sizeof patch);
        dor_assert(chunk_patch_apply(slides, patch, bytes, base, back) == 0);
        dor_assert(memcmp(back, target, sizeof back) == 0);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    if (size_bytes < 1)
        return 0;
    if (base[0] == 0 && base[1] == 0)
        make_base();
    struct chunk_slides slides;
    make_slides(data[0] % (CHUNK_SLIDES_MAX + 1), &slides);
    uint8_t target[DOR_PAGE_BYTES];
    uint8_t again[DOR_PAGE_BYTES];
    bool uses_slides = chunk_patch_uses_slides(data + 1, size_bytes - 1);
    if (chunk_patch_apply(&slides, data + 1, size_bytes - 1, base, target) != 0)
        return 0;
    const struct chunk_slides *needed = uses_slides ? &slides : &no_slides;
    dor_assert(chunk_patch_apply(needed, data + 1, size_bytes - 1, base, again) == 0);
    dor_assert(memcmp(target, again, sizeof target) == 0);
    check_encode(&slides, target);
    return 0;
}
