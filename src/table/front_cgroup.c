/* SPDX-License-Identifier: Apache-2.0 */
/*
 * front_cgroup.c - a memory control group for each worker, inside the one that the front is in,
 * where the system lets it make one: version 1, or version 2 if the memory controller is on for
 * children. The kernel then ends a worker by itself that takes more than the front allows, also
 * between two looks. Tables count too, for the kernel charges them to who touches them first.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "table/front_priv.h"

enum { NUMBER_BYTES = 24, LINES_BYTES_MAX = 1 << 16 };

/* Where the group of the memory controller of this process is in the file system. */
static bool
find_own_group(char *ret, size_t size_bytes, bool *ret_version_2)
{
    AUTO_BUF struct base_buf text = {0};
    char *line = NULL;
    if (base_file_read_all(AT_FDCWD, "/proc/self/cgroup", LINES_BYTES_MAX, &text) != 0 ||
        base_buf_append(&text, "", 1) != 0)
        return false;
    char *rest = (char *)text.data;
    char *unified = NULL;
    while ((line = strsep(&rest, "\n")) != NULL) {
        char *controllers = strchr(line, ':');
        char *path = controllers == NULL ? NULL : strchr(controllers + 1, ':');
        if (path == NULL)
            continue;
        *path++ = '\0';
        if (strcmp(controllers + 1, "memory") == 0) {
            *ret_version_2 = false;
            return snprintf(ret, size_bytes, "/sys/fs/cgroup/memory%s", path) < (int)size_bytes;
        }
        if (controllers[1] == '\0')
            unified = path;
    }
    *ret_version_2 = true;
    return unified != NULL &&
           snprintf(ret, size_bytes, "/sys/fs/cgroup%s", unified) < (int)size_bytes;
}

static int
write_number(const char *group, const char *file, uint64_t number)
{
    char path[FRONT_CGROUP_BYTES * 2];
    char text[NUMBER_BYTES];
    AUTO_CLOSE int fd = -1;
    snprintf(path, sizeof path, "%s/%s", group, file);
    int bytes = snprintf(text, sizeof text, "%" PRIu64, number);
    int rc = base_file_open(AT_FDCWD, path, O_WRONLY, 0, &fd);
    if (rc != 0)
        return rc;
    return write(fd, text, (size_t)bytes) == bytes ? 0 : dor_fail_errno(errno, "%s", path);
}

static void
group_of(const struct table_front *front, const struct front_worker *worker, char *ret)
{
    snprintf(ret, FRONT_CGROUP_BYTES + NUMBER_BYTES, "%s/worker-%u", front->cgroup, worker->id);
}

void
front_cgroup_open(struct table_front *front)
{
    char own[FRONT_CGROUP_BYTES - NUMBER_BYTES - 16];
    char probe[FRONT_CGROUP_BYTES * 2];
    if (!find_own_group(own, sizeof own, &front->cgroup_version_2)) {
        dor_log(INFO, "table", "no_cgroup", "reason=\"no memory controller is found\"");
        return;
    }
    snprintf(front->cgroup, sizeof front->cgroup, "%s/dormouse-%d", own, (int)getpid());
    front->cgroup_limit = front->cgroup_version_2 ? "memory.max" : "memory.limit_in_bytes";
    snprintf(probe, sizeof probe, "%s/%s", front->cgroup, front->cgroup_limit);
    if (mkdir(front->cgroup, S_IRWXU) == 0 && access(probe, W_OK) == 0)
        return;
    dor_log(INFO, "table", "no_cgroup", "path=%s error=\"%s\"", front->cgroup, strerror(errno));
    (void)rmdir(front->cgroup);
    front->cgroup[0] = '\0';
}

void
front_cgroup_add(struct table_front *front, struct front_worker *worker)
{
    char group[FRONT_CGROUP_BYTES + NUMBER_BYTES];
    if (front->cgroup[0] == '\0')
        return;
    group_of(front, worker, group);
    uint64_t limit = front_worker_memory_max(worker);
    for (unsigned slot = 0; slot < worker->rows; slot++)
        if (worker->tenants[slot] != NULL)
            limit += worker->tenants[slot]->config.options.limit;
    worker->has_cgroup = mkdir(group, S_IRWXU) == 0 || errno == EEXIST;
    int rc = worker->has_cgroup ? write_number(group, front->cgroup_limit, limit)
                                : dor_fail_errno(errno, "%s", group);
    if (rc == 0)
        rc = write_number(group, "cgroup.procs", (uint64_t)worker->pid);
    if (rc != 0)
        dor_log(WARN, "table", "no_cgroup", "error=\"%s\"", dor_err_message());
}

/* Its process has ended, but perhaps not yet for the group; then it goes with the next one. */
void
front_cgroup_remove(struct table_front *front, struct front_worker *worker)
{
    char group[FRONT_CGROUP_BYTES + NUMBER_BYTES];
    if (!worker->has_cgroup)
        return;
    group_of(front, worker, group);
    worker->has_cgroup = rmdir(group) != 0 && errno == EBUSY;
}

void
front_cgroup_close(struct table_front *front)
{
    if (front->cgroup[0] != '\0' && rmdir(front->cgroup) != 0)
        dor_log(
            INFO, "table", "cgroup_left", "path=%s error=\"%s\"", front->cgroup,
            strerror(errno));
}
