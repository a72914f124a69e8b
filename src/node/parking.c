/* SPDX-License-Identifier: Apache-2.0 */
/*
 * parking.c - systemd's descriptor store (sd_pid_notify_with_fds(3), FDSTORE=1) as a parking place,
 * one name a descriptor, and what comes back from it (sd_listen_fds_with_names(3)).
 */
#include "node/parking.h"

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

enum { NOTICE_BYTES = 128 };

/* ------------------------------------------------------------------ systemd */

/* It would close a socket whose other end hangs up, but of the userfaultfd nothing is known then.
 */
static int
store_one(uint64_t id, enum wake_park_role role, int fd)
{
    char name[WAKE_PARK_NAME_BYTES];
    char notice[NOTICE_BYTES];
    wake_park_name(id, role, name);
    snprintf(notice, sizeof notice, "FDSTORE=1\nFDPOLL=0\nFDNAME=%s", name);
    int sent = sd_pid_notify_with_fds(0, 0, notice, &fd, 1);
    return sent < 0 ? dor_fail_errno(-sent, "systemd's descriptor store") : 0;
}

static void
remove_one(uint64_t id, enum wake_park_role role)
{
    char name[WAKE_PARK_NAME_BYTES];
    char notice[NOTICE_BYTES];
    wake_park_name(id, role, name);
    snprintf(notice, sizeof notice, "FDSTOREREMOVE=1\nFDNAME=%s", name);
    int sent = sd_notify(0, notice);
    if (sent < 0)
        dor_log(WARN, "node", "not_unparked", "name=%s error=\"%s\"", name, strerror(-sent));
}

static void
systemd_remove(void *context, uint64_t id)
{
    (void)context;
    for (unsigned role = 0; role < WAKE_PARK_ROLES; role++)
        remove_one(id, role);
}

static int
systemd_store(void *context, const struct wake_parked *client)
{
    (void)context;
    int rc = 0;
    for (unsigned role = 0; role < WAKE_PARK_ROLES && rc == 0; role++)
        if (client->fds[role] >= 0)
            rc = store_one(client->id, role, client->fds[role]);
    return rc;
}

/* ------------------------------------------------------------------ what was passed */

static struct wake_parked *
find_parked(struct wake_parked_list *list, uint64_t id)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->items[i].id == id)
            return &list->items[i];
    struct wake_parked *grown =
        base_realloc_array(list->items, list->count + 1, sizeof *list->items);
    if (grown == NULL)
        return NULL;
    list->items = grown;
    list->cap = list->count + 1;
    struct wake_parked *parked = &grown[list->count++];
    *parked = (struct wake_parked){.id = id};
    for (unsigned role = 0; role < WAKE_PARK_ROLES; role++)
        parked->fds[role] = -1;
    return parked;
}

static int
take_one(int fd, const char *name, int *socket, struct wake_parked_list *list)
{
    uint64_t id = 0;
    enum wake_park_role role = WAKE_PARK_STATE;
    if (wake_park_name_parse(name, &id, &role)) {
        struct wake_parked *parked = find_parked(list, id);
        if (parked == NULL)
            return DOR_E_NO_MEMORY;
        if (parked->fds[role] >= 0)
            close(parked->fds[role]);
        parked->fds[role] = fd;
        return 0;
    }
    if (*socket >= 0 || sd_is_socket_unix(fd, SOCK_STREAM, 1, NULL, 0) <= 0)
        return dor_fail(
            DOR_E_USAGE,
            "systemd passed %s; one listening Unix stream socket is wanted, and what was "
            "parked",
            name);
    *socket = fd;
    return 0;
}

int
node_parking_passed(int *ret_socket, struct wake_parked_list *ret_parked)
{
    char **names = NULL;
    int socket = -1;
    int rc = 0;
    int count = sd_listen_fds_with_names(1, &names);
    if (count < 0)
        return dor_fail_errno(-count, "the descriptors that systemd passed");
    for (int i = 0; i < count && rc == 0; i++)
        rc = take_one(SD_LISTEN_FDS_START + i, names[i], &socket, ret_parked);
    for (int i = 0; i < count; i++)
        free(names[i]);
    free(names);
    *ret_socket = socket;
    return rc;
}

/* ------------------------------------------------------------------ opening */

int
node_parking_open(
    const char *kind, const char *directory, const struct dor_wake_options *options,
    struct node_parking *ret)
{
    const char *notify = getenv("NOTIFY_SOCKET");
    bool has_systemd = notify != NULL && notify[0] != '\0';
    *ret = (struct node_parking){.heir.control = -1};
    if (strcmp(kind, "auto") == 0)
        kind = has_systemd ? "systemd" : "heir";
    if (strcmp(kind, "none") == 0)
        return 0;
    if (strcmp(kind, "systemd") == 0) {
        if (!has_systemd)
            return dor_fail(DOR_E_USAGE, "park: systemd did not start this daemon");
        ret->systemd = (struct wake_park){NULL, systemd_store, systemd_remove};
        ret->place = &ret->systemd;
        return 0;
    }
    if (strcmp(kind, "heir") != 0)
        return dor_fail(
            DOR_E_USAGE, "park: \"%.20s\" is not auto, systemd, heir or none", kind);
    int rc = wake_heir_start(directory, options, &ret->heir);
    if (rc == 0)
        ret->place = &ret->heir.park;
    return rc;
}

void
node_parking_close(struct node_parking *parking)
{
    wake_heir_close(&parking->heir);
    parking->place = NULL;
}
