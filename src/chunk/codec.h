/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec.h - the general compressors behind groups, tables and sidecars, by a number that is stored
 * beside the bytes: zstd (without its 4-byte magic and size fields, which we keep ourselves),
 * LZ4 block, or none.
 *
 * Ownership:  a coder holds the libraries' contexts; the caller frees it.
 * Threads:    one coder, one thread.
 * Errors:     DOR_E_NO_MEMORY; DOR_E_CORRUPT when bytes do not decode to exactly the size
 * asked for;
 *             DOR_E_UNSUPPORTED for a codec number of a newer version.
 */
#ifndef DOR_CHUNK_CODEC_H
#define DOR_CHUNK_CODEC_H

#include <stddef.h>
#include <stdint.h>

#include <dormouse/err.h>

enum chunk_codec { CHUNK_NONE = 0, CHUNK_ZSTD = 1, CHUNK_LZ4 = 2 };

struct chunk_coder;
DOR_MUST_CHECK int chunk_coder_new(struct chunk_coder **ret);
void chunk_coder_free(struct chunk_coder *coder);

/* Bytes that chunk_compress() may need for SIZE_BYTES of input. */
size_t chunk_compress_bound(size_t size_bytes);

/*
 * Compress into OUT (chunk_compress_bound() bytes). *CODEC says what to use and, on return,
 * what was used: CHUNK_NONE when nothing was gained. LEVEL is zstd's, or from 3 on that of LZ4's
 * high compression.
 */
DOR_MUST_CHECK int chunk_compress(
    struct chunk_coder *coder, enum chunk_codec *codec, int level, const void *data,
    size_t size_bytes, void *out, size_t *ret_bytes);

/* Decode to exactly OUT_BYTES. */
DOR_MUST_CHECK int chunk_decompress(
    struct chunk_coder *coder, unsigned codec, const void *data, size_t size_bytes, void *out,
    size_t out_bytes);

/* "zstd", "lz4", "none"; DOR_E_USAGE for another word. */
DOR_MUST_CHECK int chunk_codec_parse(const char *name, enum chunk_codec *ret);
const char *chunk_codec_name(unsigned codec);

#endif
