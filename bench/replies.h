/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replies.h - what hiredis has from a server, for clients that are measured.
 *
 * Ownership:  the caller frees a reply.
 * Threads:    one for each server.
 * Errors:     end the program.
 */
#ifndef DOR_BENCH_REPLIES_H
#define DOR_BENCH_REPLIES_H

#include <hiredis/hiredis.h>

#include "harness.h"

/* The next reply of SERVER, which must be of TYPE. */
static inline redisReply *
replies_next(redisContext *server, int type)
{
    void *reply;
    if (redisGetReply(server, &reply) != REDIS_OK)
        bench_die("the server went away: %s", server->errstr);
    redisReply *answer = reply;
    if (answer->type != type)
        bench_die("another answer than expected: %s", answer->str ? answer->str : "no text");
    return answer;
}

#endif
