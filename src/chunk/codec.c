/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec.c - zstd and LZ4 behind one pair of functions. The frame format is zstd's "magicless"
 * one without content size, checksum and dictionary id: 2 to 3 bytes of header instead of 9 to
 * 13, which counts when a group is a few kilobytes; sizes and checksums are in our tables.
 */
#include "chunk/codec.h"

/* ZSTD_f_zstd1_magicless: in the library, exported, not yet "stable" */
#define ZSTD_STATIC_LINKING_ONLY
#include <lz4.h>
#include <lz4hc.h>
#include <string.h>
#include <zstd.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/size.h"

struct chunk_coder {
    ZSTD_CCtx *compressor;
    ZSTD_DCtx *decompressor;
    int level;
    void *lz4hc; /* state of LZ4's high compression */
};

static const char *const codec_names[] = {"none", "zstd", "lz4"};

int
chunk_coder_new(struct chunk_coder **ret)
{
    struct chunk_coder *coder = base_zalloc(sizeof *coder);
    if (coder == NULL)
        return DOR_E_NO_MEMORY;
    coder->compressor = ZSTD_createCCtx();
    coder->decompressor = ZSTD_createDCtx();
    coder->level = INT32_MIN;
    coder->lz4hc = base_alloc((size_t)LZ4_sizeofStateHC());
    if (coder->compressor == NULL || coder->decompressor == NULL || coder->lz4hc == NULL) {
        chunk_coder_free(coder);
        return dor_fail(DOR_E_NO_MEMORY, "no memory for a compressor's context");
    }
    ZSTD_CCtx_setParameter(coder->compressor, ZSTD_c_format, ZSTD_f_zstd1_magicless);
    ZSTD_CCtx_setParameter(coder->compressor, ZSTD_c_contentSizeFlag, 0);
    ZSTD_DCtx_setParameter(coder->decompressor, ZSTD_d_format, ZSTD_f_zstd1_magicless);
    *ret = coder;
    return 0;
}

void
chunk_coder_free(struct chunk_coder *coder)
{
    if (coder == NULL)
        return;
    ZSTD_freeCCtx(coder->compressor);
    ZSTD_freeDCtx(coder->decompressor);
    base_free(coder->lz4hc);
    base_free(coder);
}

size_t
chunk_compress_bound(size_t size_bytes)
{
    dor_assert(size_bytes <= LZ4_MAX_INPUT_SIZE);
    return base_max_size(
        ZSTD_compressBound(size_bytes), (size_t)LZ4_compressBound((int)size_bytes));
}

static int
compress_zstd(
    struct chunk_coder *coder, int level, const void *data, size_t size_bytes, void *out,
    size_t *ret_bytes)
{
    if (level != coder->level) {
        ZSTD_CCtx_setParameter(coder->compressor, ZSTD_c_compressionLevel, level);
        coder->level = level;
    }
    size_t made = ZSTD_compress2(
        coder->compressor, out, chunk_compress_bound(size_bytes), data, size_bytes);
    if (ZSTD_isError(made))
        return dor_fail(DOR_E_NO_MEMORY, "zstd: %s", ZSTD_getErrorName(made));
    *ret_bytes = made;
    return 0;
}

static size_t
compress_lz4(
    struct chunk_coder *coder, int level, const void *data, size_t size_bytes, void *out)
{
    int bound = (int)chunk_compress_bound(size_bytes);
    int made = level < LZ4HC_CLEVEL_MIN
                   ? LZ4_compress_default(data, out, (int)size_bytes, bound)
                   : LZ4_compress_HC_extStateHC(
                         coder->lz4hc, data, out, (int)size_bytes, bound, level);
    dor_assert(made > 0 || size_bytes == 0);
    return (size_t)made;
}

int
chunk_compress(
    struct chunk_coder *coder, enum chunk_codec *codec, int level, const void *data,
    size_t size_bytes, void *out, size_t *ret_bytes)
{
    size_t made = size_bytes;
    if (*codec == CHUNK_ZSTD) {
        int err = compress_zstd(coder, level, data, size_bytes, out, &made);
        if (err != 0)
            return err;
    } else if (*codec == CHUNK_LZ4) {
        made = compress_lz4(coder, level, data, size_bytes, out);
    }
    if (made >= size_bytes) {
        if (size_bytes > 0)
            memcpy(out, data, size_bytes);
        made = size_bytes;
        *codec = CHUNK_NONE;
    }
    *ret_bytes = made;
    return 0;
}

static int
wrong_size(const char *codec, size_t want)
{
    return dor_fail(DOR_E_CORRUPT, "%s data does not decode to %zu bytes", codec, want);
}

int
chunk_decompress(
    struct chunk_coder *coder, unsigned codec, const void *data, size_t size_bytes, void *out,
    size_t out_bytes)
{
    switch (codec) {
    case CHUNK_NONE:
        if (size_bytes != out_bytes)
            return wrong_size("plain", out_bytes);
        if (out_bytes > 0)
            memcpy(out, data, out_bytes);
        return 0;
    case CHUNK_ZSTD:
        if (ZSTD_decompressDCtx(coder->decompressor, out, out_bytes, data, size_bytes) !=
            out_bytes)
            return wrong_size("zstd", out_bytes);
        return 0;
    case CHUNK_LZ4:
        if (size_bytes > LZ4_MAX_INPUT_SIZE || out_bytes > LZ4_MAX_INPUT_SIZE ||
            LZ4_decompress_safe(data, out, (int)size_bytes, (int)out_bytes) != (int)out_bytes)
            return wrong_size("lz4", out_bytes);
        return 0;
    default:
        return dor_fail(DOR_E_UNSUPPORTED, "codec %u is not known to this version", codec);
    }
}

int
chunk_codec_parse(const char *name, enum chunk_codec *ret)
{
    for (unsigned i = 0; i < ARRAY_LEN(codec_names); i++)
        if (strcmp(name, codec_names[i]) == 0) {
            *ret = (enum chunk_codec)i;
            return 0;
        }
    return dor_fail(DOR_E_USAGE, "codec '%s': use zstd, lz4 or none", name);
}

const char *
chunk_codec_name(unsigned codec)
{
    return codec < ARRAY_LEN(codec_names) ? codec_names[codec] : "unknown";
}
