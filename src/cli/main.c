/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main.c - the program: parses, runs one verb, tells what went wrong.
 * Results go to standard output, everything else to standard error; the exit code is 0 or the
 * positive number of the enum dor_errno.
 */
#include "base/err.h"
#include "base/mem.h"
#include "base/version.h"
#include "cli/args.h"
#include "cli/help.h"
#include "cli/json.h"
#include "cli/stop.h"
#include "cli/text.h"

#include <dormouse/table.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * A caller may have closed standard descriptors. The next open() would take their numbers, and a
 * line of error text would land in a segment of the store.
 */
static void
hold_standard_descriptors(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

/* A file may not grow beyond a limit of the shell; to hear it from write() leaves time to undo. */
static void
survive_file_size_limit(void)
{
    signal(SIGXFSZ, SIG_IGN);
}

static int
run(const struct cli *cli)
{
    if (cli->values.help) {
        cli_help_print(cli->verb, stdout);
        return 0;
    }
    if (cli->values.version) {
        puts("dormouse " DORMOUSE_VERSION);
        return 0;
    }
    return cli->verb->run(cli);
}

/* A full disk or a closed pipe shows only here. */
static int
flush_output(void)
{
    if (fflush(stdout) != 0)
        return dor_fail_errno(errno, "cannot write to standard output");
    if (ferror(stdout))
        return dor_fail(DOR_E_IO, "cannot write to standard output");
    return 0;
}

static void
tell(int code, bool json)
{
    char words[4 * DOR_ERR_TEXT_BYTES];
    if (json)
        cli_json_print_error(code);
    else
        fprintf(
            stderr, "dormouse: %s\n", cli_text_clean(dor_err_message(), words, sizeof words));
}

int
main(int argc, char **argv)
{
    hold_standard_descriptors();
    if (argc == 2 && strcmp(argv[1], DOR_TABLE_ZYGOTE_WORD) == 0)
        return dor_table_zygote_main();
    survive_file_size_limit();
    struct cli cli;
    bool json = cli_args_want_json(argc, argv);
    int rc = cli_args_parse(&cli, argc, argv);
    if (rc == 0)
        rc = run(&cli);
    /* What was printed before an error is still to be seen, in its order. */
    struct base_err err = *base_err_record();
    int flushed = flush_output();
    if (rc == 0)
        rc = flushed;
    else
        base_err_load(&err);
    cli_args_fini(&cli);
    if (rc == 0)
        return EXIT_SUCCESS;
    tell(rc, json);
    if (cli_stop_signal() != 0)
        cli_stop_die(cli_stop_signal());
    return -rc;
}
