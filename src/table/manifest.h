/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manifest.h - the file that says what a tenant's table is made of, and its folder of logs put in
 * order after a crash (docs/formats/table-log.md).
 *
 * Ownership:  directories are the caller's.
 * Threads:    any; a folder, one at a time.
 * Errors:     DOR_E_CORRUPT with the file's name.
 */
#ifndef DOR_TABLE_MANIFEST_H
#define DOR_TABLE_MANIFEST_H

#include <dormouse/err.h>
#include <stdbool.h>
#include <stdint.h>

enum { TABLE_LOG_NAME_BYTES = 32 };

struct table_manifest {
    uint64_t log_number;     /* of the log that goes on */
    uint64_t first_sequence; /* of the first frame that is not in the snapshot */
    uint64_t snapshot_id;    /* 0 = none */
    uint64_t snapshot_ns;
    uint64_t snapshot_number; /* in its name */
};

/* DOR_E_NOT_FOUND: there is none. */
DOR_MUST_CHECK int
table_manifest_read(int directory, const char *tenant, struct table_manifest *ret);
DOR_MUST_CHECK int
table_manifest_write(int directory, const char *tenant, const struct table_manifest *manifest);

void table_log_file_name(uint64_t number, char ret[TABLE_LOG_NAME_BYTES]);

/*
 * Leave one log in the folder, that of MANIFEST, with all changes that can be had, and open it.
 * Without a manifest (HAS_MANIFEST) it may be missing, and is made. REPAIR: what is behind a
 * damage is kept aside.
 */
DOR_MUST_CHECK int table_logs_fold(
    int directory, const char *tenant, const struct table_manifest *manifest, bool has_manifest,
    bool repair, int *ret_fd);

/* Remove the logs with numbers below FIRST. */
DOR_MUST_CHECK int table_logs_drop(int directory, uint64_t first);

#endif
