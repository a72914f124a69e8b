/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auth.c - questions, a thread that works them off, answers.
 *
 *     fresh --cheap hash--> known: answered
 *                       \-> slow --full check--> answered
 *
 * Each question costs one cheap hash and, unless that is known, one full check, whoever it is
 * about: for nobody both are done against a hash that no password has. A right answer's cheap hash
 * goes to the table of known ones, at the place that the full hash leads to.
 */
#include "table/auth.h"

#include <assert.h>
#include <crypt.h>
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/size.h"
#include "base/thread.h"
#include "table/hash.h"
#include "table/tenants.h"

enum {
    QUESTIONS_MAX = 4096,
    KNOWN_MAX = 4096, /* a power of two */
    QUICK_SALT_BYTES = 32,
    QUICK_ROUNDS = 1000,
    PHRASE_BYTES = CRYPT_MAX_PASSPHRASE_SIZE,
};

static_assert(TABLE_HASH_BYTES > CRYPT_OUTPUT_SIZE, "a hash fits");
static_assert(TABLE_PASSWORD_BYTES_MAX == CRYPT_MAX_PASSPHRASE_SIZE, "crypt's own bound");

struct question {
    uint64_t ticket;
    bool nobody;
    char hash[TABLE_HASH_BYTES];
    char quick[TABLE_HASH_BYTES]; /* the cheap hash of the password; "" = there is none */
    char password[PHRASE_BYTES + 1];
};

struct ring {
    struct question *items;
    size_t first, count;
};

/* Who had that full hash was let in with a password of that quick hash. */
struct known {
    char full[TABLE_HASH_BYTES];
    char quick[TABLE_HASH_BYTES];
};

struct table_auth {
    struct base_thread thread;
    bool started;
    int event_fd;
    /* Of the thread alone. */
    struct crypt_data data;
    struct known *known;
    char quick_setting[QUICK_SALT_BYTES * 2];
    char nobody[TABLE_HASH_BYTES];
    struct question now;
    /* Under the mutex. */
    struct base_mutex mutex;
    struct base_condition condition;
    bool ending;
    size_t checking;                   /* 1 while the thread has a question */
    struct ring fresh, slow;           /* nothing is checked yet; the cheap hash is of no use */
    struct table_auth_answer *answers; /* a ring, from first_answer on */
    size_t first_answer, answer_count;
};

/* ------------------------------------------------------------------ hashes */

bool
table_auth_is_hash(const char *hash)
{
    size_t length = strlen(hash);
    return length > 0 && length < CRYPT_OUTPUT_SIZE && crypt_checksalt(hash) == CRYPT_SALT_OK;
}

static int
hash_with(const char *password, char *ret, size_t size_bytes, struct crypt_data *data)
{
    char setting[CRYPT_GENSALT_OUTPUT_SIZE];
    char random[32];
    int rc = base_random_seed_os(random, sizeof random);
    if (rc != 0)
        return rc;
    if (crypt_gensalt_rn("$y$", 0, random, sizeof random, setting, sizeof setting) == NULL)
        return dor_fail_errno(errno, "cannot make a salt");
    const char *hash = crypt_r(password, setting, data);
    if (hash == NULL || hash[0] == '*')
        return dor_fail_errno(errno, "cannot hash a password");
    dor_assert(strlen(hash) < size_bytes);
    memcpy(ret, hash, strlen(hash) + 1);
    return 0;
}

int
table_auth_hash(const char *password, char *ret, size_t size_bytes)
{
    if (strlen(password) >= TABLE_PASSWORD_BYTES_MAX)
        return dor_fail(
            DOR_E_USAGE, "a password has less than %d bytes", TABLE_PASSWORD_BYTES_MAX);
    struct crypt_data *data = base_zalloc(sizeof *data);
    if (data == NULL)
        return DOR_E_NO_MEMORY;
    int rc = hash_with(password, ret, size_bytes, data);
    explicit_bzero(data, sizeof *data);
    base_free(data);
    return rc;
}

/* Looks at every byte of both, whichever differ. */
static bool
is_same(const char *a, const char *b)
{
    size_t length = strnlen(a, TABLE_HASH_BYTES - 1);
    size_t other = strnlen(b, TABLE_HASH_BYTES - 1);
    unsigned char differ = length != other;
    for (size_t i = 0; i < TABLE_HASH_BYTES - 1; i++)
        differ |= (unsigned char)((i < length ? a[i] : 0) ^ (i < other ? b[i] : 0));
    return differ == 0;
}

/* ------------------------------------------------------------------ the thread */

static struct known *
known_place(struct table_auth *auth, const char *full)
{
    return &auth->known[table_hash_bytes(0, (const uint8_t *)full, strlen(full)) % KNOWN_MAX];
}

/* Whether its cheap hash is that of who was let in before. */
static bool
is_known(struct table_auth *auth, const struct question *question)
{
    const struct known *known = known_place(auth, question->hash);
    return !question->nobody && question->quick[0] != '\0' &&
           is_same(known->quick, question->quick) && strcmp(known->full, question->hash) == 0;
}

static bool
is_known_at_once(struct table_auth *auth, struct question *question)
{
    const char *made = crypt_r(question->password, auth->quick_setting, &auth->data);
    if (made != NULL && made[0] != '*')
        memcpy(question->quick, made, strlen(made) + 1);
    return is_known(auth, question);
}

static bool
is_right(struct table_auth *auth, const struct question *question)
{
    const char *full = question->nobody ? auth->nobody : question->hash;
    /* Of a thousand who come at once the first is known by now. */
    if (is_known(auth, question))
        return true;
    const char *made = crypt_r(question->password, full, &auth->data);
    bool right = made != NULL && made[0] != '*' && is_same(made, full) && !question->nobody;
    if (right && question->quick[0] != '\0') {
        struct known *known = known_place(auth, full);
        memcpy(known->quick, question->quick, sizeof known->quick);
        memcpy(known->full, question->hash, sizeof known->full);
    }
    return right;
}

/* A place at the end; whoever calls has seen that there is one. */
static struct question *
push(struct ring *ring)
{
    return &ring->items[(ring->first + ring->count++) % QUESTIONS_MAX];
}

static void
pop(struct ring *ring, struct question *ret)
{
    struct question *first = &ring->items[ring->first];
    *ret = *first;
    explicit_bzero(first, sizeof *first);
    ring->first = (ring->first + 1) % QUESTIONS_MAX;
    ring->count--;
}

static void
answer_locked(struct table_auth *auth, uint64_t ticket, bool right)
{
    size_t at = (auth->first_answer + auth->answer_count++) % QUESTIONS_MAX;
    auth->answers[at] = (struct table_auth_answer){ticket, right};
    /* A count that cannot grow further is readable already. */
    const uint64_t one = 1;
    ssize_t written = write(auth->event_fd, &one, sizeof one);
    (void)written;
}

/* Fresh ones first: who is known does not wait behind those who guess. */
static void
work_locked(struct table_auth *auth)
{
    bool fresh = auth->fresh.count > 0;
    pop(fresh ? &auth->fresh : &auth->slow, &auth->now);
    auth->checking = 1;
    base_mutex_unlock(&auth->mutex);
    bool right = fresh ? is_known_at_once(auth, &auth->now) : is_right(auth, &auth->now);
    base_mutex_lock(&auth->mutex);
    auth->checking = 0;
    if (fresh && !right)
        *push(&auth->slow) = auth->now;
    else
        answer_locked(auth, auth->now.ticket, right);
    explicit_bzero(&auth->now, sizeof auth->now);
}

static void
run(void *context)
{
    struct table_auth *auth = context;
    base_mutex_lock(&auth->mutex);
    while (!auth->ending) {
        if (auth->fresh.count + auth->slow.count > 0)
            work_locked(auth);
        else
            base_condition_wait(&auth->condition, &auth->mutex);
    }
    base_mutex_unlock(&auth->mutex);
}

/* ------------------------------------------------------------------ questions and answers */

int
table_auth_ask(
    struct table_auth *auth, uint64_t ticket, const char *hash, const void *password,
    size_t length)
{
    int rc = 0;
    base_mutex_lock(&auth->mutex);
    /* Every question has room for its answer. */
    size_t waiting = auth->fresh.count + auth->slow.count + auth->checking;
    if (waiting + auth->answer_count >= QUESTIONS_MAX) {
        rc = dor_fail(DOR_E_BUSY, "too many passwords wait to be checked");
    } else {
        struct question *question = push(&auth->fresh);
        *question = (struct question){.ticket = ticket};
        /* What crypt() would not take, or takes for the end, is nobody's password. */
        question->nobody = hash == NULL || strlen(hash) >= sizeof question->hash ||
                           length >= PHRASE_BYTES || memchr(password, '\0', length) != NULL;
        if (!question->nobody)
            memcpy(question->hash, hash, strlen(hash) + 1);
        if (length < PHRASE_BYTES)
            memcpy(question->password, password, length);
        base_condition_wake_all(&auth->condition);
    }
    base_mutex_unlock(&auth->mutex);
    return rc;
}

bool
table_auth_answer(struct table_auth *auth, struct table_auth_answer *ret)
{
    base_mutex_lock(&auth->mutex);
    bool any = auth->answer_count > 0;
    if (any) {
        *ret = auth->answers[auth->first_answer];
        auth->first_answer = (auth->first_answer + 1) % QUESTIONS_MAX;
        auth->answer_count--;
    } else {
        uint64_t count = 0;
        ssize_t got = read(auth->event_fd, &count, sizeof count);
        (void)got; /* nothing to read is fine */
    }
    base_mutex_unlock(&auth->mutex);
    return any;
}

int
table_auth_fd(const struct table_auth *auth)
{
    return auth->event_fd;
}

/* ------------------------------------------------------------------ opening */

static int
make_settings(struct table_auth *auth)
{
    char random[QUICK_SALT_BYTES];
    char password[QUICK_SALT_BYTES * 2 + 1];
    int rc = base_random_seed_os(random, sizeof random);
    if (rc != 0)
        return rc;
    if (crypt_gensalt_rn(
            "$5$", QUICK_ROUNDS, random, sizeof random, auth->quick_setting,
            sizeof auth->quick_setting) == NULL)
        return dor_fail_errno(errno, "cannot make a salt");
    rc = base_random_seed_os(random, sizeof random);
    for (size_t i = 0; i < sizeof random; i++) {
        password[2 * i] = (char)('a' + (random[i] & 15));
        password[2 * i + 1] = (char)('a' + (random[i] >> 4 & 15));
    }
    password[sizeof password - 1] = '\0';
    return rc == 0 ? hash_with(password, auth->nobody, sizeof auth->nobody, &auth->data) : rc;
}

static int
start(struct table_auth *auth)
{
    auth->known = base_array(KNOWN_MAX, sizeof *auth->known);
    auth->fresh.items = base_array(QUESTIONS_MAX, sizeof *auth->fresh.items);
    auth->slow.items = base_array(QUESTIONS_MAX, sizeof *auth->slow.items);
    auth->answers = base_array(QUESTIONS_MAX, sizeof *auth->answers);
    if (auth->known == NULL || auth->fresh.items == NULL || auth->slow.items == NULL ||
        auth->answers == NULL)
        return DOR_E_NO_MEMORY;
    auth->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (auth->event_fd < 0)
        return dor_fail_errno(errno, "cannot make an event descriptor");
    int rc = make_settings(auth);
    if (rc == 0)
        rc = base_thread_start(&auth->thread, "table-auth", run, auth);
    auth->started = rc == 0;
    return rc;
}

int
table_auth_open(struct table_auth **ret)
{
    struct table_auth *auth = base_zalloc(sizeof *auth);
    if (auth == NULL)
        return DOR_E_NO_MEMORY;
    auth->event_fd = -1;
    base_mutex_init(&auth->mutex);
    base_condition_init(&auth->condition);
    int rc = start(auth);
    if (rc != 0)
        table_auth_close(auth);
    else
        *ret = auth;
    return rc;
}

void
table_auth_close(struct table_auth *auth)
{
    if (auth == NULL)
        return;
    if (auth->started) {
        base_mutex_lock(&auth->mutex);
        auth->ending = true;
        base_condition_wake_all(&auth->condition);
        base_mutex_unlock(&auth->mutex);
        base_thread_join(&auth->thread);
    }
    base_condition_fini(&auth->condition);
    base_mutex_fini(&auth->mutex);
    base_close_fd(&auth->event_fd);
    struct question *rings[] = {auth->fresh.items, auth->slow.items};
    for (size_t i = 0; i < ARRAY_LEN(rings); i++) {
        if (rings[i] != NULL)
            explicit_bzero(rings[i], QUESTIONS_MAX * sizeof *rings[i]);
        base_free(rings[i]);
    }
    if (auth->known != NULL)
        explicit_bzero(auth->known, KNOWN_MAX * sizeof *auth->known);
    base_free(auth->answers);
    base_free(auth->known);
    explicit_bzero(auth, sizeof *auth);
    base_free(auth);
}
