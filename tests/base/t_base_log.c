/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_base_log.c - one line an event, whatever is in it, and only of the levels that were asked
 * for.
 */
#include "base/log.h"
#include "tap.h"

#include <sys/wait.h>

/* Make standard error a pipe while FN runs; what it wrote, as a string. */
static const char *
captured(void (*fn)(void))
{
    static char text[4 * BASE_LOG_LINE_BYTES];
    int ends[2];
    int saved = dup(STDERR_FILENO);
    if (saved < 0 || pipe(ends) != 0)
        bail("no pipe");
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    fn();
    dup2(saved, STDERR_FILENO);
    close(saved);
    ssize_t n = read(ends[0], text, sizeof text - 1);
    text[n < 0 ? 0 : n] = '\0';
    close(ends[0]);
    return text;
}

static unsigned evaluated;

static unsigned
evaluate(void)
{
    return ++evaluated;
}

static void
log_all_levels(void)
{
    dor_log(ERROR, "base", "first", "n=%u", evaluate());
    dor_log(WARN, "base", "second", "n=%u", evaluate());
    dor_log(INFO, "base", "third", "n=%u", evaluate());
    dor_log(DEBUG, "base", "fourth", "n=%u", evaluate());
}

static void
log_line_break(void)
{
    dor_log(ERROR, "base", "odd", "name=%s", "a\nb\rc");
}

static void
log_long(void)
{
    char name[2 * BASE_LOG_LINE_BYTES];
    memset(name, 'x', sizeof name);
    name[sizeof name - 1] = '\0';
    dor_log(ERROR, "base", "long", "name=%s", name);
}

static unsigned
lines(const char *text)
{
    unsigned count = 0;
    for (; *text != '\0'; text++)
        count += *text == '\n';
    return count;
}

/* Whether a process started with DOR_LOG=WISH shows LEVEL. */
static bool
shown_under(const char *wish, enum base_log_level level)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        setenv("DOR_LOG", wish, 1);
        _exit(base_log_shows(level) ? 1 : 0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 1;
}

int
main(void)
{
    ok(shown_under("", LOG_LEVEL_WARN) && !shown_under("", LOG_LEVEL_INFO),
       "warn is the default");
    ok(shown_under("debug", LOG_LEVEL_DEBUG), "DOR_LOG=debug shows all");
    ok(!shown_under("error", LOG_LEVEL_WARN), "DOR_LOG=error hides warnings");
    ok(!shown_under("loud", LOG_LEVEL_INFO), "other words change nothing");

    base_log_level_set(LOG_LEVEL_INFO);
    const char *text = captured(log_all_levels);
    is_int(lines(text), 3, "three of four levels show");
    is_int(evaluated, 3, "arguments of a hidden line are not evaluated");
    ok(strstr(text, " warn base second n=2\n") != NULL, "level, room, event, pairs");
    int length = 0;
    sscanf(text, "%*4d-%*2d-%*2dT%*2d:%*2d:%*2d.%*3dZ%n", &length);
    is_int(length, 24, "the time comes first");
    is_int(lines(captured(log_line_break)), 1, "line breaks in values do not break the line");
    text = captured(log_long);
    is_int(strlen(text), BASE_LOG_LINE_BYTES, "long lines are cut");
    is_int(lines(text), 1, "and still end");
    return done_testing();
}
