/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stop.c - the note about a signal is one flag, the only thing a handler may safely write.
 */
#include "cli/stop.h"

#include "base/err.h"
#include "base/size.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

static volatile sig_atomic_t noted;

static void
note_signal(int number)
{
    noted = number;
}

void
cli_stop_catch(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    /* No SA_RESTART: a call that waits is to return, and base restarts what must go on. */
    struct sigaction action = {.sa_handler = note_signal, .sa_flags = (int)SA_RESETHAND};
    struct sigaction before;
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        /* nohup and background jobs of old shells ignore signals, and that is to stay so. */
        if (sigaction(numbers[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN)
            sigaction(numbers[i], &action, NULL);
    }
}

int
cli_stop_signal(void)
{
    return noted;
}

int
cli_stop_asked(void *context)
{
    (void)context;
    return noted != 0;
}

int
cli_stop_check(void)
{
    int number = noted;
    if (number == 0)
        return 0;
    return dor_fail(DOR_E_BUSY, "stopped by SIG%s", sigabbrev_np(number));
}

_Noreturn void
cli_stop_die(int signal_number)
{
    signal(signal_number, SIG_DFL);
    raise(signal_number);
    /* Only when the signal is blocked; the number is the one shells give to such an end. */
    exit(128 + signal_number);
}
