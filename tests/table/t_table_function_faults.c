/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_table_function_faults.c - each allocation of each command on storage functions fails once: the
 * command says so, libraries and keys are as they were before it or after it, and all is served
 * from then on.
 */
#include "function_calls.h"

#include "base/fault.h"

enum { FAULTS_MAX = 400, STATE_BYTES = 1 << 16, ARGS_MANY = 40 };

static const char library_a[] =
    "#!js name=a\nredis.registerFunction('fa', (keys, args) => {\n"
    "  for (let i = 0; i < 200; i++) kv.put('k' + i, args[0]);\n"
    "  kv.del('gone');\n  return args.length; });\n"
    "redis.registerFunction('ga', () => kv.get('k7'), {flags: ['no-writes']});";
static const char library_b[] =
    "#!js name=b\nredis.registerFunction({function_name: 'fb', callback: () => 'b', "
    "description: 'the second', flags: ['no-writes']});";
static const char library_b2[] =
    "#!js name=b\nredis.registerFunction('fb', () => 'b2', {flags: ['no-writes']});\n"
    "redis.registerFunction('gb', () => 'b3', {flags: ['no-writes']});";
static const char library_c[] = "#!js name=c\nredis.registerFunction('fc', () => 'c');";

static uint8_t dump[8192];
static size_t dump_bytes;

/* A state that each round begins with: two libraries, some keys. */
static void
reset(void)
{
    ask("FLUSHALL");
    ask("FUNCTION", "FLUSH");
    ask("SET", "gone", "not yet");
    if (strcmp(ask("FUNCTION", "LOAD", library_a), "$1|a|") != 0 ||
        strcmp(ask("FUNCTION", "LOAD", library_b), "$1|b|") != 0)
        bail("%s", answer);
}

/* All that can be seen of it. */
static const char *
state(char ret[STATE_BYTES])
{
    size_t used = 0;
    ret[0] = '\0';
#define SEE(...)                                                                               \
    used += (size_t)snprintf(ret + used, STATE_BYTES - used, "%s\n", ask(__VA_ARGS__))
    SEE("FUNCTION", "LIST", "WITHCODE");
    SEE("FCALL_RO", "ga", "0");
    SEE("FCALL_RO", "fb", "0");
    SEE("FCALL_RO", "gb", "0");
    SEE("FCALL_RO", "fc", "0");
    SEE("DBSIZE");
    SEE("GET", "gone");
#undef SEE
    return ret;
}

static const char *
load(void)
{
    return ask("FUNCTION", "LOAD", library_c);
}

static const char *
replace(void)
{
    return ask("FUNCTION", "LOAD", "REPLACE", library_b2);
}

static const char *delete (void)
{
    return ask("FUNCTION", "DELETE", "b");
}

static const char *
flush(void)
{
    return ask("FUNCTION", "FLUSH");
}

static const char *
list(void)
{
    return ask("FUNCTION", "LIST", "WITHCODE");
}

static const char *
make_dump(void)
{
    return ask("FUNCTION", "DUMP");
}

static const char *
restore(void)
{
    const struct table_arg args[] = {
        {(const uint8_t *)"FUNCTION", 8, -1},
        {(const uint8_t *)"RESTORE", 7, -1},
        {dump, (uint32_t)dump_bytes, -1},
        {(const uint8_t *)"FLUSH", 5, -1},
    };
    return ask_args(1, args, 4);
}

static const char *
call(void)
{
    struct table_arg args[3 + ARGS_MANY] = {
        {(const uint8_t *)"FCALL", 5, -1},
        {(const uint8_t *)"fa", 2, -1},
        {(const uint8_t *)"0", 1, -1},
    };
    for (unsigned i = 3; i < ARRAY_LEN(args); i++)
        args[i] = (struct table_arg){(const uint8_t *)"value", 5, -1};
    return ask_args(1, args, ARRAY_LEN(args));
}

/* The context has gone, as after a while: libraries are read from the table again. */
static const char *
call_again(void)
{
    table_functions_forget(table_worker_tenant(worker, 1));
    return call();
}

static const struct {
    const char *name;
    const char *(*run)(void);
} operations[] = {
    {"LOAD", load},
    {"LOAD REPLACE", replace},
    {"DELETE", delete},
    {"FLUSH", flush},
    {"LIST", list},
    {"DUMP", make_dump},
    {"RESTORE", restore},
    {"FCALL", call},
    {"FCALL, all read again", call_again},
};

static void
test_operation(const char *name, const char *(*run)(void))
{
    static char before[STATE_BYTES], after[STATE_BYTES], now[STATE_BYTES];
    static char good_answer[STATE_BYTES];
    reset();
    state(before);
    snprintf(good_answer, sizeof good_answer, "%s", run());
    if (good_answer[0] == '-')
        bail("%s: %s", name, good_answer);
    state(after);
    bool fired = true, good = true;
    unsigned nth = 1, failed = 0;
    for (; fired && good && nth < FAULTS_MAX; nth++) {
        reset();
        base_fault_arm(FAULT_ALLOC, nth, 0);
        const char *text = run();
        base_fault_arm(FAULT_NONE, 0, 0);
        fired = base_fault_fired();
        bool told = strncmp(text, good_answer, STATE_BYTES - 1) != 0;
        failed += told;
        /* A reply for which there is no memory is cut, and its client is closed. */
        good = fired || !told;
        state(now);
        if (strcmp(now, after) != 0 && (!told || strcmp(now, before) != 0)) {
            note("answered %.200s, then %.2000s", text, now);
            good = false;
        }
    }
    ok(good && !fired, "%s: %u places, %u told of it", name, nth - 2, failed);
}

int
main(void)
{
    start_worker();
    add_tenant(1, 1 << 20, NULL);
    reset();
    ask("FUNCTION", "LOAD", library_c);
    ask("FUNCTION", "DUMP");
    const char *begin = strchr(answer, '|');
    if (begin == NULL || answer_bytes < 10)
        bail("no dump");
    dump_bytes = strtoul(answer + 1, NULL, 10);
    if (dump_bytes > sizeof dump)
        bail("a dump of %zu bytes", dump_bytes);
    memcpy(dump, begin + 1, dump_bytes);
    for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++)
        test_operation(operations[i].name, operations[i].run);
    stop_worker();
    return done_testing();
}
