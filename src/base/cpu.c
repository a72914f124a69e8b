/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu.c - finds the instruction sets once. The compiler's own detection is used, which also
 * asks whether the kernel saves the wide registers. The lists must agree with the flags in
 * src/meson.build.
 */
#include "base/cpu.h"

#include "base/size.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static const char *const level_names[] = {"scalar", "avx2", "avx512"};

enum { LEVEL_UNKNOWN = -1 };

/* Relaxed everywhere: all threads that detect find the same value, and it guards no other data.
 */
static _Atomic int level_now = LEVEL_UNKNOWN;

#if defined(__x86_64__)
/* clang 14 has no word for LZCNT in its own detection. */
static bool
has_lzcnt(void)
{
    unsigned eax, ebx, ecx, edx;
    return __get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_LZCNT) != 0;
}
#endif

static enum base_cpu_level
detect(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("bmi") ||
        !__builtin_cpu_supports("bmi2") || !__builtin_cpu_supports("popcnt") || !has_lzcnt())
        return BASE_CPU_SCALAR;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512cd") || !__builtin_cpu_supports("avx512dq") ||
        !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512vbmi") ||
        !__builtin_cpu_supports("avx512vbmi2"))
        return BASE_CPU_AVX2;
    return BASE_CPU_AVX512;
#else
    return BASE_CPU_SCALAR;
#endif
}

static enum base_cpu_level
lowered_by_environment(enum base_cpu_level level)
{
    const char *wish = getenv("DOR_CPU");
    for (size_t i = 0; wish != NULL && i < ARRAY_LEN(level_names); i++)
        if (strcmp(wish, level_names[i]) == 0 && i < level)
            return (enum base_cpu_level)i;
    return level;
}

enum base_cpu_level
base_cpu_level(void)
{
    int level = atomic_load_explicit(&level_now, memory_order_relaxed);
    if (level == LEVEL_UNKNOWN) {
        level = (int)lowered_by_environment(detect());
        atomic_store_explicit(&level_now, level, memory_order_relaxed);
    }
    return (enum base_cpu_level)level;
}

const char *
base_cpu_level_name(enum base_cpu_level level)
{
    return level_names[level];
}

enum base_cpu_level
base_cpu_level_set_for_test(enum base_cpu_level level)
{
    enum base_cpu_level best = detect();
    enum base_cpu_level now = level < best ? level : best;
    atomic_store_explicit(&level_now, (int)now, memory_order_relaxed);
    return now;
}
