/* SPDX-License-Identifier: Apache-2.0 */
/*
 * heir.c - from the fork to the end of the last client that was left behind.
 *
 *     daemon ---PARK, REMOVE---> heir          (nothing else happens while the daemon lives)
 *     daemon ends: nothing parked: the heir ends
 *                  otherwise: the heir becomes the keeper of a worker that finishes the clients
 */
#include "wake/heir.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/size.h"
#include "wake/keeper.h"
#include "wake/uffd.h"

#define LOOK_MS   100
#define SPARE_FDS 3 /* the standard ones stay */

struct inheritance {
    const char *directory;
    const struct dor_wake_options *options;
    struct wake_parked_list parked;
};

/* ------------------------------------------------------------------ finishing what is left */

/* The clients that slept in one snapshot. */
struct group {
    const char *name;
    struct wake_state *state; /* of the first of them, which has the name */
    struct wake_parked *parked;
    size_t count;
    struct wake_uffd *uffd;
    struct wake_uffd_counters counters;
};

struct groups {
    struct group *items;
    size_t count;
};

static struct group *
find_group(struct groups *groups, const char *name)
{
    for (size_t i = 0; i < groups->count; i++)
        if (strcmp(groups->items[i].name, name) == 0)
            return &groups->items[i];
    return NULL;
}

/* CLIENT's group; PARKED_COUNT is how many there could be in a new one. */
static int
sort_in(struct groups *groups, const struct wake_parked *client, size_t parked_count)
{
    struct wake_state *state = NULL;
    int err = wake_state_map(client->fds[WAKE_PARK_STATE], &state);
    if (err != 0)
        return err;
    struct group *group = find_group(groups, state->snapshot);
    if (group == NULL) {
        struct wake_parked *parked = base_array(parked_count, sizeof *parked);
        if (parked == NULL) {
            wake_state_unmap(state);
            return DOR_E_NO_MEMORY;
        }
        group = &groups->items[groups->count++];
        *group = (struct group){
            .name = state->snapshot, .state = state, .parked = base_keep(parked)};
    } else {
        wake_state_unmap(state);
    }
    group->parked[group->count++] = *client;
    return 0;
}

static int
make_groups(const struct wake_worker_link *link, struct groups *groups)
{
    groups->items = base_array(link->parked_count + 1, sizeof *groups->items);
    if (groups->items == NULL)
        return DOR_E_NO_MEMORY;
    for (size_t i = 0; i < link->parked_count; i++)
        if (sort_in(groups, &link->parked[i], link->parked_count) != 0)
            /* It stays parked: nobody answers it, but it reads no zeros. */
            dor_log(
                ERROR, "wake", "not_inherited", "client=%llu error=\"%s\"",
                (unsigned long long)link->parked[i].id, dor_err_message());
    return 0;
}

static int
finish_group(
    struct dor_wake_server *server, const struct wake_worker_link *link, struct group *group)
{
    struct wake_uffd_how how;
    const struct dor_wake_uffd given = {.no_working_set = true, .fill = true};
    int err = wake_uffd_how_of(&given, &how);
    if (err != 0)
        return err;
    if (how.clients_max < group->count)
        how.clients_max = (unsigned)group->count;
    how.name = group->name;
    how.park = &link->park;
    how.parked = group->parked;
    how.parked_count = group->count;
    how.counters = &group->counters;
    err = wake_uffd_open(server, &how, &group->uffd);
    if (err == 0)
        wake_uffd_finish(group->uffd);
    return err;
}

static unsigned
clients_left(const struct groups *groups)
{
    unsigned count = 0;
    for (size_t i = 0; i < groups->count; i++)
        if (groups->items[i].uffd != NULL)
            count += wake_uffd_client_count(groups->items[i].uffd);
    return count;
}

static void
free_groups(struct groups *groups)
{
    for (size_t i = 0; i < groups->count; i++) {
        wake_uffd_close(groups->items[i].uffd);
        wake_state_unmap(groups->items[i].state);
        base_free(groups->items[i].parked);
    }
    base_free(groups->items);
}

/* Keeper gone or not, this is what there is to do. */
static int
finish_all(struct dor_wake_server *server, struct wake_worker_link *link, struct groups *groups)
{
    int err = make_groups(link, groups);
    for (size_t i = 0; err == 0 && i < groups->count; i++)
        err = finish_group(server, link, &groups->items[i]);
    if (err == 0)
        err = wake_worker_ready(link);
    while (err == 0 && clients_left(groups) > 0)
        (void)wake_worker_hear(link, LOOK_MS);
    return err;
}

static int
work(void *context, struct wake_worker_link *link)
{
    const struct inheritance *inheritance = context;
    struct dor_wake_server *server = NULL;
    struct groups groups = {0};
    int err = dor_wake_server_open(inheritance->directory, inheritance->options, &server);
    if (err == 0)
        err = finish_all(server, link, &groups);
    free_groups(&groups);
    dor_wake_server_close(server);
    return err;
}

/* ------------------------------------------------------------------ waiting */

/* Until the daemon has ended. */
static void
wait_for_end(int control, struct wake_parked_list *parked)
{
    for (;;) {
        struct pollfd poll_control = {.fd = control, .events = POLLIN};
        struct wake_message message;
        int fds[WAKE_PARK_ROLES];
        int got = 0;
        if (poll(&poll_control, 1, -1) > 0)
            got = wake_keeper_receive(control, &message, fds);
        if (got < 0)
            return;
        if (got > 0)
            wake_parked_heed(parked, &message, fds);
    }
}

/* What is parked without a userfaultfd is of use to nobody but a daemon. */
static void
forget_others(struct wake_parked_list *parked)
{
    for (size_t i = parked->count; i-- > 0;)
        if (parked->items[i].fds[WAKE_PARK_UFFD] < 0) {
            wake_parked_close(&parked->items[i]);
            parked->items[i] = parked->items[--parked->count];
        }
}

/* Of what the daemon has open, nothing may seem in use because the heir has it, too. */
static void
close_others(int control)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null >= 0) {
        dup2(null, STDIN_FILENO);
        dup2(null, STDOUT_FILENO);
    }
    if (control > SPARE_FDS)
        close_range(SPARE_FDS, (unsigned)control - 1, 0);
    close_range((unsigned)control + 1, ~0U, 0);
}

static _Noreturn void
be_heir(struct inheritance *inheritance, int control)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE};
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        signal(numbers[i], SIG_IGN);
    prctl(PR_SET_NAME, "dormouse-heir");
    close_others(control);
    wait_for_end(control, &inheritance->parked);
    close(control);
    forget_others(&inheritance->parked);
    wake_parked_forget_gone(&inheritance->parked);
    if (inheritance->parked.count == 0)
        _exit(0);
    dor_log(WARN, "wake", "inherited", "clients=%zu", inheritance->parked.count);
    const struct wake_keeping keeping = {
        .work = work,
        .context = inheritance,
        .parked = &inheritance->parked,
        .finishing = true};
    _exit(wake_keeper_run(&keeping) == 0 ? 0 : 1);
}

/* ------------------------------------------------------------------ starting */

int
wake_heir_start(
    const char *directory, const struct dor_wake_options *options, struct wake_heir *ret)
{
    int pair[2];
    struct inheritance inheritance = {.directory = directory, .options = options};
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return dor_fail_errno(errno, "cannot start the heir");
    pid_t pid = fork();
    if (pid == 0) {
        close(pair[0]);
        be_heir(&inheritance, pair[1]);
    }
    int errnum = errno;
    close(pair[1]);
    if (pid < 0) {
        close(pair[0]);
        return dor_fail_errno(errnum, "cannot start the heir");
    }
    ret->control = pair[0];
    ret->park = wake_keeper_park(&ret->control);
    return 0;
}

void
wake_heir_close(struct wake_heir *heir)
{
    if (heir->control >= 0)
        close(heir->control);
    heir->control = -1;
}
