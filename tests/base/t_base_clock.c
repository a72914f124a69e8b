/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_base_clock.c - the clocks go forward, in nanoseconds, and tell what they are named for.
 */
#include "base/clock.h"
#include "tap.h"

int
main(void)
{
    uint64_t start = base_clock_monotonic_ns();
    uint64_t last = start;
    unsigned back = 0;
    for (unsigned i = 0; i < 10000; i++) {
        uint64_t now = base_clock_monotonic_ns();
        back += now < last;
        last = now;
    }
    is_int(back, 0, "the monotonic clock never goes back");

    uint64_t cpu = base_clock_cpu_ns();
    usleep(20000);
    uint64_t slept = base_clock_monotonic_ns() - last;
    uint64_t used = base_clock_cpu_ns() - cpu;
    ok(slept >= 20000000, "sleeping 20 ms takes at least 20000000 ns");
    ok(used < slept, "sleeping uses less processor time than time");
    ok(cpu > 0, "the loop used processor time");

    uint64_t seconds = base_clock_realtime_ns() / 1000000000;
    uint64_t system = (uint64_t)time(NULL);
    /* time() may be a tick behind. */
    ok(seconds + 2 >= system && system + 2 >= seconds, "the real time is that of the system");
    return done_testing();
}
