/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auth.h - passwords: hashed by yescrypt (crypt(5)), and checked in a thread, for a check takes
 * some milliseconds of cpu on purpose. Every question costs the same, also about a user who is
 * unknown or has no password.
 *
 * Who was let in is recognized by a cheaper hash, salted anew in every process and kept in memory
 * alone, so that a thousand connections of one user do not cost a thousand full checks.
 *
 * Ownership:  passwords are copied, and wiped when they are answered.
 * Threads:    one asks and takes answers; the checks have a thread of their own.
 * Errors:     DOR_E_BUSY when too many checks wait.
 */
#ifndef DOR_TABLE_AUTH_H
#define DOR_TABLE_AUTH_H

#include <dormouse/err.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TABLE_PASSWORD_BYTES_MAX = 512 /* what crypt() takes */ };

/* The hash of PASSWORD, to be kept. */
DOR_MUST_CHECK int table_auth_hash(const char *password, char *ret, size_t size_bytes);

/* Whether HASH is one that passwords can be checked against. */
bool table_auth_is_hash(const char *hash);

struct table_auth;

struct table_auth_answer {
    uint64_t ticket;
    bool right;
};

DOR_MUST_CHECK int table_auth_open(struct table_auth **ret);
void table_auth_close(struct table_auth *auth); /* NULL is fine */

/* Readable when there are answers. */
int table_auth_fd(const struct table_auth *auth);

/*
 * Check PASSWORD of LENGTH bytes against HASH, which is NULL when there is nobody to be checked.
 * The answer bears TICKET.
 */
DOR_MUST_CHECK int table_auth_ask(
    struct table_auth *auth, uint64_t ticket, const char *hash, const void *password,
    size_t length);

/* False when there is none now. */
bool table_auth_answer(struct table_auth *auth, struct table_auth_answer *ret);

#endif
