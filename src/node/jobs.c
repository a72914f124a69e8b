/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jobs.c - three queues and their threads. One lock guards queues, history and states; calls are
 * run and clients woken without it.
 *
 * A call that runs apart comes to the writer's queue only when it has all that it will write. The
 * writing thread lets it have its turn and waits, so that whoever is slow to send a machine holds
 * up nobody:
 *
 *     its own thread:  wait for the monitor, take its machine -> queue -> write -> answer
 *     writing thread:  other calls ...                           its turn: wait    other calls ...
 */
#include "node/jobs.h"

#include "base/clock.h"
#include "base/mem.h"
#include "node/node.h"
#include "node/shape.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *const state_names[] = {
    [NODE_QUEUED] = "queued", [NODE_RUNNING] = "running",     [NODE_DONE] = "done",
    [NODE_FAILED] = "failed", [NODE_CANCELLED] = "cancelled",
};

static bool
has_ended(const struct node_call *call)
{
    return call->state >= NODE_DONE;
}

/* ------------------------------------------------------------------ queues and history */

static void
push(struct node_queue *queue, struct node_call *call)
{
    call->next_queued = NULL;
    *queue->last = call;
    queue->last = &call->next_queued;
    queue->length++;
}

static struct node_call *
pop(struct node_queue *queue)
{
    struct node_call *call = queue->first;
    if (call == NULL)
        return NULL;
    queue->first = call->next_queued;
    if (queue->first == NULL)
        queue->last = &queue->first;
    queue->length--;
    return call;
}

static bool
take_out(struct node_queue *queue, struct node_call *call)
{
    for (struct node_call **at = &queue->first; *at != NULL; at = &(*at)->next_queued) {
        if (*at != call)
            continue;
        *at = call->next_queued;
        if (*at == NULL)
            queue->last = at;
        queue->length--;
        return true;
    }
    return false;
}

/* CALL, which has ended, out of the history. */
static struct node_call *
forget_locked(struct node_jobs *jobs, struct node_call *call)
{
    struct node_call **at = &jobs->kept;
    while (*at != call)
        at = &(*at)->next_kept;
    *at = call->next_kept;
    call->next_kept = NULL;
    jobs->ended--;
    return call;
}

/* Take the oldest of those that have ended from the history. */
static struct node_call *
take_oldest_locked(struct node_jobs *jobs)
{
    struct node_call *oldest = NULL;
    for (struct node_call *call = jobs->kept; call != NULL; call = call->next_kept)
        if (has_ended(call))
            oldest = call;
    dor_assert(oldest != NULL);
    return forget_locked(jobs, oldest);
}

/* A put of a machine is no other route than that of a file. */
static enum node_where
where_of(const struct node_call *call)
{
    return call->values.offload != NULL ? NODE_APART : call->route->where;
}

/* What was answered at once is hardly asked for again, and may be long. */
static bool
is_worth_keeping(const struct node_call *call)
{
    return call->route->where != NODE_READ || call->values.async || call->values.job != NULL;
}

/* Forget what there is too much of, to be unreferenced without the lock. */
static struct node_call *
trim_locked(struct node_jobs *jobs)
{
    struct node_call *forgotten = NULL;
    while (jobs->ended > jobs->kept_max) {
        struct node_call *call = take_oldest_locked(jobs);
        call->next_kept = forgotten;
        forgotten = call;
    }
    return forgotten;
}

static void
release(struct node_call *forgotten)
{
    while (forgotten != NULL) {
        struct node_call *next = forgotten->next_kept;
        node_call_unref(forgotten);
        forgotten = next;
    }
}

/* ------------------------------------------------------------------ running */

static void
count_end(struct node_call *call, enum node_state state)
{
    struct node_counters *counters = &call->node->counters;
    base_counter_add(
        state == NODE_DONE     ? &counters->jobs
        : state == NODE_FAILED ? &counters->failed_jobs
                               : &counters->cancelled_jobs,
        1);
}

/* CALL has its answer. The reference of queue or thread goes. */
static void
end_call(struct node_jobs *jobs, struct node_call *call, bool was_running)
{
    base_mutex_lock(&jobs->mutex);
    bool cancelled = atomic_load_explicit(&call->cancelled, memory_order_relaxed);
    call->state = call->err.code == 0 ? NODE_DONE : cancelled ? NODE_CANCELLED : NODE_FAILED;
    call->ended_ns = base_clock_realtime_ns();
    /* Progress is told in steps, of which the last may be short of the end. */
    if (call->state == NODE_DONE)
        node_call_progress(
            call, atomic_load_explicit(&call->total_bytes, memory_order_relaxed),
            atomic_load_explicit(&call->total_bytes, memory_order_relaxed));
    jobs->ended++;
    struct node_call *forgotten = is_worth_keeping(call) ? NULL : forget_locked(jobs, call);
    if (forgotten == NULL)
        forgotten = trim_locked(jobs);
    count_end(call, call->state);
    jobs->running -= was_running;
    jobs->apart -= where_of(call) == NODE_APART;
    jobs->answering++;
    base_mutex_unlock(&jobs->mutex);
    if (call->resume != NULL)
        call->resume(call->resume_context);
    /* Only now: who sees that all is answered may end what resume() needs. */
    base_mutex_lock(&jobs->mutex);
    jobs->answering--;
    base_mutex_unlock(&jobs->mutex);
    release(forgotten);
    node_call_unref(call);
}

static void
run_call(struct node_call *call)
{
    base_err_clear();
    int rc = call->route->run(call);
    if (rc != 0)
        call->err = *base_err_record();
}

/* CALL may be gone when it comes back: only its name is compared. */
static void
give_turn_locked(struct node_jobs *jobs, struct node_call *call)
{
    jobs->turn = call;
    base_condition_wake_all(&jobs->changed);
    while (jobs->turn == call)
        base_condition_wait(&jobs->changed, &jobs->mutex);
}

static void
run_queue(struct node_jobs *jobs, struct node_queue *queue)
{
    base_mutex_lock(&jobs->mutex);
    for (;;) {
        struct node_call *call = pop(queue);
        if (call == NULL) {
            if (jobs->over)
                break;
            base_condition_wait(&jobs->changed, &jobs->mutex);
            continue;
        }
        if (call->wants_turn) {
            give_turn_locked(jobs, call);
            continue;
        }
        call->state = NODE_RUNNING;
        call->started_ns = base_clock_realtime_ns();
        jobs->running++;
        base_mutex_unlock(&jobs->mutex);
        run_call(call);
        end_call(jobs, call, true);
        base_mutex_lock(&jobs->mutex);
    }
    base_mutex_unlock(&jobs->mutex);
}

static void
write_main(void *context)
{
    struct node_jobs *jobs = context;
    run_queue(jobs, &jobs->write_queue);
}

static void
read_main(void *context)
{
    struct node_jobs *jobs = context;
    run_queue(jobs, &jobs->read_queue);
}

static void
apart_main(void *context)
{
    struct node_jobs *jobs = context;
    run_queue(jobs, &jobs->apart_queue);
}

static int
start_threads(
    struct node_jobs *jobs, unsigned count, const char *name, void (*main)(void *context))
{
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < count; i++) {
        rc = base_thread_start(&jobs->threads[jobs->thread_count], name, main, jobs);
        jobs->thread_count += rc == 0;
    }
    return rc;
}

int
node_jobs_start(struct node_jobs *jobs, const struct node_jobs_limits *limits)
{
    base_mutex_init(&jobs->mutex);
    base_condition_init(&jobs->changed);
    jobs->write_queue.last = &jobs->write_queue.first;
    jobs->read_queue.last = &jobs->read_queue.first;
    jobs->apart_queue.last = &jobs->apart_queue.first;
    jobs->queue_max = limits->queue_max;
    jobs->kept_max = limits->kept_max;
    jobs->apart_max = limits->apart_max;
    jobs->threads = base_array(limits->readers + limits->apart_max + 1, sizeof *jobs->threads);
    if (jobs->threads == NULL)
        return DOR_E_NO_MEMORY;
    int rc = start_threads(jobs, 1, "node-writer", write_main);
    if (rc == 0)
        rc = start_threads(jobs, limits->readers, "node-reader", read_main);
    if (rc == 0)
        rc = start_threads(jobs, limits->apart_max, "node-machine", apart_main);
    return rc;
}

void
node_jobs_stop(struct node_jobs *jobs)
{
    base_mutex_lock(&jobs->mutex);
    jobs->closed = jobs->over = true;
    base_condition_wake_all(&jobs->changed);
    base_mutex_unlock(&jobs->mutex);
    for (unsigned i = 0; i < jobs->thread_count; i++)
        base_thread_join(&jobs->threads[i]);
    release(jobs->kept);
    base_free(jobs->threads);
    base_condition_fini(&jobs->changed);
    base_mutex_fini(&jobs->mutex);
}

/* ------------------------------------------------------------------ submitting, cancelling */

static struct node_call *
find_locked(struct node_jobs *jobs, const char *id)
{
    for (struct node_call *call = jobs->kept; call != NULL; call = call->next_kept)
        if (strcmp(call->id, id) == 0)
            return call;
    return NULL;
}

/* Ids that clients choose begin with a letter, ours are numbers. */
static int
take_id(struct node_jobs *jobs, struct node_call *call)
{
    const char *wanted = call->values.job;
    if (wanted == NULL) {
        snprintf(call->id, sizeof call->id, "%" PRIu64, ++jobs->last_id);
        return 0;
    }
    static const char fine[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-";
    size_t length = strlen(wanted);
    if (length == 0 || length >= sizeof call->id || strspn(wanted, fine) != length ||
        (wanted[0] >= '0' && wanted[0] <= '9'))
        return dor_fail(
            DOR_E_USAGE,
            "query: job: is not up to %d letters, digits and dashes, a letter first",
            NODE_JOB_ID_BYTES - 1);
    if (find_locked(jobs, wanted) != NULL)
        return dor_fail(DOR_E_EXISTS, "query: job: %s is in use", wanted);
    memcpy(call->id, wanted, length + 1);
    return 0;
}

static int
submit_locked(struct node_jobs *jobs, struct node_call *call)
{
    enum node_where where = where_of(call);
    struct node_queue *queue = where == NODE_WRITE   ? &jobs->write_queue
                               : where == NODE_APART ? &jobs->apart_queue
                                                     : &jobs->read_queue;
    if (jobs->closed)
        return dor_fail(DOR_E_BUSY, "the daemon is ending and takes no new work");
    if (where == NODE_APART && jobs->apart == jobs->apart_max)
        return dor_fail(
            DOR_E_BUSY, "%u machines are handed over already; see machines_max", jobs->apart);
    if (queue->length >= jobs->queue_max)
        return dor_fail(DOR_E_BUSY, "%u jobs wait already; try again later", queue->length);
    int rc = take_id(jobs, call);
    if (rc != 0)
        return rc;
    push(queue, node_call_ref(call));
    jobs->apart += where == NODE_APART;
    call->next_kept = jobs->kept;
    jobs->kept = node_call_ref(call);
    base_condition_wake_all(&jobs->changed);
    return 0;
}

int
node_jobs_submit(struct node_jobs *jobs, struct node_call *call)
{
    base_mutex_lock(&jobs->mutex);
    int rc = submit_locked(jobs, call);
    base_mutex_unlock(&jobs->mutex);
    return rc;
}

bool
node_jobs_cancel(struct node_jobs *jobs, struct node_call *call)
{
    base_mutex_lock(&jobs->mutex);
    bool ended = has_ended(call);
    if (!ended)
        atomic_store_explicit(&call->cancelled, true, memory_order_relaxed);
    bool queued = !ended && !call->wants_turn &&
                  (take_out(&jobs->write_queue, call) || take_out(&jobs->read_queue, call) ||
                   take_out(&jobs->apart_queue, call));
    base_condition_wake_all(&jobs->changed);
    base_mutex_unlock(&jobs->mutex);
    if (queued) {
        dor_fail(DOR_E_BUSY, "cancelled before it began");
        call->err = *base_err_record();
        end_call(jobs, call, false);
    }
    return !ended;
}

/* Who waits for a turn has begun. */
static struct node_call *
pop_unbegun(struct node_queue *queue)
{
    struct node_call *call = queue->first;
    while (call != NULL && call->wants_turn)
        call = call->next_queued;
    if (call != NULL)
        take_out(queue, call);
    return call;
}

void
node_jobs_close(struct node_jobs *jobs)
{
    base_mutex_lock(&jobs->mutex);
    jobs->closed = true;
    for (;;) {
        struct node_call *call = pop_unbegun(&jobs->write_queue);
        if (call == NULL)
            call = pop(&jobs->read_queue);
        if (call == NULL)
            call = pop(&jobs->apart_queue);
        if (call == NULL)
            break;
        atomic_store_explicit(&call->cancelled, true, memory_order_relaxed);
        base_mutex_unlock(&jobs->mutex);
        dor_fail(DOR_E_BUSY, "the daemon is ending; this had not begun");
        call->err = *base_err_record();
        end_call(jobs, call, false);
        base_mutex_lock(&jobs->mutex);
    }
    base_mutex_unlock(&jobs->mutex);
}

void
node_jobs_cancel_all(struct node_jobs *jobs)
{
    base_mutex_lock(&jobs->mutex);
    for (struct node_call *call = jobs->kept; call != NULL; call = call->next_kept)
        if (!has_ended(call))
            atomic_store_explicit(&call->cancelled, true, memory_order_relaxed);
    base_condition_wake_all(&jobs->changed);
    base_mutex_unlock(&jobs->mutex);
}

bool
node_jobs_closed(struct node_jobs *jobs)
{
    base_mutex_lock(&jobs->mutex);
    bool closed = jobs->closed;
    base_mutex_unlock(&jobs->mutex);
    return closed;
}

bool
node_jobs_idle(struct node_jobs *jobs)
{
    base_mutex_lock(&jobs->mutex);
    bool idle = jobs->running + jobs->answering == 0 && jobs->write_queue.length == 0 &&
                jobs->read_queue.length == 0 && jobs->apart_queue.length == 0;
    base_mutex_unlock(&jobs->mutex);
    return idle;
}

/* ------------------------------------------------------------------ turns */

int
node_jobs_enter(struct node_jobs *jobs, struct node_call *call)
{
    base_mutex_lock(&jobs->mutex);
    call->wants_turn = true;
    push(&jobs->write_queue, call);
    base_condition_wake_all(&jobs->changed);
    while (jobs->turn != call && !atomic_load_explicit(&call->cancelled, memory_order_relaxed))
        base_condition_wait(&jobs->changed, &jobs->mutex);
    bool is_mine = jobs->turn == call;
    if (!is_mine)
        take_out(&jobs->write_queue, call);
    call->wants_turn = false;
    base_mutex_unlock(&jobs->mutex);
    return is_mine ? 0 : dor_fail(DOR_E_BUSY, "cancelled while it waited for the writer");
}

void
node_jobs_leave(struct node_jobs *jobs, struct node_call *call)
{
    base_mutex_lock(&jobs->mutex);
    dor_assert(jobs->turn == call);
    jobs->turn = NULL;
    base_condition_wake_all(&jobs->changed);
    base_mutex_unlock(&jobs->mutex);
}

/* ------------------------------------------------------------------ asking */

struct node_call *
node_jobs_find(struct node_jobs *jobs, const char *id)
{
    base_mutex_lock(&jobs->mutex);
    struct node_call *call = find_locked(jobs, id);
    if (call != NULL)
        node_call_ref(call);
    base_mutex_unlock(&jobs->mutex);
    if (call == NULL)
        dor_fail(DOR_E_NOT_FOUND, "there is no job %.64s, or it ended long ago", id);
    return call;
}

static json_t *
result_json(const struct node_call *call)
{
    if (call->state == NODE_DONE && call->text != NULL &&
        strcmp(call->content_type, "application/json") == 0)
        return json_loadb(call->text, call->text_bytes, 0, NULL);
    return json_null();
}

static json_t *
describe_locked(const struct node_call *call, bool whole)
{
    json_t *error = call->state > NODE_DONE ? node_shape_error(&call->err) : json_null();
    json_t *object = json_pack(
        "{s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "id", call->id, "state",
        state_names[call->state], "method", call->route->method, "path", call->route->path,
        "name", node_shape_text(call->parameters[0]), "created",
        node_shape_time(call->created_ns), "started", node_shape_time(call->started_ns),
        "ended", node_shape_time(call->ended_ns), "done_bytes",
        node_shape_u64(atomic_load_explicit(&call->done_bytes, memory_order_relaxed)),
        "total_bytes",
        node_shape_u64(atomic_load_explicit(&call->total_bytes, memory_order_relaxed)));
    bool fits = json_object_set_new(object, "error", error) == 0;
    if (fits && whole)
        fits = json_object_set_new(object, "result", result_json(call)) == 0;
    if (fits)
        return object;
    json_decref(object);
    return NULL;
}

json_t *
node_jobs_describe(struct node_jobs *jobs, struct node_call *call, bool whole)
{
    base_mutex_lock(&jobs->mutex);
    json_t *object = describe_locked(call, whole);
    base_mutex_unlock(&jobs->mutex);
    return object;
}

json_t *
node_jobs_list(struct node_jobs *jobs)
{
    json_t *list = json_array();
    bool fits = list != NULL;
    base_mutex_lock(&jobs->mutex);
    for (struct node_call *call = jobs->kept; call != NULL && fits; call = call->next_kept)
        fits = json_array_append_new(list, describe_locked(call, false)) == 0;
    base_mutex_unlock(&jobs->mutex);
    if (fits)
        return list;
    json_decref(list);
    return NULL;
}

void
node_jobs_stat(struct node_jobs *jobs, struct node_jobs_stat *ret)
{
    base_mutex_lock(&jobs->mutex);
    *ret = (struct node_jobs_stat){
        .queued_writes = jobs->write_queue.length,
        .queued_reads = jobs->read_queue.length,
        .running = jobs->running,
    };
    base_mutex_unlock(&jobs->mutex);
}
