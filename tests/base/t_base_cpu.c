/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_base_cpu.c - levels can be lowered by DOR_CPU and by tests, never raised above the machine.
 */
#include "base/cpu.h"
#include "tap.h"

#include <sys/wait.h>

/* The level found by a new process under DOR_CPU=WISH; the answer is kept, so this one cannot
 * ask twice. */
static int
level_under(const char *wish)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        setenv("DOR_CPU", wish, 1);
        _exit((int)base_cpu_level());
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int
main(void)
{
    unsetenv("DOR_CPU");
    int best = level_under("");
    note("this machine: %s", base_cpu_level_name((enum base_cpu_level)best));
    is_int(level_under("scalar"), BASE_CPU_SCALAR, "DOR_CPU=scalar lowers");
    is_int(
        level_under("avx2"), best < BASE_CPU_AVX2 ? best : BASE_CPU_AVX2,
        "DOR_CPU=avx2 lowers");
    is_int(level_under("avx512"), best, "DOR_CPU=avx512 does not raise");
    is_int(level_under("nonsense"), best, "other words change nothing");

    is_int(base_cpu_level(), best, "the level here");
    is_int(base_cpu_level_set_for_test(BASE_CPU_SCALAR), BASE_CPU_SCALAR, "a test lowers it");
    is_int(base_cpu_level(), BASE_CPU_SCALAR, "and it stays");
    is_int(base_cpu_level_set_for_test(BASE_CPU_AVX512), best, "a test cannot raise it");
    is_str(base_cpu_level_name(BASE_CPU_SCALAR), "scalar", "name of the lowest");
    is_str(base_cpu_level_name(BASE_CPU_AVX512), "avx512", "name of the highest");
    return done_testing();
}
