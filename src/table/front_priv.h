/* SPDX-License-Identifier: Apache-2.0 */
/*
 * front_priv.h - what the files of the front share: its structs, and the calls between connections
 * (front_client.c), workers (front_worker.c) and tenants (front_tenant.c).
 *
 * Ownership:  all of it is the front's.
 * Threads:    `mutex` is held by the front's thread while it works, and by who asks for numbers.
 * Errors:     as in front.h.
 */
#ifndef DOR_TABLE_FRONT_PRIV_H
#define DOR_TABLE_FRONT_PRIV_H

#include <sys/socket.h>

#include "base/mem.h"
#include "base/thread.h"
#include "base/unix_socket.h"
#include "table/auth.h"
#include "table/control.h"
#include "table/front.h"
#include "table/kept.h"
#include "table/resp.h"
#include "table/status.h"
#include "table/tenants.h"

enum {
    FRONT_INPUT_BYTES = 16 << 10, /* of who is not authenticated */
    FRONT_FIRST_INPUT_BYTES = 512,
    FRONT_LARGE_INPUT_BYTES = 64 << 10,
    FRONT_LARGE_INPUTS_BYTES = 256 << 20, /* all of those together */
    FRONT_ARGS_MAX = 10,
    FRONT_CONNECTIONS = 16384,
    FRONT_SHARED_ROWS = 1024, /* tenants of one shared worker */
    FRONT_HANDSHAKE_SECONDS = 30,
    FRONT_BACK_OFF_STEPS = 7,
    FRONT_CGROUP_BYTES = 512,
};

#define FRONT_APART_NS     UINT64_C(600000000000)
#define FRONT_GOOD_LIFE_NS UINT64_C(60000000000)
#define FRONT_BACK_OFF_NS  UINT64_C(100000000)

/* What epoll tells about; the first member of what it is. */
enum front_kind {
    FRONT_LISTENER,
    FRONT_CLIENT,
    FRONT_ZYGOTE,
    FRONT_CONTROL,
    FRONT_PIDFD,
    FRONT_AUTH,
    FRONT_EVENT,
};

struct front_source {
    enum front_kind kind;
};

struct front_listener {
    struct front_source source;
    struct base_listener unix_listener; /* fd -1 for TCP */
    int fd;
    char address[128];
};

struct front_worker;

struct front_tenant {
    struct table_tenant_config config;
    uint32_t id;
    int arena_fd;
    struct table_kept *kept;      /* NULL = it is in memory alone */
    int fill_socket, fill_device; /* for its worker; -1 = all pages are there */
    bool is_new;                  /* nobody has made a table in it */
    bool recover;                 /* a process died with it */
    bool listed;                  /* while the file is read again: it is still there */
    struct front_worker *worker;  /* where it is served; NULL before its first connection */
    unsigned slot;
    bool sent; /* the worker's process has been told of it */

    uint64_t suspect_until_ns; /* a worker was killed for a call of it */

    /* It was put apart: a worker of its own, whatever its isolation is. */
    bool apart;
    bool leaving; /* its shared worker has not let go of it yet */
    uint64_t apart_until_ns;
    uint64_t apart_failures; /* calls that were stopped since, as far as they are known */
};

/* A message that waits for room in a control socket. */
struct front_packet {
    struct front_packet *next;
    struct table_message message;
    int fds[TABLE_CONTROL_FDS];
    size_t fd_count;
    uint8_t extra[];
};

/* The worker of a tenant, or of several of one domain, whether its process runs or not. */
struct front_worker {
    struct front_source control_source, pid_source; /* told apart by their kinds */
    struct front_worker *next;
    struct table_front *front;
    uint32_t id;
    bool shared;
    char domain[TABLE_TENANT_NAME_BYTES];
    unsigned rows, used_rows;
    struct front_tenant **tenants; /* by slot */

    /* Its process. */
    bool running; /* or about to, while pidfd is -1 */
    int control;
    int pidfd;
    pid_t pid;
    int status_fd; /* until it is started */
    struct table_status *status;
    struct front_packet *queue, **queue_end;
    bool hurried; /* its call is long over its time, and has normal priority again */
    uint64_t
        late_from_ns; /* what its process had taken when a call was first late; 0 = none is */
    bool retired;     /* it takes nobody, and ends */
    uint64_t started_ns;
    uint64_t unread_since_ns; /* it has not taken its messages since then; 0 = it has */
    bool has_cgroup;

    /* After a death. */
    unsigned failures;
    uint64_t next_start_ns;
};

/* What an AUTH, or a HELLO with AUTH, asks for. */
struct front_wish {
    char user[TABLE_TENANT_NAME_BYTES]; /* "" = nobody can have that name */
    size_t used;                        /* bytes of the command */
    bool is_hello;
    unsigned protocol; /* of HELLO */
    bool has_name;     /* HELLO SETNAME */
    char name[TABLE_CONTROL_NAME_BYTES];
};

/* A connection of somebody who is not authenticated, or wants to be another. */
struct front_client {
    struct front_source source;
    struct front_client *next, *previous; /* by deadline */
    int fd;
    uint64_t id;
    uint64_t deadline_ns;
    uint32_t events; /* that epoll watches for */
    uint8_t *in;     /* NULL when nothing is there */
    size_t in_from, in_to, in_cap;
    struct base_buf out;
    struct front_tenant *tenant; /* who it is; NULL = nobody yet */
    bool checking;               /* its password is being checked */
    bool going;                  /* to its tenant's worker, when output is out */
    bool parked;                 /* its worker cannot be started yet */
    bool closing;                /* when output is out */
    bool partial;                /* what is there is the begin of a command */
    bool dead;                   /* only an answer about its password is waited for */
    struct front_wish wish;      /* while it is checked */
    unsigned protocol;
    char name[TABLE_CONTROL_NAME_BYTES];
    char address[TABLE_CONTROL_NAME_BYTES];
    char library[TABLE_CONTROL_NAME_BYTES];
    char library_version[TABLE_CONTROL_NAME_BYTES];
};

struct table_front {
    struct base_mutex mutex;
    int epoll_fd, event_fd;
    _Atomic unsigned stops; /* relaxed: the event that follows is what wakes */
    _Atomic bool reload;
    bool accepting, draining;
    bool any_parked;
    bool repair; /* tables that are damaged on disk */
    bool cgroup_version_2;
    struct front_source auth_source, event_source, zygote_source;
    struct front_listener listeners[DOR_TABLE_LISTEN_MAX];
    size_t listener_count;
    struct table_auth *auth;
    char *tenants_path, *program;
    char *directory; /* where tables are kept; NULL = they are not */
    struct dor_table_keeper *keeper;
    unsigned connections_max;

    struct front_tenant **by_name;
    size_t tenant_count;
    uint32_t next_tenant_id;
    struct front_worker *workers;
    uint32_t next_worker_id;

    struct front_client *clients, *last_client;
    struct front_client *ended_clients;
    unsigned client_count;
    uint64_t next_client_id;
    struct resp_args args;

    pid_t zygote_pid;
    int zygote; /* its control socket, -1 = it is dead */
    unsigned zygote_failures;
    uint64_t zygote_started_ns;
    uint64_t next_zygote_ns;

    struct base_buf extra;
    struct table_front_counters counters;
    uint64_t now_ns;
    uint64_t next_round_ns;
    unsigned looks;                  /* which worker's memory is looked at next */
    char cgroup[FRONT_CGROUP_BYTES]; /* where workers get groups of their own; "" = nowhere */
    const char *cgroup_limit;        /* the file's name */
};

/* Watch FD for EVENTS, or for others than before. */
DOR_MUST_CHECK int
front_watch(struct table_front *front, int fd, uint32_t events, struct front_source *source);
DOR_MUST_CHECK int
front_rewatch(struct table_front *front, int fd, uint32_t events, struct front_source *source);

void front_unwatch(struct table_front *front, int fd);

/* Accept nobody for a moment. */
void front_pause_accepting(struct table_front *front);

/* ---- front_client.c ---- */
/* False when nobody waits. */
bool front_client_accept(struct table_front *front, struct front_listener *listener);
void
front_client_event(struct table_front *front, struct front_client *client, uint32_t events);
void front_client_answer(struct table_front *front, const struct table_auth_answer *answer);
void front_client_take_back(
    struct table_front *front, struct front_worker *worker, const struct table_message *message,
    int fds[static TABLE_CONTROL_FDS]);
void front_client_close(struct table_front *front, struct front_client *client);
/* Those whose time is over. */
void front_client_sweep(struct table_front *front);
/* Free those that have ended; called when no event can name them. */
void front_client_free_ended(struct table_front *front);
void front_clients_free(struct table_front *front);

/* ---- front_tenant.c ---- */
DOR_MUST_CHECK int front_tenants_load(struct table_front *front);
void front_tenants_free(struct table_front *front);
struct front_tenant *front_tenant_find(const struct table_front *front, const char *name);
struct front_tenant *front_tenant_by_id(const struct table_front *front, uint32_t id);
void front_tenant_message(const struct front_tenant *tenant, struct table_message *ret);

/* ---- front_worker.c ---- */

/*
 * Make sure that TENANT has a worker with a process that knows it. DOR_E_BUSY: it died too often
 * to be started right now.
 */
DOR_MUST_CHECK int front_worker_serve(struct table_front *front, struct front_tenant *tenant);
/* Give the connection with all that was read of it to TENANT's worker; both stay the caller's. */
DOR_MUST_CHECK int front_worker_adopt(
    struct table_front *front, struct front_tenant *tenant, const struct front_client *client);
/* Tell the worker, if its process knows TENANT, that it has changed or is to go. */
void front_worker_tell_change(struct front_tenant *tenant);
void front_worker_tell_remove(struct front_tenant *tenant);
void front_worker_forget(struct front_worker *worker, struct front_tenant *tenant);
/* Have its process end, and give it nobody any more. */
void front_worker_retire(struct front_worker *worker);
void front_worker_control_event(
    struct table_front *front, struct front_worker *worker, uint32_t events);
void front_worker_pid_event(struct table_front *front, struct front_worker *worker);
/* What the zygote told; *PIDFD is taken if it is of use. */
void front_worker_spawned(
    struct table_front *front, const struct table_message *message, int *pidfd);
/* There is a new zygote. */
void front_workers_ask_again(struct table_front *front);
void front_workers_say_bye(struct table_front *front);
void front_workers_kill(struct table_front *front);
bool front_workers_run(const struct table_front *front);
/* Free those that are of no use any more. */
void front_workers_sweep(struct table_front *front);
void front_workers_free(struct table_front *front);
uint64_t front_workers_connections(const struct table_front *front);
void front_worker_kill(struct front_worker *worker);

/* Tell WORKER; descriptors stay the caller's. */
DOR_MUST_CHECK int front_worker_say(
    struct front_worker *worker, const struct table_message *message, const void *extra,
    const int *fds, size_t fd_count);

/* ---- front_kept.c ---- */

/*
 * Put what is kept of TENANT into its new arena, if it is to be kept. DOR_E_CORRUPT, DOR_E_BUSY as
 * in kept.h.
 */
DOR_MUST_CHECK int front_kept_open(struct table_front *front, struct front_tenant *tenant);
void front_kept_close(struct front_tenant *tenant);
/* Its worker is dead, and what it knew of the arena is noted; throws away what is not whole. */
void front_kept_worker_died(struct front_tenant *tenant);
/* What a worker says about a tenant's snapshot or pages. */
void front_kept_hear(
    struct front_tenant *tenant, const struct table_message *message,
    const struct base_buf *extra);
/* End snapshots that are done, and begin those that are wanted. */
void front_kept_round(struct table_front *front);

/* ---- front_apart.c ---- */

/* Whether TENANT is to be served by a worker that it shares. */
bool front_tenant_shares(const struct front_tenant *tenant);
/* Its functions overran their limits: from its next worker on it has one of its own. */
void front_tenant_put_apart(struct table_front *front, struct front_tenant *tenant);
/* APART and LEFT of a worker about the tenant ID. */
void
front_apart_hear(struct table_front *front, const struct front_worker *worker, uint32_t id);
void front_left_hear(struct front_worker *worker, uint32_t id);
/* Bring those back that have behaved and are not connected. */
void front_apart_round(struct table_front *front);

/* ---- front_supervise.c ---- */

/* Bytes that WORKER may have beside its tables. */
uint64_t front_worker_memory_max(const struct front_worker *worker);
/* End processes that are stuck or have taken too much memory. */
void front_supervise(struct table_front *front);

/* ---- front_cgroup.c ---- */

/* Find where groups can be made that bound memory, if anywhere. */
void front_cgroup_open(struct table_front *front);
void front_cgroup_add(struct table_front *front, struct front_worker *worker);
void front_cgroup_remove(struct table_front *front, struct front_worker *worker);
void front_cgroup_close(struct table_front *front);

/* ---- front_zygote.c ---- */
DOR_MUST_CHECK int front_zygote_start(struct table_front *front);
void front_zygote_event(struct table_front *front);
/* Start one again if there is none and its time has come. */
void front_zygote_keep(struct table_front *front);
void front_zygote_end(struct table_front *front);

#endif
