/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run.c - `dormouse run`: a QEMU on a snapshot's memory, resumed from its device state. The console
 * is whatever the guest's arguments make of standard input and output.
 *
 * QEMU does not outlive this program, which serves its memory: the kernel kills it then.
 */
#include "cli/run.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "cli/json.h"
#include "cli/qmp.h"
#include "cli/stop.h"
#include "cli/text.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { POLL_MS = 200, STOP_MS = 5000, NO_PROGRAM = 127 };

/* In the child, where only calls are allowed that need no lock. */
static _Noreturn void
become_qemu(
    const struct cli_run_command *command, const struct cli_run_files *files, bool huge_pages,
    int qmp_fd, pid_t parent)
{
    static const char words[] =
        "dormouse: cannot start QEMU; is it installed? --qemu names it\n";
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (getppid() != parent)
        _exit(EXIT_FAILURE);
    if (!huge_pages)
        cli_run_drop_advice(files->memory_bytes, cli_run_wants_setuid(command));
    if (fcntl(files->memory_fd, F_SETFD, 0) == 0 && fcntl(qmp_fd, F_SETFD, 0) == 0)
        execvp(command->words[0], command->words);
    (void)!write(STDERR_FILENO, words, sizeof words - 1);
    _exit(NO_PROGRAM);
}

static int
start(
    const struct cli *cli, const struct cli_run_files *files, int *ret_qmp_fd, pid_t *ret_child)
{
    struct cli_run_command command = {0};
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        return dor_fail_errno(errno, "cannot make a socket for QEMU");
    int rc = cli_run_command_make(cli, files, ends[1], &command);
    pid_t parent = getpid();
    pid_t child = rc == 0 ? fork() : -1;
    if (child == 0)
        become_qemu(&command, files, cli->values.huge_pages, ends[1], parent);
    if (rc == 0 && child < 0)
        rc = dor_fail_errno(errno, "cannot start %s", command.words[0]);
    cli_run_command_fini(&command);
    close(ends[1]);
    if (rc != 0) {
        close(ends[0]);
        return rc;
    }
    *ret_qmp_fd = ends[0];
    *ret_child = child;
    return 0;
}

/* Until QEMU ends or a signal comes; *RET_STATUS is waitpid()'s, and QEMU is gone, in the first. */
static int
wait_for_qemu(struct cli_qmp *qmp, pid_t child, int *ret_status)
{
    struct pollfd readable = {.fd = qmp->fd, .events = POLLIN};
    for (;;) {
        pid_t ended = waitpid(child, ret_status, WNOHANG);
        if (ended == child)
            return 0;
        int rc = cli_stop_check();
        if (rc != 0)
            return rc;
        /* It closes its end when it ends, which wakes us at once. */
        if (poll(&readable, 1, POLL_MS) > 0 && !cli_qmp_drain(qmp))
            readable.fd = -1;
    }
}

/* Ask QEMU to end, and see to it that it does. */
static void
end_qemu(pid_t child)
{
    struct pollfd nothing = {.fd = -1};
    kill(child, SIGTERM);
    for (int waited = 0; waited < STOP_MS; waited += POLL_MS) {
        if (waitpid(child, NULL, WNOHANG) == child)
            return;
        poll(&nothing, 1, POLL_MS);
    }
    kill(child, SIGKILL);
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
        ;
}

static int
judge(int status)
{
    if (WIFSIGNALED(status))
        return dor_fail(
            DOR_E_IO, "QEMU was ended by SIG%s%s", sigabbrev_np(WTERMSIG(status)),
            WTERMSIG(status) == SIGBUS ? ": a page of its memory could not be read" : "");
    if (WEXITSTATUS(status) != 0)
        return dor_fail(
            DOR_E_IO, "QEMU ended with exit code %d; what it printed above says why",
            WEXITSTATUS(status));
    return 0;
}

/* Before the guest goes on and prints things itself. What it is sent earlier than this is lost. */
static int
say_woken(const struct cli *cli, uint64_t start_ns)
{
    char elapsed[CLI_NUMBER_BYTES];
    uint64_t elapsed_ns = base_clock_monotonic_ns() - start_ns;
    int rc = 0;
    if (cli->values.json)
        rc = cli_json_print(json_pack(
            "{s:o, s:o}", "name", cli_json_text(cli->args[0]), "elapsed_ns",
            cli_json_u64(elapsed_ns)));
    else if (!cli->values.quiet)
        printf("woke %s in %s\n", cli->args[0], cli_text_duration(elapsed_ns, elapsed));
    if (rc == 0 && fflush(stdout) != 0)
        rc = dor_fail_errno(errno, "cannot write to standard output");
    return rc;
}

static int
resume_and_wait(
    const struct cli *cli, int qmp_fd, pid_t child, const struct cli_run_files *files,
    uint64_t start_ns)
{
    struct cli_qmp qmp = {0};
    int status = 0;
    int rc = cli_qmp_begin(&qmp, qmp_fd);
    if (rc == 0)
        rc = cli_qmp_load(&qmp, files->state_fd);
    if (rc == 0)
        rc = say_woken(cli, start_ns);
    if (rc == 0)
        rc = cli_qmp_do(&qmp, "cont", NULL, -1, NULL);
    if (rc == 0)
        rc = wait_for_qemu(&qmp, child, &status);
    cli_qmp_fini(&qmp);
    if (rc == 0)
        return judge(status);
    end_qemu(child);
    return rc;
}

int
cli_run_run(const struct cli *cli)
{
    uint64_t start_ns = base_clock_monotonic_ns();
    AUTO_CLOSE int qmp_fd = -1;
    struct cli_run_files files = {.memory_fd = -1, .state_fd = -1};
    pid_t child = -1;
    cli_stop_catch();
    int rc = cli_run_files_open(cli, &files);
    if (rc == 0)
        rc = start(cli, &files, &qmp_fd, &child);
    if (rc == 0)
        rc = resume_and_wait(cli, qmp_fd, child, &files, start_ns);
    struct base_err err = *base_err_record();
    cli_run_files_fini(&files);
    return rc == 0 ? 0 : base_err_load(&err);
}
