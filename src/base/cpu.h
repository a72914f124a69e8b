/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu.h - which of the three builds of a fast function this processor can run.
 * A level promises every instruction set its files are compiled for (see src/meson.build): a
 * compiler may use any of them anywhere.
 *
 * Ownership:  nothing is allocated.
 * Threads:    any; the answer is found once. base_cpu_level_set_for_test() is for one thread.
 * Errors:     none; an unknown DOR_CPU is ignored.
 */
#ifndef DOR_BASE_CPU_H
#define DOR_BASE_CPU_H

enum base_cpu_level {
    BASE_CPU_SCALAR, /* what the compiler assumes for the whole program */
    BASE_CPU_AVX2,   /* AVX2, BMI1, BMI2, LZCNT, POPCNT (Haswell, Zen) */
    BASE_CPU_AVX512  /* and AVX-512 F, BW, CD, DQ, VL, VBMI, VBMI2 (Ice Lake, Zen 4) */
};

/* The best level of this machine; DOR_CPU=scalar|avx2|avx512 in the environment can only lower
 * it. */
enum base_cpu_level base_cpu_level(void);

/* "scalar", "avx2" or "avx512". */
const char *base_cpu_level_name(enum base_cpu_level level);

/* Use LEVEL from now on, or the machine's best where that is lower; returns the level now in
 * use. */
enum base_cpu_level base_cpu_level_set_for_test(enum base_cpu_level level);

#endif
