/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mount.c - `dormouse mount`: a folder with all snapshots, served until a signal comes or somebody
 * unmounts it.
 *
 * In the background it serves in a child, forked before there are threads or a store is open; the
 * parent waits for the child's word that the mount is ready, and ends with its exit code if it
 * ends instead.
 */
#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/json.h"
#include "cli/stop.h"

#include <dormouse/wake.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* A store under its own mount could not be opened any more. */
static int
check_place(const char *store, const char *directory)
{
    char store_path[PATH_MAX];
    char mount_path[PATH_MAX];
    /* A path that cannot be followed is told of by whoever opens it. */
    if (realpath(store, store_path) == NULL || realpath(directory, mount_path) == NULL)
        return 0;
    size_t bytes = strlen(mount_path);
    bool above = strncmp(store_path, mount_path, bytes) == 0 &&
                 (store_path[bytes] == '/' || store_path[bytes] == '\0' || bytes == 1);
    if (above)
        return dor_fail(
            DOR_E_USAGE, "%s: the mount would hide the store %s; give another folder",
            directory, store);
    return 0;
}

/* ------------------------------------------------------------------ serving */

static int
say_ready(const struct cli *cli, const char *store)
{
    int rc = 0;
    if (cli->values.json)
        rc = cli_json_print(json_pack(
            "{s:o, s:o}", "store", cli_json_text(store), "mounted",
            cli_json_text(cli->args[0])));
    else if (!cli->values.quiet)
        printf("mounted %s on %s\n", store, cli->args[0]);
    if (rc == 0 && fflush(stdout) != 0)
        rc = dor_fail_errno(errno, "cannot write to standard output");
    return rc;
}

/* Until a signal comes, or somebody unmounts. */
static int
wait_for_end(const struct dor_mount *mount)
{
    struct pollfd ended = {.fd = dor_mount_ended_fd(mount), .events = POLLIN};
    sigset_t open_mask;
    sigprocmask(SIG_SETMASK, NULL, &open_mask);
    sigset_t shut_mask = open_mask;
    sigaddset(&shut_mask, SIGINT);
    sigaddset(&shut_mask, SIGTERM);
    sigaddset(&shut_mask, SIGHUP);
    sigprocmask(SIG_SETMASK, &shut_mask, NULL);
    int count = 0;
    while (count == 0 && cli_stop_signal() == 0) {
        count = ppoll(&ended, 1, NULL, &open_mask);
        if (count < 0 && errno == EINTR)
            count = 0;
    }
    int error = errno;
    sigprocmask(SIG_SETMASK, &open_mask, NULL);
    return count < 0 ? dor_fail_errno(error, "cannot wait for the mount's end") : 0;
}

/* Nobody reads what a process in the background prints. */
static int
leave_terminal(void)
{
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (fd < 0 || dup2(fd, STDIN_FILENO) < 0 || dup2(fd, STDOUT_FILENO) < 0 ||
        dup2(fd, STDERR_FILENO) < 0)
        return dor_fail_errno(errno, "/dev/null");
    close(fd);
    return 0;
}

/* Tell the parent at READY_FD, if there is one, that all is well. */
static int
tell_parent(int ready_fd)
{
    if (ready_fd < 0)
        return 0;
    const char ready = 1;
    if (write(ready_fd, &ready, 1) != 1)
        return dor_fail_errno(errno, "the program that started the mount is gone");
    return leave_terminal();
}

static int
serve(const struct cli *cli, const char *store, int ready_fd)
{
    const struct cli_values *values = &cli->values;
    const struct dor_wake_options wake = {.cache_bytes = values->cache_bytes};
    const struct dor_mount_options options = {
        .allow_other = values->allow_other, .trust_writers = values->trust_writers};
    struct dor_wake_server *server = NULL;
    struct dor_mount *mount = NULL;
    cli_stop_catch();
    int rc = dor_wake_server_open(store, &wake, &server);
    if (rc == 0)
        rc = dor_mount_open(server, cli->args[0], &options, &mount);
    if (rc == 0)
        rc = say_ready(cli, store);
    if (rc == 0)
        rc = tell_parent(ready_fd);
    if (rc == 0)
        rc = wait_for_end(mount);
    dor_mount_close(mount);
    dor_wake_server_close(server);
    return rc;
}

/* ------------------------------------------------------------------ in the background */

static _Noreturn void
be_parent(pid_t child, int ready_fd)
{
    char ready;
    int status;
    ssize_t bytes;
    do
        bytes = read(ready_fd, &ready, 1);
    while (bytes < 0 && errno == EINTR);
    if (bytes == 1)
        _exit(EXIT_SUCCESS);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILURE);
}

/* Returns in the child, with the descriptor to tell at. */
static int
fork_away(int *ret_ready_fd)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return dor_fail_errno(errno, "cannot go to the background");
    pid_t child = fork();
    if (child < 0) {
        close(ends[0]);
        close(ends[1]);
        return dor_fail_errno(errno, "cannot go to the background");
    }
    if (child > 0) {
        close(ends[1]);
        be_parent(child, ends[0]);
    }
    close(ends[0]);
    (void)setsid();
    *ret_ready_fd = ends[1];
    return 0;
}

int
cli_mount_run(const struct cli *cli)
{
    AUTO_CLOSE int ready_fd = -1;
    const char *store = NULL;
    int rc = cli_store_directory(cli, &store);
    if (rc == 0)
        rc = check_place(store, cli->args[0]);
    if (rc == 0 && cli->values.background)
        rc = fork_away(&ready_fd);
    return rc == 0 ? serve(cli, store, ready_fd) : rc;
}
