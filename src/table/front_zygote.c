/* SPDX-License-Identifier: Apache-2.0 */
/*
 * front_zygote.c - the zygote from the front's side: started by exec, with nothing of the front but
 * one socket and what of the environment concerns this program; started again when it dies.
 * Workers that are there do not mind.
 */
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/size.h"
#include "table/front_priv.h"
#include "table/zygote.h"

extern char **environ;

static bool
is_passed_on(const char *variable)
{
    static const char *const names[] = {
        "DOR_", "DORMOUSE_", "LD_", "ASAN_", "UBSAN_", "TSAN_", "LSAN_", "JSC_", "LANG=", "TZ=",
    };
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strncmp(variable, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

static char **
make_environment(void)
{
    size_t count = 0;
    size_t kept = 0;
    while (environ != NULL && environ[count] != NULL)
        count++;
    char **ret = base_array(count + 1, sizeof(char *));
    if (ret == NULL)
        return NULL;
    for (size_t i = 0; i < count; i++)
        if (is_passed_on(environ[i]))
            ret[kept++] = environ[i];
    return ret;
}

static int
run_program(const char *program, int control, pid_t *ret)
{
    char name[] = "dormouse";
    char word[] = DOR_TABLE_ZYGOTE_WORD;
    char *const arguments[] = {name, word, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t signals;
    char **environment = make_environment();
    if (environment == NULL)
        return DOR_E_NO_MEMORY;
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    int err = posix_spawn_file_actions_adddup2(&actions, control, TABLE_ZYGOTE_CONTROL_FD);
    sigemptyset(&signals);
    posix_spawnattr_setsigmask(&attributes, &signals);
    sigfillset(&signals);
    posix_spawnattr_setsigdefault(&attributes, &signals);
    /* A group of its own: what a terminal sends to ours is not for it. */
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(
        &attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    if (err == 0)
        err = posix_spawn(ret, program, &actions, &attributes, arguments, environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    base_free(environment);
    return err == 0 ? 0 : dor_fail_errno(err, "%s: cannot start the zygote", program);
}

int
front_zygote_start(struct table_front *front)
{
    int pair[2];
    int rc = table_control_pair(pair);
    if (rc != 0)
        return rc;
    rc = run_program(front->program, pair[1], &front->zygote_pid);
    close(pair[1]);
    if (rc == 0)
        rc = front_watch(front, pair[0], EPOLLIN, &front->zygote_source);
    if (rc != 0) {
        close(pair[0]);
        return rc;
    }
    front->zygote = pair[0];
    front->zygote_started_ns = front->now_ns;
    return 0;
}

static void
reap(struct table_front *front)
{
    base_close_fd(&front->zygote);
    if (front->zygote_pid > 0) {
        kill(front->zygote_pid, SIGKILL);
        waitpid(front->zygote_pid, NULL, 0);
    }
    front->zygote_pid = 0;
}

static void
zygote_is_dead(struct table_front *front)
{
    dor_log(WARN, "table", "zygote_died", "pid=%d", (int)front->zygote_pid);
    reap(front);
    /* One that does not live is not started in a circle. */
    if (front->now_ns - front->zygote_started_ns >= FRONT_GOOD_LIFE_NS)
        front->zygote_failures = 0;
    front->next_zygote_ns =
        front->now_ns +
        (front->zygote_failures == 0 ? 0 : FRONT_BACK_OFF_NS << front->zygote_failures);
    if (front->zygote_failures < FRONT_BACK_OFF_STEPS)
        front->zygote_failures++;
    front_zygote_keep(front);
}

void
front_zygote_keep(struct table_front *front)
{
    if (front->zygote >= 0 || front->draining || front->now_ns < front->next_zygote_ns)
        return;
    if (front_zygote_start(front) != 0) {
        dor_log(ERROR, "table", "no_zygote", "error=\"%s\"", dor_err_message());
        front->next_zygote_ns = front->now_ns + (FRONT_BACK_OFF_NS << FRONT_BACK_OFF_STEPS);
        return;
    }
    front_workers_ask_again(front);
}

void
front_zygote_event(struct table_front *front)
{
    struct table_message message;
    int fds[TABLE_CONTROL_FDS];
    while (front->zygote >= 0) {
        int rc = table_control_receive(front->zygote, &message, &front->extra, fds);
        if (rc == 0 && message.word == TABLE_WORD_SPAWNED)
            front_worker_spawned(front, &message, &fds[0]);
        for (unsigned i = 0; i < TABLE_CONTROL_FDS; i++)
            base_close_fd(&fds[i]);
        if (rc == DOR_E_BUSY)
            return;
        if (rc == DOR_E_IO)
            zygote_is_dead(front);
    }
}

void
front_zygote_end(struct table_front *front)
{
    base_close_fd(&front->zygote);
    if (front->zygote_pid > 0)
        waitpid(front->zygote_pid, NULL, 0);
    front->zygote_pid = 0;
}
