/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_table_tenants.c - the file of tenants: what is written is read again, what makes no sense is
 * refused with the file as it was, and passwords are right or wrong whoever they are asked about.
 */
#include "table/tenants.h"

#include <poll.h>
#include <sys/stat.h>

#include "base/fault.h"
#include "base/mem.h"
#include "table/auth.h"
#include "tap.h"

static char path[] = "/tmp/t_table_tenants.XXXXXX";
static char file[64];

static int
count(void *context, const struct dor_tenant_info *tenant)
{
    (void)tenant;
    ++*(int *)context;
    return 0;
}

static int
tenants_in_file(void)
{
    int number = 0;
    return dor_tenant_each(file, count, &number) == 0 ? number : -1;
}

static void
test_verbs(void)
{
    const struct dor_tenant_setting settings[] = {
        {"limit", "64M"}, {"policy", "allkeys-lru"}, {"isolation", "shared"}, {"domain", "d"}};
    const struct dor_tenant_setting bad[] = {{"limit", "1"}};
    const struct dor_tenant_setting unknown[] = {{"colour", "red"}};
    struct table_tenants list;
    struct stat status;
    is_int(tenants_in_file(), 0, "a file that is not there has no tenants");
    is_ok(dor_tenant_add(file, "bob", "secret", settings, 4), "add with settings");
    is_ok(dor_tenant_add(file, "alice", "geheim", NULL, 0), "add without");
    is_ok(dor_tenant_add(file, "default", NULL, NULL, 0), "default needs no password");
    is_int(tenants_in_file(), 3, "three are there");
    is_int(dor_tenant_add(file, "bob", "x", NULL, 0), DOR_E_EXISTS, "bob is there already");
    is_int(dor_tenant_add(file, "carl", NULL, NULL, 0), DOR_E_USAGE, "others need a password");
    is_int(dor_tenant_add(file, "carl", "", NULL, 0), DOR_E_USAGE, "and not an empty one");
    is_int(dor_tenant_add(file, "../carl", "x", NULL, 0), DOR_E_USAGE, "no paths as names");
    is_int(dor_tenant_add(file, "", "x", NULL, 0), DOR_E_USAGE, "no empty name");
    is_int(dor_tenant_add(file, "carl", "x", bad, 1), DOR_E_USAGE, "a limit out of range");
    is_int(dor_tenant_add(file, "carl", "x", unknown, 1), DOR_E_USAGE, "an unknown setting");
    is_int(dor_tenant_remove(file, "carl"), DOR_E_NOT_FOUND, "who is not there cannot go");
    is_int(
        dor_tenant_set_password(file, "carl", "x"), DOR_E_NOT_FOUND,
        "and gets no new password");
    is_int(tenants_in_file(), 3, "still three");
    ok(stat(file, &status) == 0 && (status.st_mode & 077) == 0,
       "the file is its owner's alone");
    is_ok(table_tenants_load(file, &list), "load");
    const struct table_tenant_config *bob = table_tenants_find(&list, "bob");
    ok(bob != NULL && bob->options.limit == 64 << 20 && bob->options.policy == 1 &&
           bob->options.isolation == TABLE_ISOLATION_SHARED && strcmp(bob->domain, "d") == 0,
       "bob is as he was said to be");
    ok(bob != NULL && strstr(bob->password, "secret") == NULL, "his password is not there");
    char before[TABLE_HASH_BYTES];
    snprintf(before, sizeof before, "%s", bob == NULL ? "" : bob->password);
    table_tenants_fini(&list);
    is_ok(dor_tenant_set_password(file, "bob", "secret"), "the same password again");
    is_ok(table_tenants_load(file, &list), "load");
    bob = table_tenants_find(&list, "bob");
    ok(bob != NULL && strcmp(bob->password, before) != 0, "has another salt");
    table_tenants_fini(&list);
    is_ok(dor_tenant_remove(file, "alice"), "remove");
    is_int(tenants_in_file(), 2, "two are left");
}

static void
test_files(void)
{
    static const char *const bad[] = {
        "",
        "[]",
        "{}",
        "{\"tenants\": 1}",
        "{\"tenants\": [1]}",
        "{\"tenants\": [{}]}",
        "{\"tenants\": [], \"more\": 1}",
        "{\"tenants\": [{\"name\": \"a\"}]}",
        "{\"tenants\": [{\"name\": \"a\", \"password\": \"plain\"}]}",
        "{\"tenants\": [{\"name\": \"default\", \"password\": \"\"}]}",
        "{\"tenants\": [{\"name\": \"default\", \"limit\": \"much\"}]}",
        "{\"tenants\": [{\"name\": \"default\", \"limit\": -1}]}",
        "{\"tenants\": [{\"name\": \"default\", \"limit\": 1.5}]}",
        "{\"tenants\": [{\"name\": \"default\", \"hue\": 1}]}",
        "{\"tenants\": [{\"name\": \"default\", \"domain\": \"a/b\"}]}",
        "{\"tenants\": [{\"name\": \"default\"}, {\"name\": \"default\"}]}",
        "{\"tenants\": [{\"name\": \"default\", \"name\": \"x\"}]}",
    };
    struct table_tenants list;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        is_int(
            table_tenants_parse(bad[i], strlen(bad[i]), "f", &list),
            i == 15 ? DOR_E_EXISTS : DOR_E_USAGE, "refused: %s", bad[i]);
    const char *good =
        "{\"tenants\": [{\"name\": \"default\", \"limit\": \"1G\", \"log\": \"always\"}]}";
    is_ok(table_tenants_parse(good, strlen(good), "f", &list), "sizes may be text");
    ok(list.count == 1 && list.items[0].options.limit == 1 << 30, "and mean what they say");
    table_tenants_fini(&list);
}

/* Every allocation fails once; the file is as it was, or as it should be. */
static void
test_faults(void)
{
    bool whole = true;
    bool fired = true;
    int before = tenants_in_file();
    for (uint64_t nth = 1; fired && whole; nth++) {
        base_fault_arm(FAULT_ALLOC, nth, 0);
        int rc = dor_tenant_remove(file, "bob");
        base_fault_arm(FAULT_NONE, 0, 0);
        fired = base_fault_fired();
        whole = tenants_in_file() == before - (rc == 0);
        if (rc == 0)
            break;
    }
    ok(whole, "a failure of any allocation leaves a whole file");
}

static bool
ask(struct table_auth *auth, const char *hash, const char *password)
{
    struct table_auth_answer answer = {0};
    if (table_auth_ask(auth, 7, hash, password, strlen(password)) != 0)
        bail("cannot ask: %s", dor_err_message());
    struct pollfd fd = {.fd = table_auth_fd(auth), .events = POLLIN};
    while (!table_auth_answer(auth, &answer))
        poll(&fd, 1, 1000);
    if (answer.ticket != 7)
        bail("another ticket");
    return answer.right;
}

static void
test_auth(void)
{
    struct table_auth *auth = NULL;
    char hash[TABLE_HASH_BYTES];
    char other[TABLE_HASH_BYTES];
    char longest[2048];
    is_ok(table_auth_open(&auth), "open");
    is_ok(table_auth_hash("secret", hash, sizeof hash), "hash");
    is_ok(table_auth_hash("other", other, sizeof other), "another");
    ok(strncmp(hash, "$y$", 3) == 0, "it is one of yescrypt");
    ok(table_auth_is_hash(hash) && !table_auth_is_hash("plain") && !table_auth_is_hash(""),
       "what a hash is");
    ok(ask(auth, hash, "secret"), "the right one");
    ok(ask(auth, hash, "secret"), "again");
    ok(!ask(auth, hash, "Secret"), "a wrong one");
    ok(!ask(auth, other, "secret"), "that of another");
    ok(ask(auth, other, "other"), "the other's own");
    ok(ask(auth, hash, "secret"), "the first still");
    ok(!ask(auth, hash, ""), "an empty one");
    ok(!ask(auth, NULL, "secret"), "nobody has a password");
    ok(!ask(auth, NULL, "secret"), "again not");
    ok(!ask(auth, "*", "secret"), "what is no hash has none");
    memset(longest, 'a', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    ok(!ask(auth, hash, longest), "one that is too long");
    is_int(
        table_auth_hash(longest, hash, sizeof hash), DOR_E_USAGE, "which cannot be set either");
    ok(table_auth_ask(auth, 9, other, "other\0x", 7) == 0, "a zero byte inside");
    struct table_auth_answer answer = {0};
    struct pollfd fd = {.fd = -1};
    while (!table_auth_answer(auth, &answer))
        poll(&fd, 1, 10);
    ok(!answer.right, "is not cut off");
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < 10000; i++)
        rc = table_auth_ask(auth, 8, NULL, "x", 1);
    is_int(rc, DOR_E_BUSY, "the queue is bounded");
    table_auth_close(auth);
    is_ok(table_auth_open(&auth), "open");
    bool in_order = true;
    for (uint64_t i = 0; i < 300; i++)
        if (table_auth_ask(auth, i, other, "other", 5) != 0)
            bail("cannot ask: %s", dor_err_message());
    for (uint64_t i = 0; i < 300; i++) {
        while (!table_auth_answer(auth, &answer))
            poll(&fd, 1, 10);
        in_order = in_order && answer.right && answer.ticket == i;
    }
    ok(in_order, "300 questions at once have 300 answers");
    table_auth_close(auth);
}

int
main(void)
{
    if (mkdtemp(path) == NULL)
        bail("no directory");
    snprintf(file, sizeof file, "%s/tenants.json", path);
    test_verbs();
    test_files();
    test_faults();
    test_auth();
    char command[96];
    snprintf(command, sizeof command, "%s.lock", file);
    unlink(command);
    unlink(file);
    rmdir(path);
    return done_testing();
}
