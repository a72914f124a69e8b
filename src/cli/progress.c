/* SPDX-License-Identifier: Apache-2.0 */
/*
 * progress.c - draws the line
 *
 *     put app-1  [#########-----------]  45.0 %  115.2 of 256.0 MiB  98.1 MiB/s  1 s left
 *
 * as wide as the terminal allows: the bar takes what is left, and goes when that is too little.
 */
#include "cli/progress.h"

#include "base/clock.h"
#include "base/size.h"
#include "cli/stop.h"
#include "cli/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define NS_PER_S   UINT64_C(1000000000)
#define FIRST_NS   NS_PER_S
#define BETWEEN_NS (NS_PER_S / 10)

enum {
    NUMBERS_BYTES = 128,
    LEFT_BYTES = 32,
    LEFT_SECONDS_MAX = 999999999,
    BAR_COLUMNS_MIN = 8,
    BAR_COLUMNS_MAX = 40,
    BAR_FRAME_COLUMNS = 4, /* brackets and the gap after them */
    BAR_BYTES = BAR_COLUMNS_MAX + BAR_FRAME_COLUMNS + 1,
    WHAT_COLUMNS_MAX = 32,
};

void
cli_progress_init(struct cli_progress *progress, const struct cli *cli, const char *what)
{
    const char *terminal = getenv("TERM");
    bool dumb = terminal == NULL || strcmp(terminal, "dumb") == 0;
    uint64_t now_ns = base_clock_monotonic_ns();
    *progress = (struct cli_progress){
        .what = what,
        .wanted = !cli->values.json && !cli->values.quiet && !dumb && isatty(STDERR_FILENO),
        .start_ns = now_ns,
        .next_ns = now_ns + FIRST_NS,
    };
}

static int
terminal_columns(void)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    return CLI_COLUMNS;
}

/* "3 s left", "4:05 left" or "2:00:00 left". */
static void
write_left(double seconds, char *buf, size_t buf_bytes)
{
    unsigned s = seconds < LEFT_SECONDS_MAX ? (unsigned)seconds : LEFT_SECONDS_MAX;
    if (s < 60)
        snprintf(buf, buf_bytes, "%u s left", s);
    else if (s < 3600)
        snprintf(buf, buf_bytes, "%u:%02u left", s / 60, s % 60);
    else
        snprintf(buf, buf_bytes, "%u:%02u:%02u left", s / 3600, s / 60 % 60, s % 60);
}

/* What stands behind the bar. */
static void
write_numbers(char buf[NUMBERS_BYTES], uint64_t done, uint64_t total, uint64_t elapsed_ns)
{
    char done_text[CLI_NUMBER_BYTES];
    char total_text[CLI_NUMBER_BYTES];
    char rate_text[CLI_NUMBER_BYTES];
    char left[LEFT_BYTES] = "";
    double rate = (double)done * (double)NS_PER_S / (double)elapsed_ns;
    if (rate > 0)
        write_left((double)(total - done) / rate, left, sizeof left);
    snprintf(
        buf, NUMBERS_BYTES, "%5.1f %%  %s of %s  %s/s  %s",
        100.0 * (double)done / (double)total, cli_text_size(done, done_text),
        cli_text_size(total, total_text), cli_text_size((uint64_t)rate, rate_text), left);
}

/* A bar of COLUMNS, or nothing when those are too few for one. */
static void
write_bar(char buf[BAR_BYTES], int columns, uint64_t done, uint64_t total)
{
    buf[0] = '\0';
    if (columns < BAR_COLUMNS_MIN)
        return;
    size_t length = (size_t)columns < BAR_COLUMNS_MAX ? (size_t)columns : BAR_COLUMNS_MAX;
    size_t filled = (size_t)((double)length * ((double)done / (double)total));
    memset(buf, '-', 1 + length);
    memset(buf, '#', 1 + filled);
    buf[0] = '[';
    memcpy(buf + 1 + length, "]  ", sizeof "]  ");
}

static void
draw(const struct cli_progress *progress, uint64_t done, uint64_t total, uint64_t now_ns)
{
    char numbers[NUMBERS_BYTES];
    char bar[BAR_BYTES];
    int width = terminal_columns() - 1; /* a full last column would wrap */
    write_numbers(numbers, done, total, now_ns - progress->start_ns);
    int spare = width - cli_text_columns(numbers);
    int what_columns = cli_text_columns(progress->what) + 2;
    bool named = what_columns <= WHAT_COLUMNS_MAX && what_columns <= spare;
    write_bar(bar, spare - (named ? what_columns : 0) - BAR_FRAME_COLUMNS, done, total);
    fprintf(
        stderr, "\r%s%s%s%.*s\033[K", named ? progress->what : "", named ? "  " : "", bar,
        width, numbers);
    fflush(stderr);
}

int
cli_progress_update(void *context, uint64_t done_bytes, uint64_t total_bytes)
{
    struct cli_progress *progress = context;
    if (progress->wanted && total_bytes > 0) {
        uint64_t now_ns = base_clock_monotonic_ns();
        if (now_ns >= progress->next_ns) {
            draw(progress, base_min_u64(done_bytes, total_bytes), total_bytes, now_ns);
            progress->drawn = true;
            progress->next_ns = now_ns + BETWEEN_NS;
        }
    }
    return cli_stop_signal() != 0;
}

void
cli_progress_clear(struct cli_progress *progress)
{
    if (!progress->drawn)
        return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    progress->drawn = false;
    progress->next_ns = 0;
}

void
cli_progress_fini(struct cli_progress *progress)
{
    cli_progress_clear(progress);
    progress->wanted = false;
}
