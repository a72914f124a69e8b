/* SPDX-License-Identifier: Apache-2.0 */
/*
 * watch.h - keys that clients watch until EXEC: each change of a table is looked up here, and
 * breaks the transactions of those who watch its key.
 *
 * Ownership:  marks belong to their client and are in chains of its tenant.
 * Threads:    those of the worker.
 * Errors:     DOR_E_NO_MEMORY.
 */
#ifndef DOR_TABLE_WATCH_H
#define DOR_TABLE_WATCH_H

#include "table/client.h"

/* Watch KEY, which is there or not. */
DOR_MUST_CHECK int
table_watch_add(struct table_client *client, const struct table_key *key, bool exists);

/* KEY has changed; NULL: all that were there are gone. */
void table_watch_changed(struct table_tenant *tenant, const struct table_key *key);

/* Look at each key that CLIENT watches, so that one whose time has come is noticed. */
void table_watch_expire(struct table_client *client);

/* Of a tenant without clients. */
void table_watch_free(struct table_tenant *tenant);

#endif
