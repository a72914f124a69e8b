/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernels_avx512.c - the page loops of kernels_body.h for the instruction set "avx512"; the
 * build gives this file its flags. It deliberately holds nothing else, so that no other code
 * is compiled so.
 */
#include "chunk/kernels_body.h"

const struct chunk_kernels chunk_kernels_avx512 = {
    .name = "avx512",
    .page_is_zero = body_page_is_zero,
    .normalise = body_normalise,
    .mix = body_mix,
    .min_index = body_min_index,
    .equal_words = body_equal_words,
    .digest = body_digest,
    .diff = body_diff,
};
