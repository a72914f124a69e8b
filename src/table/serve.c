/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve.c - a front as a process of its own, with the signals that go with that.
 */
#include <dormouse/table.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/prctl.h>

#include "base/err.h"
#include "table/front.h"

/* The front that signals are for; set before they are let in. */
static _Atomic(struct table_front *) serving;

static void
on_signal(int number)
{
    struct table_front *front = atomic_load_explicit(&serving, memory_order_relaxed);
    if (front == NULL)
        return;
    if (number == SIGHUP)
        table_front_reload(front);
    else
        table_front_stop(front);
}

static const int signals[] = {SIGTERM, SIGINT, SIGHUP};
enum { SIGNALS = sizeof signals / sizeof signals[0] };

static void
catch_signals(struct sigaction before[SIGNALS])
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    for (unsigned i = 0; i < SIGNALS; i++)
        sigaction(signals[i], &action, &before[i]);
    signal(SIGPIPE, SIG_IGN);
}

static void
tell_ready(const struct dor_table *how, const struct table_front *front)
{
    const char *addresses[DOR_TABLE_LISTEN_MAX] = {0};
    size_t count = table_front_addresses(front, addresses);
    if (how->ready != NULL)
        how->ready(how->ready_context, addresses, count);
}

int
dor_table_serve(const struct dor_table *how)
{
    struct table_front *front = NULL;
    struct sigaction before[SIGNALS];
    /* Password hashes are in this memory. */
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    int rc = table_front_open(how, &front);
    if (rc != 0)
        return rc;
    atomic_store_explicit(&serving, front, memory_order_relaxed);
    catch_signals(before);
    tell_ready(how, front);
    rc = table_front_run(front);
    for (unsigned i = 0; i < SIGNALS; i++)
        sigaction(signals[i], &before[i], NULL);
    atomic_store_explicit(&serving, NULL, memory_order_relaxed);
    table_front_close(front);
    return rc;
}
