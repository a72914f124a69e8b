/* SPDX-License-Identifier: Apache-2.0 */
/*
 * status.c - makes the memory file, sealed so that its size stays.
 */
#include "table/status.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"

static_assert(sizeof(struct table_status) <= TABLE_STATUS_HEAD_BYTES, "the head has room");
static_assert(sizeof(struct table_status_row) == 64, "a row is a cache line");

struct table_status *table_status_own;

int
table_status_map(int fd, unsigned rows, struct table_status **ret)
{
    if (rows > TABLE_STATUS_ROWS_MAX)
        return dor_fail(DOR_E_USAGE, "a status page of %u rows is too large", rows);
    void *map = mmap(NULL, table_status_bytes(rows), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return dor_fail_errno(errno, "cannot map a status page");
    *ret = map;
    return 0;
}

int
table_status_create(unsigned rows, int *ret_fd, struct table_status **ret)
{
    AUTO_CLOSE int fd = memfd_create("dormouse-status", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, (off_t)table_status_bytes(rows)) != 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
        return dor_fail_errno(errno, "cannot make a status page");
    int rc = table_status_map(fd, rows, ret);
    if (rc == 0)
        *ret_fd = base_take_fd(&fd);
    return rc;
}

void
table_status_unmap(struct table_status *status, unsigned rows)
{
    if (status != NULL)
        munmap(status, table_status_bytes(rows));
}
