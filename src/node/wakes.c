/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wakes.c - the life of a wake, and its second life in the next daemon.
 */
#include "node/wakes_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "node/node.h"

enum { DECIMAL = 10, CORES_MAX = 1024, RECORD_BYTES_MAX = 1 << 16 };

#define NUMBER_SHIFT 32

static uint64_t
park_id(const struct node_wake *wake, uint32_t client)
{
    return (uint64_t)wake->number << NUMBER_SHIFT | client;
}

/* ------------------------------------------------------------------ what is asked for */

/* TEXT as a number in BASE up to MOST. */
static bool
read_number(const char *text, int base, unsigned long most, unsigned long *ret)
{
    char *end = NULL;
    if (text[0] < '0' || text[0] > '9')
        return false;
    *ret = strtoul(text, &end, base);
    return *end == '\0' && *ret <= most;
}

static int
read_how(const struct node_values *values, struct wake_uffd_how *ret)
{
    unsigned long core = 0;
    if (values->clients_max > UINT32_MAX)
        return dor_fail(DOR_E_USAGE, "body: clients_max: is too large");
    struct dor_wake_uffd how = {
        .window_bytes = values->window_bytes,
        .clients_max = (uint32_t)values->clients_max,
        .no_working_set = values->no_working_set,
        .fill = values->fill,
        .hold = values->hold};
    if (values->core != NULL && strcmp(values->core, "any") == 0)
        how.core = DOR_WAKE_CORE_ANY;
    else if (values->core != NULL && read_number(values->core, DECIMAL, CORES_MAX - 1, &core))
        how.core = (int)core + 1;
    else if (values->core != NULL)
        return dor_fail(DOR_E_USAGE, "body: core: must be a number or any");
    return wake_uffd_how_of(&how, ret);
}

int
node_wake_new(
    const char *id, const struct node_values *values, struct node_wake **ret,
    struct wake_uffd_how *ret_how)
{
    int rc = dor_name_check(id);
    if (rc == 0 && strlen(id) >= NODE_WAKE_ID_BYTES)
        rc = dor_fail(DOR_E_USAGE, "wake %.20s...: an id has at most 64 bytes", id);
    if (rc == 0 && (values->name == NULL || values->path == NULL))
        rc = dor_fail(DOR_E_USAGE, "body: snapshot and uffd_socket are wanted");
    if (rc == 0)
        rc = read_how(values, ret_how);
    if (rc != 0)
        return rc;
    struct node_wake *wake = base_zalloc(sizeof *wake);
    if (wake == NULL)
        return DOR_E_NO_MEMORY;
    wake->references = 1;
    wake->listener = BASE_LISTENER_NONE;
    wake->once = values->once;
    wake->created_ns = base_clock_realtime_ns();
    snprintf(wake->id, sizeof wake->id, "%s", id);
    snprintf(wake->snapshot, sizeof wake->snapshot, "%s", values->name);
    snprintf(wake->socket_path, sizeof wake->socket_path, "%s", values->path);
    *ret = wake;
    return 0;
}

/* ------------------------------------------------------------------ the list */

static struct node_wake *
find_locked(struct node_wakes *wakes, const char *id)
{
    for (struct node_wake *wake = wakes->first; wake != NULL; wake = wake->next)
        if (strcmp(wake->id, id) == 0)
            return wake;
    return NULL;
}

static void
unref_locked(struct node_wake *wake)
{
    if (--wake->references > 0)
        return;
    base_listener_close(&wake->listener);
    base_free(wake);
}

static void
take_out_locked(struct node_wakes *wakes, struct node_wake *wake)
{
    struct node_wake **at = &wakes->first;
    while (*at != wake)
        at = &(*at)->next;
    *at = wake->next;
    wake->gone = true;
}

int
node_wakes_insert(struct node_wakes *wakes, struct node_wake *wake)
{
    int rc = 0;
    base_mutex_lock(&wakes->mutex);
    if (wakes->closed)
        rc = dor_fail(DOR_E_BUSY, "the daemon is ending");
    else if (find_locked(wakes, wake->id) != NULL)
        rc = dor_fail(DOR_E_EXISTS, "there is a wake %s already", wake->id);
    else if (wakes->last_number == UINT32_MAX)
        rc = dor_fail(DOR_E_BUSY, "the daemon has no number for another wake");
    if (rc == 0) {
        if (wake->number == 0)
            wake->number = wakes->last_number + 1;
        if (wake->number > wakes->last_number)
            wakes->last_number = wake->number;
        wake->next = wakes->first;
        wakes->first = wake;
    } else {
        unref_locked(wake);
    }
    base_mutex_unlock(&wakes->mutex);
    return rc;
}

struct node_wake *
node_wakes_find(struct node_wakes *wakes, const char *id)
{
    base_mutex_lock(&wakes->mutex);
    struct node_wake *wake = find_locked(wakes, id);
    if (wake != NULL)
        wake->references++;
    base_mutex_unlock(&wakes->mutex);
    if (wake == NULL)
        dor_fail(DOR_E_NOT_FOUND, "there is no wake %.80s", id);
    return wake;
}

void
node_wake_unref(struct node_wakes *wakes, struct node_wake *wake)
{
    base_mutex_lock(&wakes->mutex);
    unref_locked(wake);
    base_mutex_unlock(&wakes->mutex);
}

/* ------------------------------------------------------------------ parking the socket */

/* A memory file with TEXT. */
static int
make_record(const char *text, int *ret)
{
    AUTO_CLOSE int fd = memfd_create("dormouse-wake", MFD_CLOEXEC);
    if (fd < 0)
        return dor_fail_errno(errno, "the record of a wake");
    int rc = base_file_pwrite(fd, text, strlen(text), 0, "the record of a wake");
    if (rc == 0)
        *ret = base_take_fd(&fd);
    return rc;
}

static int
record_of(const struct node_wake *wake, const json_t *body, int *ret)
{
    json_t *record = json_pack(
        "{s:s, s:I, s:O}", "id", wake->id, "created_ns", (json_int_t)wake->created_ns, "body",
        body);
    char *text = record == NULL ? NULL : json_dumps(record, JSON_COMPACT);
    json_decref(record);
    int rc = text == NULL ? dor_fail(DOR_E_NO_MEMORY, "no memory for the record of a wake")
                          : make_record(text, ret);
    free(text);
    return rc;
}

/* Only the safety is lost when this fails. */
static void
park_wake(struct node_wakes *wakes, struct node_wake *wake, const json_t *body)
{
    const struct wake_park *place = wakes->parking.place;
    AUTO_CLOSE int record = -1;
    if (place == NULL)
        return;
    int rc = record_of(wake, body, &record);
    const struct wake_parked parked = {
        .id = park_id(wake, 0), .fds = {record, -1, wake->listener.fd, -1}};
    if (rc == 0)
        rc = place->store(place->context, &parked);
    wake->is_parked = rc == 0;
    if (rc != 0)
        dor_log(
            ERROR, "node", "wake_not_parked", "wake=%s error=\"%s\"", wake->id,
            dor_err_message());
}

static void
unpark_wake(struct node_wakes *wakes, struct node_wake *wake)
{
    const struct wake_park *place = wakes->parking.place;
    if (place != NULL && wake->is_parked)
        place->remove(place->context, park_id(wake, 0));
    wake->is_parked = false;
}

/* ------------------------------------------------------------------ starting */

static int
open_uffd(
    struct node_wakes *wakes, struct node_wake *wake, const struct wake_uffd_how *how,
    struct wake_parked *parked, size_t parked_count)
{
    struct wake_uffd_how mine = *how;
    mine.listener = wake->listener.fd;
    mine.name = wake->snapshot;
    mine.park = wakes->parking.place;
    mine.parked = parked;
    mine.parked_count = parked_count;
    mine.first_id = park_id(wake, 1);
    mine.counters = &wake->counters;
    if (mine.clients_max < parked_count)
        mine.clients_max = (unsigned)parked_count;
    return wake_uffd_open(wakes->node->wake_server, &mine, &wake->uffd);
}

/* A wake that did not start. */
static void
drop(struct node_wakes *wakes, struct node_wake *wake)
{
    struct base_err err = *base_err_record();
    unpark_wake(wakes, wake);
    base_listener_close(&wake->listener);
    base_mutex_lock(&wakes->mutex);
    take_out_locked(wakes, wake);
    unref_locked(wake);
    base_mutex_unlock(&wakes->mutex);
    base_err_load(&err);
}

static void
set_started(struct node_wakes *wakes, struct node_wake *wake)
{
    base_mutex_lock(&wakes->mutex);
    wake->started = true;
    /* The daemon may have begun to end meanwhile. */
    bool ends = wakes->closed || wake->ending;
    wake->ending = ends;
    base_mutex_unlock(&wakes->mutex);
    if (ends)
        wake_uffd_finish(wake->uffd);
}

int
node_wake_start(
    struct node_wakes *wakes, struct node_wake *wake, const char *socket_path, mode_t mode,
    const json_t *body, const struct wake_uffd_how *how)
{
    int rc = base_listener_open(socket_path, mode, &wake->listener);
    if (rc == 0) {
        park_wake(wakes, wake, body);
        rc = open_uffd(wakes, wake, how, NULL, 0);
    }
    if (rc != 0) {
        drop(wakes, wake);
        return rc;
    }
    dor_log(
        INFO, "node", "wake_listens", "wake=%s snapshot=\"%s\" socket=\"%s\"", wake->id,
        wake->snapshot, socket_path);
    set_started(wakes, wake);
    return 0;
}

/* ------------------------------------------------------------------ ending */

void
node_wake_end(struct node_wakes *wakes, struct node_wake *wake)
{
    base_mutex_lock(&wakes->mutex);
    /* The list's reference keeps the clients' door open until the main thread has seen the end. */
    bool tell = !wake->ending && wake->started && !wake->gone;
    wake->ending = true;
    if (tell)
        wake_uffd_finish(wake->uffd);
    base_mutex_unlock(&wakes->mutex);
}

static bool
is_over_locked(struct node_wake *wake)
{
    if (!wake->started || wake_uffd_client_count(wake->uffd) > 0)
        return false;
    bool had_one = atomic_load_explicit(&wake->counters.clients, memory_order_relaxed) > 0;
    return wake->ending || (wake->once && had_one);
}

static void
add_counters(struct wake_uffd_counters *sum, const struct wake_uffd_counters *counters)
{
    for (size_t i = 0; i < wake_uffd_counter_row_count; i++) {
        const struct base_counter *row = &wake_uffd_counter_rows[i];
        _Atomic uint64_t *place = (_Atomic uint64_t *)(void *)((char *)sum + row->offset);
        base_counter_add(place, base_counter_get(row, counters));
    }
}

/* Out of the list; all of it but the numbers is freed. */
static void
clear_away(struct node_wakes *wakes, struct node_wake *wake)
{
    wake_uffd_close(wake->uffd);
    base_listener_close(&wake->listener);
    unpark_wake(wakes, wake);
    dor_log(INFO, "node", "wake_ended", "wake=%s", wake->id);
    base_mutex_lock(&wakes->mutex);
    wake->uffd = NULL;
    add_counters(&wakes->ended, &wake->counters);
    take_out_locked(wakes, wake);
    unref_locked(wake);
    base_mutex_unlock(&wakes->mutex);
}

void
node_wakes_sweep(struct node_wakes *wakes)
{
    struct node_wake *over = NULL;
    do {
        base_mutex_lock(&wakes->mutex);
        over = wakes->first;
        while (over != NULL && !is_over_locked(over))
            over = over->next;
        /* Nobody else touches its insides from here on. */
        if (over != NULL) {
            over->started = false;
            over->ending = true;
        }
        base_mutex_unlock(&wakes->mutex);
        if (over != NULL)
            clear_away(wakes, over);
    } while (over != NULL);
}

void
node_wakes_end_all(struct node_wakes *wakes)
{
    base_mutex_lock(&wakes->mutex);
    wakes->closed = true;
    for (struct node_wake *wake = wakes->first; wake != NULL; wake = wake->next) {
        if (wake->started && !wake->ending)
            wake_uffd_finish(wake->uffd);
        wake->ending = true;
    }
    base_mutex_unlock(&wakes->mutex);
}

bool
node_wakes_idle(struct node_wakes *wakes)
{
    base_mutex_lock(&wakes->mutex);
    bool idle = wakes->first == NULL;
    base_mutex_unlock(&wakes->mutex);
    return idle;
}

void
node_wakes_close(struct node_wakes *wakes)
{
    while (wakes->first != NULL) {
        struct node_wake *wake = wakes->first;
        dor_log(
            WARN, "node", "wake_left", "wake=%s clients=%u", wake->id,
            wake->uffd == NULL ? 0 : wake_uffd_client_count(wake->uffd));
        wake_uffd_close(wake->uffd);
        base_listener_close(&wake->listener);
        take_out_locked(wakes, wake);
        unref_locked(wake);
    }
    wake_parked_list_fini(&wakes->passed);
    node_parking_close(&wakes->parking);
}

void
node_wakes_stat(struct node_wakes *wakes, struct node_wakes_stat *ret)
{
    *ret = (struct node_wakes_stat){0};
    base_mutex_lock(&wakes->mutex);
    add_counters(&ret->counters, &wakes->ended);
    for (struct node_wake *wake = wakes->first; wake != NULL; wake = wake->next) {
        ret->wakes++;
        ret->clients += wake->started ? wake_uffd_client_count(wake->uffd) : 0;
        add_counters(&ret->counters, &wake->counters);
    }
    base_mutex_unlock(&wakes->mutex);
}

/* ------------------------------------------------------------------ after another daemon */

/* What an earlier daemon wrote of a wake, from the memory file FD. */
static int
read_record(int fd, json_t **ret)
{
    uint64_t size_bytes = 0;
    char *text = NULL;
    int rc = base_file_size(fd, "the record of a wake", &size_bytes);
    if (rc == 0 && size_bytes > RECORD_BYTES_MAX)
        rc = dor_fail(DOR_E_CORRUPT, "the record of a wake is too long");
    if (rc == 0) {
        text = base_alloc(size_bytes + 1);
        rc = text == NULL ? DOR_E_NO_MEMORY
                          : base_file_pread(fd, text, size_bytes, 0, "the record of a wake");
    }
    json_t *record = rc == 0 ? json_loadb(text, size_bytes, 0, NULL) : NULL;
    base_free(text);
    if (rc == 0 && record == NULL)
        rc = dor_fail(DOR_E_CORRUPT, "the record of a wake is no JSON");
    *ret = record;
    return rc;
}

static int
wake_from_record(const json_t *record, struct node_wake **ret, struct wake_uffd_how *ret_how)
{
    struct node_values values = {0};
    json_t *copy = NULL;
    const char *id = json_string_value(json_object_get(record, "id"));
    char *body = json_dumps(json_object_get(record, "body"), JSON_COMPACT);
    if (id == NULL || body == NULL) {
        free(body);
        return dor_fail(DOR_E_CORRUPT, "the record of a wake has another shape");
    }
    int rc = node_body_parse("wake", body, strlen(body), &values, &copy);
    if (rc == 0)
        rc = node_wake_new(id, &values, ret, ret_how);
    if (rc == 0)
        (*ret)->created_ns =
            (uint64_t)json_integer_value(json_object_get(record, "created_ns"));
    json_decref(copy);
    free(body);
    return rc;
}

/* Those of `passed` that belong to wake NUMBER, without its socket, at the list's end; how many. */
static size_t
gather(struct wake_parked_list *passed, uint32_t number)
{
    size_t count = 0;
    for (size_t i = passed->count; i-- > 0;) {
        struct wake_parked parked = passed->items[i];
        if (parked.id >> NUMBER_SHIFT != number || (uint32_t)parked.id == 0)
            continue;
        count++;
        passed->items[i] = passed->items[passed->count - count];
        passed->items[passed->count - count] = parked;
    }
    return count;
}

/* WAKE goes on with the clients at the end of `passed`. */
static int
go_on(struct node_wakes *wakes, struct node_wake *wake, const struct wake_uffd_how *how)
{
    struct wake_parked_list *passed = &wakes->passed;
    int rc = node_wakes_insert(wakes, wake);
    if (rc != 0)
        return rc;
    size_t count = gather(passed, wake->number);
    rc = open_uffd(wakes, wake, how, passed->items + passed->count - count, count);
    if (rc != 0) {
        drop(wakes, wake);
        return rc;
    }
    passed->count -= count;
    dor_log(INFO, "node", "wake_restored", "wake=%s clients=%zu", wake->id, count);
    set_started(wakes, wake);
    return 0;
}

static int
restore_wake(struct node_wakes *wakes, struct wake_parked *parked)
{
    json_t *record = NULL;
    struct node_wake *wake = NULL;
    struct wake_uffd_how how;
    int rc = read_record(parked->fds[WAKE_PARK_STATE], &record);
    if (rc == 0)
        rc = wake_from_record(record, &wake, &how);
    json_decref(record);
    if (rc != 0)
        return rc;
    wake->number = (uint32_t)(parked->id >> NUMBER_SHIFT);
    wake->is_parked = true;
    rc =
        base_listener_adopt(&parked->fds[WAKE_PARK_SOCKET], wake->socket_path, &wake->listener);
    if (rc == 0)
        return go_on(wakes, wake, &how);
    node_wake_unref(wakes, wake);
    return rc;
}

/* A client whose wake is not known any more is given all that it lacks. */
static int
restore_orphans(struct node_wakes *wakes, const struct wake_parked *first)
{
    struct wake_state *state = NULL;
    struct node_wake *wake = NULL;
    struct wake_uffd_how how;
    char id[NODE_WAKE_ID_BYTES];
    int rc = wake_state_map(first->fds[WAKE_PARK_STATE], &state);
    if (rc != 0)
        return rc;
    snprintf(id, sizeof id, "left-%" PRIu64, first->id >> NUMBER_SHIFT);
    const struct node_values values = {.name = state->snapshot, .path = "/", .fill = true};
    rc = node_wake_new(id, &values, &wake, &how);
    wake_state_unmap(state);
    if (rc != 0)
        return rc;
    wake->number = (uint32_t)(first->id >> NUMBER_SHIFT);
    wake->ending = true;
    return go_on(wakes, wake, &how);
}

static void
tell_lost(const struct wake_parked *parked)
{
    dor_log(
        ERROR, "node", "wake_not_restored", "id=%" PRIx64 " error=\"%s\"", parked->id,
        dor_err_message());
}

/* Take the record of a wake out of PASSED; false when there is none left. */
static bool
take_record(struct wake_parked_list *passed, struct wake_parked *ret)
{
    for (size_t i = 0; i < passed->count; i++)
        if ((uint32_t)passed->items[i].id == 0) {
            *ret = passed->items[i];
            passed->items[i] = passed->items[--passed->count];
            return true;
        }
    return false;
}

/* What cannot be restored stays open, and so its clients wait instead of reading zeros. */
void
node_wakes_restore(struct node_wakes *wakes)
{
    struct wake_parked_list *passed = &wakes->passed;
    const struct wake_park *place = wakes->parking.place;
    struct wake_parked parked;
    while (take_record(passed, &parked)) {
        if (restore_wake(wakes, &parked) != 0) {
            tell_lost(&parked);
            if (place != NULL)
                place->remove(place->context, parked.id);
        }
        wake_parked_close(&parked);
    }
    while (passed->count > 0) {
        size_t before = passed->count;
        parked = passed->items[before - 1];
        if (restore_orphans(wakes, &parked) != 0)
            tell_lost(&parked);
        if (passed->count == before)
            passed->count--;
    }
}
