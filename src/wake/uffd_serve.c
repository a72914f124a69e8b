/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uffd_serve.c - dor_wake_uffd_serve(): one snapshot at one socket, kept alive by a keeper.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <dormouse/wake.h>

#include "base/code.h"
#include "base/err.h"
#include "base/log.h"
#include "base/size.h"
#include "base/unix_socket.h"
#include "wake/keeper.h"
#include "wake/placement.h"
#include "wake/uffd.h"

#define CLIENTS_USUAL   1024
#define CLIENTS_MOST    (1u << 20)
#define HANDSHAKE_USUAL (UINT64_C(10) * 1000 * 1000 * 1000)
#define WINDOW_USUAL    (UINT64_C(64) << 10)
#define MODE_USUAL      0600
#define LOOK_MS         100

struct serving {
    const char *directory;
    const struct dor_wake_options *server_options;
    const struct dor_wake_uffd *how;
    struct wake_uffd_how uffd_how;
    struct base_listener listener;
    struct wake_uffd_counters *counters; /* in memory that all workers share */
};

/* Whether the one sandbox that was waited for has come and gone. */
static bool
has_had_one(const struct serving *serving, struct wake_uffd *uffd)
{
    return serving->how->once && wake_uffd_client_count(uffd) == 0 &&
           atomic_load_explicit(&serving->counters->clients, memory_order_relaxed) > 0;
}

/* Until all is done, or the keeper is gone and with it everybody who was served. */
static void
watch_over(const struct serving *serving, struct wake_worker_link *link, struct wake_uffd *uffd)
{
    bool ending = false;
    while (!(ending && wake_uffd_client_count(uffd) == 0) && !has_had_one(serving, uffd))
        switch (wake_worker_hear(link, LOOK_MS)) {
        case WAKE_HEARD_FINISH:
            wake_uffd_finish(uffd);
            ending = true;
            break;
        case WAKE_HEARD_ALONE:
            wake_uffd_refuse(uffd);
            ending = true;
            dor_log(ERROR, "wake", "keeper_died", "clients=%u", wake_uffd_client_count(uffd));
            break;
        case WAKE_HEARD_NOTHING:
            break;
        }
}

static int
work(void *context, struct wake_worker_link *link)
{
    const struct serving *serving = context;
    struct wake_uffd_how how = serving->uffd_how;
    struct dor_wake_server *server = NULL;
    struct wake_uffd *uffd = NULL;
    how.park = &link->park;
    how.parked = link->parked;
    how.parked_count = link->parked_count;
    int err = dor_wake_server_open(serving->directory, serving->server_options, &server);
    if (err == 0)
        err = wake_uffd_open(server, &how, &uffd);
    base_code_populate();
    if (err == 0)
        err = wake_worker_ready(link);
    if (err == 0)
        watch_over(serving, link, uffd);
    wake_uffd_close(uffd);
    dor_wake_server_close(server);
    return err;
}

static void
tell_ready(void *context)
{
    const struct dor_wake_uffd *how = context;
    dor_log(INFO, "wake", "listening", "socket=\"%s\"", how->socket_path);
    if (how->ready != NULL)
        how->ready(how->ready_context);
}

/* ------------------------------------------------------------------ the call */

int
wake_uffd_how_of(const struct dor_wake_uffd *how, struct wake_uffd_how *ret)
{
    uint64_t window_bytes = how->window_bytes == 0 ? WINDOW_USUAL : how->window_bytes;
    uint64_t pages = window_bytes / DOR_PAGE_BYTES;
    if (window_bytes % DOR_PAGE_BYTES != 0 || pages > WAKE_WINDOW_PAGES ||
        (pages & (pages - 1)) != 0)
        return dor_fail(
            DOR_E_USAGE, "a window is 4 KiB to %d KiB and a power of two",
            WAKE_WINDOW_PAGES * 4);
    if (how->clients_max > CLIENTS_MOST || how->core < DOR_WAKE_CORE_ANY ||
        how->core > CPU_SETSIZE || (how->socket_mode & ~0777u) != 0)
        return dor_fail(DOR_E_USAGE, "wake: an option is out of its range");
    *ret = (struct wake_uffd_how){
        .listener = -1,
        .handshake_ns = how->handshake_ns == 0 ? HANDSHAKE_USUAL : how->handshake_ns,
        .clients_max = how->clients_max == 0 ? CLIENTS_USUAL : how->clients_max,
        .window_pages = (unsigned)pages,
        .push = !how->no_working_set,
        .passing = how->once,
        .fill = how->fill,
        .hold = how->hold,
        .core = how->core == DOR_WAKE_CORE_FOLLOW
                    ? WAKE_CORE_FOLLOW
                    : (how->core == DOR_WAKE_CORE_ANY ? WAKE_CORE_ANY : how->core - 1)};
    return 0;
}

void
wake_uffd_stat_of(const struct wake_uffd_counters *counters, struct dor_wake_uffd_stat *ret)
{
    *ret = (struct dor_wake_uffd_stat){
        .clients = counters->clients,
        .refused = counters->refused,
        .ended = counters->ended,
        .faults = counters->faults,
        .copied_pages = counters->copied,
        .pushed_pages = counters->pushed,
        .zero_pages = counters->zeros,
        .removals = counters->removed,
        .lost_pages = counters->lost,
        .adopted = counters->adopted};
}

/* Every client takes some descriptors in both processes. */
static void
raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

static int
share_counters(struct serving *serving)
{
    void *memory = mmap(
        NULL, sizeof *serving->counters, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
        0);
    if (memory == MAP_FAILED)
        return dor_fail_errno(errno, "counters");
    serving->counters = memory;
    return 0;
}

static int
serve(struct serving *serving)
{
    const struct dor_wake_uffd *how = serving->how;
    struct wake_parked_list parked = {0};
    const struct wake_keeping keeping = {
        .work = work,
        .context = serving,
        .parked = &parked,
        .stop = how->stop,
        .stop_context = how->stop_context,
        .ready = tell_ready,
        .ready_context = (void *)(uintptr_t)how};
    int err = base_listener_open(
        how->socket_path, how->socket_mode == 0 ? MODE_USUAL : how->socket_mode,
        &serving->listener);
    if (err != 0)
        return err;
    serving->uffd_how.listener = serving->listener.fd;
    serving->uffd_how.counters = serving->counters;
    err = wake_keeper_run(&keeping);
    base_listener_close(&serving->listener);
    wake_parked_list_fini(&parked);
    return err;
}

int
dor_wake_uffd_serve(
    const char *directory, const struct dor_wake_options *options, const char *name,
    const struct dor_wake_uffd *how, struct dor_wake_uffd_stat *ret)
{
    struct serving serving = {
        .directory = directory,
        .server_options = options,
        .how = how,
        .listener = BASE_LISTENER_NONE};
    int err = wake_uffd_how_of(how, &serving.uffd_how);
    if (err == 0)
        err = share_counters(&serving);
    if (err != 0)
        return err;
    serving.uffd_how.name = name;
    raise_descriptor_limit();
    err = serve(&serving);
    if (err == 0 && ret != NULL)
        wake_uffd_stat_of(serving.counters, ret);
    munmap(serving.counters, sizeof *serving.counters);
    return err;
}
