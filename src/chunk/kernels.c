/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernels.c - the choice of instruction set for the page loops, made at run time.
 */
#include "chunk/kernels.h"

#include "base/cpu.h"

const struct chunk_kernels *
chunk_kernels(void)
{
    switch (base_cpu_level()) {
    case BASE_CPU_AVX512:
        return &chunk_kernels_avx512;
    case BASE_CPU_AVX2:
        return &chunk_kernels_avx2;
    case BASE_CPU_SCALAR:
    default:
        return &chunk_kernels_scalar;
    }
}
