/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tables.c - tables kept in a snapshot store (table/keeper.h): an arena is memory like that of a
 * sandbox, so it is put like one, as a child of the tenant's last snapshot, and woken like one,
 * by the page server through userfaultfd.
 */
#include <dormouse/store.h>
#include <dormouse/table.h>
#include <dormouse/wake.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/thread.h"
#include "base/unix_socket.h"
#include "table/fill.h"
#include "table/keeper.h"
#include "wake/uffd.h"

#define LOCK_WAIT_NS UINT64_C(30000000000)
#define LOCK_STEP_US 50000
#define CACHE_BYTES  (UINT64_C(32) << 20)
#define HANDSHAKE_NS (UINT64_C(60) * 1000000000)
#define NAMES_MAX    65536

struct keeper {
    struct dor_table_keeper face; /* first: it is what the others know */
    char *directory;
    struct base_mutex mutex; /* one writer at a time; the store's own lock would make us wait */
    struct dor_wake_server *server; /* NULL before the first table comes back */
};

struct table_fill {
    struct base_listener listener;
    struct wake_uffd *uffd;
    struct wake_uffd_counters counters;
    char directory[64], path[96];
};

static struct keeper *
keeper_of(struct dor_table_keeper *face)
{
    return (struct keeper *)face;
}

/* ------------------------------------------------------------------ putting */

/* The store for writing: another process may have it for a while. */
static int
open_writer(
    struct keeper *keeper, int (*stop)(void *context), void *context, struct dor_store **ret)
{
    uint64_t until_ns = base_clock_monotonic_ns() + LOCK_WAIT_NS;
    for (;;) {
        int rc = dor_store_open(keeper->directory, DOR_OPEN_WRITE, NULL, ret);
        if (rc != DOR_E_BUSY || base_clock_monotonic_ns() > until_ns ||
            (stop != NULL && stop(context) != 0))
            return rc;
        usleep(LOCK_STEP_US);
    }
}

static int
ask_stop(void *context, uint64_t done_bytes, uint64_t total_bytes)
{
    const struct table_keeper_put *how = context;
    (void)done_bytes;
    (void)total_bytes;
    return how->stop(how->stop_context);
}

static int
put_locked(
    struct keeper *keeper, const struct table_keeper_put *how, struct table_keeper_result *ret)
{
    struct dor_store *store = NULL;
    int rc = open_writer(keeper, how->stop, how->stop_context, &store);
    if (rc != 0)
        return rc;
    uint64_t parent_id;
    bool has_parent =
        how->parent != NULL && dor_store_find(store, how->parent, &parent_id) == 0;
    const struct dor_put put = {
        .image_fd = -1,
        .source = how->source,
        .domain = how->domain,
        .parent = has_parent ? how->parent : NULL,
        .replace = true,
        .progress = ask_stop,
        .progress_context = (void *)(uintptr_t)how,
    };
    struct dor_put_result result;
    rc = dor_store_put(store, how->name, &put, &result);
    if (rc == 0) {
        ret->added_bytes = result.added_bytes;
        rc = dor_store_find(store, how->name, &ret->id);
    }
    dor_store_close(store);
    return rc;
}

static int
put(struct dor_table_keeper *face, const struct table_keeper_put *how,
    struct table_keeper_result *ret)
{
    struct keeper *keeper = keeper_of(face);
    base_mutex_lock(&keeper->mutex);
    int rc = put_locked(keeper, how, ret);
    base_mutex_unlock(&keeper->mutex);
    return rc == 0 ? 0 : dor_fail_wrap("snapshot %s", how->name);
}

/* ------------------------------------------------------------------ dropping */

struct names {
    const char *prefix, *keep;
    char (*items)[DOR_NAME_BYTES_MAX + 1];
    size_t count;
};

static int
take_name(void *context, const struct dor_snapshot_info *info)
{
    struct names *names = context;
    if (strncmp(info->name, names->prefix, strlen(names->prefix)) != 0 ||
        (names->keep != NULL && strcmp(info->name, names->keep) == 0) ||
        names->count == NAMES_MAX)
        return 0;
    /* The rest of the name is a number, or it is another tenant's. */
    const char *rest = info->name + strlen(names->prefix);
    if (rest[strspn(rest, "0123456789")] != '\0')
        return 0;
    void *grown = base_realloc_array(names->items, names->count + 1, sizeof names->items[0]);
    if (grown == NULL)
        return DOR_E_NO_MEMORY;
    names->items = grown;
    memcpy(names->items[names->count++], info->name, sizeof info->name);
    return 0;
}

static int
drop_named(struct keeper *keeper, const struct names *names)
{
    struct dor_store *store = NULL;
    int rc = open_writer(keeper, NULL, NULL, &store);
    for (size_t i = 0; rc == 0 && i < names->count; i++) {
        rc = dor_store_remove(store, names->items[i]);
        rc = rc == DOR_E_NOT_FOUND ? 0 : rc;
    }
    dor_store_close(store);
    return rc;
}

static int
list_named(struct keeper *keeper, struct names *names)
{
    struct dor_store *store = NULL;
    int rc = dor_store_open(keeper->directory, DOR_OPEN_READ, NULL, &store);
    if (rc == 0)
        rc = dor_store_list(store, take_name, names);
    dor_store_close(store);
    return rc;
}

static int
drop(struct dor_table_keeper *face, const char *prefix, const char *keep)
{
    struct keeper *keeper = keeper_of(face);
    struct names names = {.prefix = prefix, .keep = keep};
    base_mutex_lock(&keeper->mutex);
    int rc = list_named(keeper, &names);
    if (rc == 0 && names.count > 0)
        rc = drop_named(keeper, &names);
    base_mutex_unlock(&keeper->mutex);
    base_free(names.items);
    return rc;
}

/* ------------------------------------------------------------------ coming back */

static int
find(struct dor_table_keeper *face, const char *name, uint64_t id, uint64_t *ret_bytes)
{
    struct keeper *keeper = keeper_of(face);
    struct dor_store *store = NULL;
    struct dor_snapshot_info info;
    int rc = dor_store_open(keeper->directory, DOR_OPEN_READ, NULL, &store);
    if (rc == 0)
        rc = dor_store_find_info(store, name, &info);
    dor_store_close(store);
    if (rc == 0 && info.id != id)
        rc = dor_fail(
            DOR_E_NOT_FOUND,
            "snapshot %s: is number %" PRIu64 " of its store, and %" PRIu64 " is wanted", name,
            info.id, id);
    if (rc == 0)
        *ret_bytes = info.logical_bytes;
    return rc;
}

static int
fill(struct dor_table_keeper *face, const char *name, int fd)
{
    struct keeper *keeper = keeper_of(face);
    struct dor_store *store = NULL;
    struct dor_snapshot *snapshot = NULL;
    int rc = dor_store_open(keeper->directory, DOR_OPEN_READ, NULL, &store);
    if (rc == 0)
        rc = dor_snapshot_open(store, name, &snapshot);
    if (rc == 0)
        rc = dor_snapshot_write_image(snapshot, fd, NULL, NULL);
    dor_snapshot_close(snapshot);
    dor_store_close(store);
    return rc == 0 ? 0 : dor_fail_wrap("snapshot %s", name);
}

static void
finish_fill(struct table_fill *fill)
{
    wake_uffd_finish(fill->uffd);
}

static void
end_fill(struct table_fill *fill)
{
    wake_uffd_close(fill->uffd);
    base_listener_close(&fill->listener);
    if (fill->directory[0] != '\0')
        rmdir(fill->directory);
    base_free(fill);
}

static int
open_server(struct keeper *keeper)
{
    const struct dor_wake_options options = {.cache_bytes = CACHE_BYTES};
    return keeper->server != NULL
               ? 0
               : dor_wake_server_open(keeper->directory, &options, &keeper->server);
}

/* A socket in a folder that nobody else can look into. */
static int
listen_alone(struct table_fill *fill)
{
    char folder[] = "/tmp/dormouse-table.XXXXXX";
    if (mkdtemp(folder) == NULL)
        return dor_fail_errno(errno, "no folder for a socket in /tmp");
    snprintf(fill->directory, sizeof fill->directory, "%s", folder);
    snprintf(fill->path, sizeof fill->path, "%s/pages", folder);
    return base_listener_open(fill->path, 0600, &fill->listener);
}

static int
serve_pages(struct keeper *keeper, const char *name, struct table_fill *fill)
{
    const struct dor_wake_uffd options = {
        .clients_max = 1,
        .handshake_ns = HANDSHAKE_NS,
        .fill = true,
        .core = DOR_WAKE_CORE_ANY};
    struct wake_uffd_how how;
    int rc = wake_uffd_how_of(&options, &how);
    if (rc == 0)
        rc = listen_alone(fill);
    if (rc != 0)
        return rc;
    how.listener = fill->listener.fd;
    how.name = name;
    how.counters = &fill->counters;
    return wake_uffd_open(keeper->server, &how, &fill->uffd);
}

static int
fill_lazily(
    struct dor_table_keeper *face, const char *name, int *ret_socket, struct table_fill **ret)
{
    struct keeper *keeper = keeper_of(face);
    AUTO_CLOSE int device = -1;
    AUTO_CLOSE int socket = -1;
    int rc = table_fill_open_device(&device);
    if (rc != 0)
        return rc;
    struct table_fill *fill = base_zalloc(sizeof *fill);
    if (fill == NULL)
        return DOR_E_NO_MEMORY;
    fill->listener = BASE_LISTENER_NONE;
    rc = open_server(keeper);
    if (rc == 0)
        rc = serve_pages(keeper, name, fill);
    if (rc == 0)
        rc = base_unix_connect(fill->path, 0, &socket);
    if (rc != 0) {
        end_fill(fill);
        return dor_fail_wrap("snapshot %s", name);
    }
    *ret_socket = base_take_fd(&socket);
    *ret = fill;
    return 0;
}

/* ------------------------------------------------------------------ opening */

static const struct table_keeper_ops keeper_ops = {
    .put = put,
    .drop = drop,
    .find = find,
    .fill = fill,
    .fill_lazily = fill_lazily,
    .finish_fill = finish_fill,
    .end_fill = end_fill,
};

int
dor_table_keeper_open(const char *directory, struct dor_table_keeper **ret)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/store", directory) >= (int)sizeof path)
        return dor_fail(DOR_E_USAGE, "%.60s...: the path is too long", directory);
    int rc = base_dir_make(AT_FDCWD, directory, 0700);
    if (rc == 0 || rc == DOR_E_EXISTS)
        rc = dor_store_create(path, NULL);
    if (rc != 0 && rc != DOR_E_EXISTS)
        return rc;
    struct keeper *keeper = base_zalloc(sizeof *keeper);
    AUTO_FREE char *copy = base_alloc(strlen(path) + 1);
    if (keeper == NULL || copy == NULL) {
        base_free(keeper);
        return DOR_E_NO_MEMORY;
    }
    memcpy(copy, path, strlen(path) + 1);
    keeper->directory = TAKE(copy);
    keeper->face.ops = &keeper_ops;
    base_mutex_init(&keeper->mutex);
    struct keeper *kept = base_keep(keeper);
    *ret = &kept->face;
    return 0;
}

void
dor_table_keeper_close(struct dor_table_keeper *face)
{
    if (face == NULL)
        return;
    struct keeper *keeper = keeper_of(face);
    dor_wake_server_close(keeper->server);
    base_mutex_fini(&keeper->mutex);
    base_free(keeper->directory);
    base_free(keeper);
}
