/* SPDX-License-Identifier: Apache-2.0 */
/*
 * front_client.c - connections until somebody has authenticated: what they may say is AUTH, HELLO
 * and QUIT. Everything else is answered with NOAUTH; or, when the default tenant needs no
 * password, it is not looked at here at all but handed over with the connection.
 *
 * Bounds: 16 KiB of a command, ten words, thirty seconds. Nothing is read while a password is
 * checked or while a reply is not out, so a client that does not read is not read from.
 *
 * A client that is handed back by a worker keeps being who it was until another password was
 * right; with a wrong one it goes back to where it came from.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/size.h"
#include "table/front_priv.h"

#define NOAUTH    "-NOAUTH Authentication required.\r\n"
#define WRONGPASS "-WRONGPASS invalid username-password pair or user is disabled.\r\n"

static void process(struct table_front *front, struct front_client *client);

/* ------------------------------------------------------------------ beginning and end */

static void
unlink_client(struct table_front *front, struct front_client *client)
{
    if (client->previous != NULL)
        client->previous->next = client->next;
    else
        front->clients = client->next;
    if (client->next != NULL)
        client->next->previous = client->previous;
    else
        front->last_client = client->previous;
    front->client_count--;
}

void
front_client_close(struct table_front *front, struct front_client *client)
{
    if (client->dead)
        return;
    client->dead = true;
    /* The connection may live on in a worker, and epoll would tell of it here. */
    front_unwatch(front, client->fd);
    base_close_fd(&client->fd);
    unlink_client(front, client);
    if (!client->checking) {
        client->next = front->ended_clients;
        front->ended_clients = client;
    }
}

void
front_client_free_ended(struct table_front *front)
{
    while (front->ended_clients != NULL) {
        struct front_client *client = front->ended_clients;
        front->ended_clients = client->next;
        if (client->in != NULL)
            explicit_bzero(client->in, client->in_cap);
        base_free(client->in);
        base_buf_free(&client->out);
        base_free(client);
    }
}

void
front_clients_free(struct table_front *front)
{
    while (front->clients != NULL) {
        front->clients->checking = false; /* nobody answers any more */
        front_client_close(front, front->clients);
    }
    front_client_free_ended(front);
}

/* At the end, with as much time as a new one. */
static void
link_client(struct table_front *front, struct front_client *client)
{
    client->deadline_ns = front->now_ns + FRONT_HANDSHAKE_SECONDS * UINT64_C(1000000000);
    client->next = NULL;
    client->previous = front->last_client;
    if (front->last_client != NULL)
        front->last_client->next = client;
    else
        front->clients = client;
    front->last_client = client;
    front->client_count++;
}

/* NULL when there is no memory; FD then is the caller's still. */
static struct front_client *
new_client(struct table_front *front, int fd)
{
    struct front_client *client = base_zalloc(sizeof *client);
    if (client == NULL)
        return NULL;
    *client = (struct front_client){
        .source.kind = FRONT_CLIENT,
        .fd = fd,
        .protocol = 2,
        .events = EPOLLIN,
    };
    if (front_watch(front, fd, client->events, &client->source) != 0) {
        base_free(client);
        return NULL;
    }
    link_client(front, client);
    return client;
}

static void
describe_peer(int fd, char ret[TABLE_CONTROL_NAME_BYTES])
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_storage room;
    } peer = {0};
    char text[INET6_ADDRSTRLEN] = "";
    socklen_t bytes = sizeof peer;
    snprintf(ret, TABLE_CONTROL_NAME_BYTES, "unix:0");
    if (getpeername(fd, &peer.any, &bytes) != 0)
        return;
    if (peer.any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &peer.v4.sin_addr, text, sizeof text);
        snprintf(ret, TABLE_CONTROL_NAME_BYTES, "%s:%u", text, ntohs(peer.v4.sin_port));
    } else if (peer.any.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &peer.v6.sin6_addr, text, sizeof text);
        snprintf(ret, TABLE_CONTROL_NAME_BYTES, "[%s]:%u", text, ntohs(peer.v6.sin6_port));
    }
}

bool
front_client_accept(struct table_front *front, struct front_listener *listener)
{
    static const char full[] = "-ERR max number of clients reached\r\n";
    const int on = 1;
    AUTO_CLOSE int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        /* Out of descriptors: those that wait stay in the socket's queue for a moment. */
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
            front_pause_accepting(front);
        return false;
    }
    base_counter_add(&front->counters.connections, 1);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    if (front->client_count + front_workers_connections(front) >= front->connections_max) {
        base_counter_add(&front->counters.refused_connections, 1);
        (void)send(fd, full, sizeof full - 1, MSG_NOSIGNAL);
        return true;
    }
    struct front_client *client = new_client(front, fd);
    if (client == NULL) {
        dor_log(WARN, "table", "not_accepted", "error=\"%s\"", dor_err_message());
        return true;
    }
    client->id = ++front->next_client_id;
    describe_peer(base_take_fd(&fd), client->address);
    return true;
}

/* ------------------------------------------------------------------ output */

/* What is to be watched follows from what there is to do. */
static void
update_events(struct table_front *front, struct front_client *client)
{
    uint32_t events = client->out.size_bytes > 0           ? (uint32_t)EPOLLOUT
                      : client->checking || client->parked ? 0U
                                                           : (uint32_t)EPOLLIN;
    if (client->dead || events == client->events)
        return;
    client->events = events;
    if (front_rewatch(front, client->fd, events, &client->source) != 0)
        front_client_close(front, client);
}

static void
reply(struct table_front *front, struct front_client *client, const char *text)
{
    if (base_buf_append(&client->out, text, strlen(text)) != 0)
        front_client_close(front, client);
}

/* True when all of it is out. */
static bool
flush(struct table_front *front, struct front_client *client)
{
    size_t done = 0;
    while (done < client->out.size_bytes) {
        ssize_t sent = send(
            client->fd, client->out.data + done, client->out.size_bytes - done, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && errno != EAGAIN) {
            front_client_close(front, client);
            return false;
        }
        if (sent < 0)
            break;
        done += (size_t)sent;
    }
    client->out.size_bytes -= done;
    if (client->out.size_bytes == 0)
        return true;
    memmove(client->out.data, client->out.data + done, client->out.size_bytes);
    return false;
}

/* ------------------------------------------------------------------ to a worker */

static void
hand_over(struct table_front *front, struct front_client *client)
{
    int rc = front_worker_adopt(front, client->tenant, client);
    if (rc == 0) {
        front_client_close(front, client);
        return;
    }
    if (rc == DOR_E_BUSY) {
        client->parked = front->any_parked = true;
        return;
    }
    dor_log(WARN, "table", "not_handed_over", "error=\"%s\"", dor_err_message());
    client->going = false;
    client->closing = true;
    reply(front, client, "-ERR the worker of this tenant cannot be started\r\n");
}

/* Whom a client is that says nothing about it: who it was, or the default tenant. */
static struct front_tenant *
home_of(const struct table_front *front, const struct front_client *client)
{
    if (client->tenant != NULL)
        return client->tenant;
    struct front_tenant *tenant = front_tenant_find(front, TABLE_DEFAULT_TENANT);
    return tenant != NULL && tenant->config.password[0] == '\0' ? tenant : NULL;
}

/* ------------------------------------------------------------------ AUTH and HELLO */

static bool
is_word(const struct table_arg *arg, const char *word)
{
    return arg->length == strlen(word) &&
           strncasecmp((const char *)arg->bytes, word, arg->length) == 0;
}

/* Text of ARG without control characters; false when it is too long or has some. */
static bool
take_text(const struct table_arg *arg, char *ret, size_t size_bytes)
{
    if (arg->length >= size_bytes)
        return false;
    for (uint32_t i = 0; i < arg->length; i++)
        if (arg->bytes[i] <= ' ' || arg->bytes[i] > '~')
            return false;
    memcpy(ret, arg->bytes, arg->length);
    ret[arg->length] = '\0';
    return true;
}

static void
consume(struct front_client *client, size_t bytes)
{
    client->in_from += bytes;
    if (client->in_from < client->in_to)
        return;
    if (client->in != NULL)
        explicit_bzero(client->in, client->in_cap);
    base_free(client->in);
    client->in = NULL;
    client->in_from = client->in_to = client->in_cap = 0;
}

/*
 * A worker answers HELLO, so one with the right password is made to one without. It takes the
 * place of the old one, which was longer: the word AUTH, a name and a password are gone.
 */
static int
rewrite_hello(struct front_client *client)
{
    enum { HELLO_BYTES = 64 + TABLE_CONTROL_NAME_BYTES };
    char text[HELLO_BYTES];
    const struct front_wish *wish = &client->wish;
    int bytes = snprintf(
        text, sizeof text, "*%u\r\n$5\r\nHELLO\r\n$1\r\n%u\r\n", wish->has_name ? 4U : 2U,
        wish->protocol);
    if (wish->has_name)
        bytes += snprintf(
            text + bytes, sizeof text - (size_t)bytes, "$7\r\nSETNAME\r\n$%zu\r\n%s\r\n",
            strlen(wish->name), wish->name);
    size_t rest = client->in_to - client->in_from - wish->used;
    uint8_t *in = base_alloc((size_t)bytes + rest);
    if (in == NULL)
        return DOR_E_NO_MEMORY;
    memcpy(in, text, (size_t)bytes);
    memcpy(in + bytes, client->in + client->in_from + wish->used, rest);
    explicit_bzero(client->in, client->in_cap);
    base_free(client->in);
    client->in = in;
    client->in_from = 0;
    client->in_to = client->in_cap = (size_t)bytes + rest;
    return 0;
}

/* The password was right. */
static void
enter(struct table_front *front, struct front_client *client, struct front_tenant *tenant)
{
    client->tenant = tenant;
    client->going = true;
    if (client->wish.is_hello) {
        if (rewrite_hello(client) != 0)
            front_client_close(front, client);
        return;
    }
    consume(client, client->wish.used);
    reply(front, client, "+OK\r\n");
}

static void
reject(struct table_front *front, struct front_client *client, const char *text)
{
    consume(client, client->wish.used);
    reply(front, client, text);
    client->going = client->tenant != NULL;
}

static void
ask(struct table_front *front, struct front_client *client, const struct table_arg *password)
{
    struct front_tenant *tenant = front_tenant_find(front, client->wish.user);
    if (tenant != NULL && tenant->config.password[0] == '\0') {
        enter(front, client, tenant);
        return;
    }
    int rc = table_auth_ask(
        front->auth, (uintptr_t)client, tenant == NULL ? NULL : tenant->config.password,
        password->bytes, password->length);
    if (rc == 0)
        client->checking = true;
    else
        reject(front, client, "-ERR too many passwords wait to be checked\r\n");
}

static void
take_user(struct front_client *client, const struct table_arg *user)
{
    if (!take_text(user, client->wish.user, sizeof client->wish.user))
        client->wish.user[0] = '\0';
}

static void
on_auth(struct table_front *front, struct front_client *client)
{
    const struct table_arg *args = front->args.args;
    uint32_t count = front->args.count;
    const struct front_tenant *tenant = front_tenant_find(front, TABLE_DEFAULT_TENANT);
    if (count < 2) {
        reject(front, client, "-ERR wrong number of arguments for 'auth' command\r\n");
    } else if (count > 3) {
        reject(front, client, "-ERR syntax error\r\n");
    } else if (count == 2 && tenant != NULL && tenant->config.password[0] == '\0') {
        reject(
            front, client,
            "-ERR AUTH <password> called without any password configured for the default user. "
            "Are you sure your configuration is correct?\r\n");
    } else {
        if (count == 3)
            take_user(client, &args[1]);
        else
            memcpy(client->wish.user, TABLE_DEFAULT_TENANT, sizeof TABLE_DEFAULT_TENANT);
        ask(front, client, &args[count - 1]);
    }
}

/* The error in a HELLO, or NULL; *RET_PASSWORD is that after AUTH. */
static const char *
read_hello(
    const struct resp_args *args, struct front_client *client,
    const struct table_arg **ret_password)
{
    int64_t version = 2;
    *ret_password = NULL;
    if (args->count > 1 && !resp_integer(args->args[1].bytes, args->args[1].length, &version))
        return "-ERR Protocol version is not an integer or out of range\r\n";
    if (version < 2 || version > 3)
        return "-NOPROTO unsupported protocol version\r\n";
    client->wish.protocol = (unsigned)version;
    for (uint32_t i = 2; i < args->count; i++) {
        const struct table_arg *arg = &args->args[i];
        uint32_t more = args->count - i - 1;
        if (is_word(arg, "auth") && more >= 2) {
            take_user(client, arg + 1);
            *ret_password = arg + 2;
            i += 2;
        } else if (is_word(arg, "setname") && more >= 1) {
            client->wish.has_name = true;
            if (!take_text(arg + 1, client->wish.name, sizeof client->wish.name))
                return "-ERR Client names cannot contain spaces, newlines or special "
                       "characters.\r\n";
            i++;
        } else {
            return "-ERR Syntax error in HELLO option\r\n";
        }
    }
    return NULL;
}

static void
on_hello(struct table_front *front, struct front_client *client)
{
    const struct table_arg *password = NULL;
    client->wish.is_hello = true;
    const char *error = read_hello(&front->args, client, &password);
    if (error == NULL && password == NULL)
        error = "-NOAUTH HELLO must be called with the client already authenticated, otherwise "
                "the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the "
                "client and select the RESP protocol version at the same time\r\n";
    if (error != NULL)
        reject(front, client, error);
    else
        ask(front, client, password);
}

void
front_client_answer(struct table_front *front, const struct table_auth_answer *answer)
{
    struct front_client *client = (struct front_client *)(uintptr_t)answer->ticket;
    client->checking = false;
    if (!answer->right)
        base_counter_add(&front->counters.wrong_passwords, 1);
    if (client->dead) {
        client->next = front->ended_clients;
        front->ended_clients = client;
        return;
    }
    /* How long the check waited is not the client's fault. */
    unlink_client(front, client);
    link_client(front, client);
    /* It may have been removed meanwhile. */
    struct front_tenant *tenant =
        answer->right ? front_tenant_find(front, client->wish.user) : NULL;
    if (tenant != NULL)
        enter(front, client, tenant);
    else
        reject(front, client, WRONGPASS);
    process(front, client);
}

/* ------------------------------------------------------------------ commands */

static bool
has_auth(const struct resp_args *args)
{
    for (uint32_t i = 2; i < args->count; i++)
        if (is_word(&args->args[i], "auth"))
            return true;
    return false;
}

static void
break_off(struct table_front *front, struct front_client *client, const char *why)
{
    enum { ERROR_BYTES = 128 };
    char text[ERROR_BYTES];
    snprintf(text, sizeof text, "-ERR Protocol error: %s\r\n", why);
    client->closing = true;
    reply(front, client, text);
}

/* A whole command of somebody who is nobody yet, or wants to be another. */
static void
obey(struct table_front *front, struct front_client *client, size_t used)
{
    const struct resp_args *args = &front->args;
    const struct table_arg *word = args->count > 0 ? &args->args[0] : NULL;
    client->wish = (struct front_wish){.used = used};
    bool hello = word != NULL && is_word(word, "hello");
    if (word == NULL) {
        consume(client, used);
    } else if (is_word(word, "auth")) {
        on_auth(front, client);
    } else if (hello && (has_auth(args) || home_of(front, client) == NULL)) {
        on_hello(front, client);
    } else if (home_of(front, client) != NULL) {
        client->tenant = home_of(front, client);
        client->going = true;
    } else if (is_word(word, "quit")) {
        client->closing = true;
        reply(front, client, "+OK\r\n");
    } else {
        consume(client, used);
        reply(front, client, NOAUTH);
    }
}

static void
look_at_input(struct table_front *front, struct front_client *client)
{
    struct resp_request request = {0};
    size_t length = client->in_to - client->in_from;
    front->args.count = 0;
    enum resp_result result =
        resp_parse(&request, client->in + client->in_from, length, &front->args);
    if (result == RESP_COMPLETE && front->args.count <= FRONT_ARGS_MAX) {
        obey(front, client, request.used);
    } else if (home_of(front, client) != NULL) {
        /* Its worker knows what to make of it, and waits for the rest. */
        client->tenant = home_of(front, client);
        client->going = true;
    } else if (result == RESP_BROKEN) {
        break_off(front, client, request.error);
    } else if (result == RESP_COMPLETE || request.state.total > FRONT_ARGS_MAX) {
        break_off(front, client, "unauthenticated multibulk length");
    } else if (result != RESP_PARTIAL || length >= FRONT_INPUT_BYTES) {
        break_off(front, client, "unauthenticated bulk length");
    } else {
        client->partial = true;
    }
}

/* Go on with CLIENT as far as that is possible now. */
static void
process(struct table_front *front, struct front_client *client)
{
    client->partial = false;
    while (!client->dead && !client->checking && !client->parked) {
        if (!flush(front, client))
            break;
        if (client->closing)
            front_client_close(front, client);
        else if (client->going)
            hand_over(front, client);
        else if (client->in == NULL || client->partial)
            break;
        else
            look_at_input(front, client);
    }
    update_events(front, client);
}

/* ------------------------------------------------------------------ input */

static bool
make_room(struct front_client *client)
{
    if (client->in_from > 0) {
        memmove(client->in, client->in + client->in_from, client->in_to - client->in_from);
        client->in_to -= client->in_from;
        client->in_from = 0;
    }
    if (client->in_to < client->in_cap)
        return true;
    size_t cap = client->in_cap == 0 ? FRONT_FIRST_INPUT_BYTES : 2 * client->in_cap;
    /* Not resized in place: the old memory may hold a password. */
    uint8_t *grown = base_alloc(cap);
    if (grown == NULL)
        return false;
    if (client->in != NULL) {
        memcpy(grown, client->in, client->in_to);
        explicit_bzero(client->in, client->in_cap);
        base_free(client->in);
    }
    client->in = grown;
    client->in_cap = cap;
    return true;
}

static void
receive(struct table_front *front, struct front_client *client)
{
    if (!make_room(client)) {
        front_client_close(front, client);
        return;
    }
    ssize_t got =
        recv(client->fd, client->in + client->in_to, client->in_cap - client->in_to, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        consume(client, 0);
        return;
    }
    if (got <= 0) {
        front_client_close(front, client);
        return;
    }
    client->in_to += (size_t)got;
    process(front, client);
}

void
front_client_event(struct table_front *front, struct front_client *client, uint32_t events)
{
    if (client->dead)
        return;
    if (client->checking || client->parked || (events & EPOLLERR) != 0) {
        if ((events & (EPOLLERR | EPOLLHUP)) != 0)
            front_client_close(front, client);
    } else if (client->out.size_bytes > 0) {
        process(front, client);
    } else {
        receive(front, client);
    }
}

/* Try again to hand over those whose worker could not be started. */
static void
try_parked(struct table_front *front)
{
    struct front_client *next = NULL;
    if (!front->any_parked)
        return;
    front->any_parked = false;
    for (struct front_client *client = front->clients; client != NULL; client = next) {
        next = client->next;
        if (!client->parked)
            continue;
        client->parked = false;
        process(front, client);
    }
}

void
front_client_sweep(struct table_front *front)
{
    try_parked(front);
    while (front->clients != NULL && front->clients->deadline_ns <= front->now_ns) {
        struct front_client *client = front->clients;
        struct front_tenant *home = home_of(front, client);
        if (home != NULL && !client->checking && client->out.size_bytes == 0 &&
            !client->closing) {
            client->tenant = home;
            if (front_worker_adopt(front, home, client) != 0)
                dor_log(WARN, "table", "not_handed_over", "error=\"%s\"", dor_err_message());
        } else {
            base_counter_add(&front->counters.slow_connections, 1);
        }
        front_client_close(front, client);
    }
}

/* ------------------------------------------------------------------ from a worker */

/* A worker may hand back anything; what is no connection is not taken. */
static bool
is_connection(int fd)
{
    int type = 0;
    int domain = 0;
    socklen_t type_bytes = sizeof type;
    socklen_t domain_bytes = sizeof domain;
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_bytes) == 0 &&
           getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &domain_bytes) == 0 &&
           type == SOCK_STREAM &&
           (domain == AF_UNIX || domain == AF_INET || domain == AF_INET6) &&
           fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK) == 0;
}

/* Workers hand back as much as they like, and the front has to hold it. */
static bool
has_room_for_input(const struct table_front *front, uint64_t more_bytes)
{
    uint64_t bytes = more_bytes;
    if (more_bytes <= FRONT_LARGE_INPUT_BYTES)
        return true;
    for (const struct front_client *client = front->clients; client != NULL;
         client = client->next)
        if (client->in_cap > FRONT_LARGE_INPUT_BYTES)
            bytes += client->in_cap;
    return bytes <= FRONT_LARGE_INPUTS_BYTES;
}

static int
copy_input(struct front_client *client, const struct base_buf *input)
{
    if (input->size_bytes == 0)
        return 0;
    client->in = base_alloc(input->size_bytes);
    if (client->in == NULL)
        return DOR_E_NO_MEMORY;
    memcpy(client->in, input->data, input->size_bytes);
    client->in_to = client->in_cap = input->size_bytes;
    return 0;
}

void
front_client_take_back(
    struct table_front *front, struct front_worker *worker, const struct table_message *message,
    int fds[static TABLE_CONTROL_FDS])
{
    struct front_tenant *tenant = front_tenant_by_id(front, message->id);
    if (tenant == NULL || tenant->worker != worker || fds[0] < 0 || !is_connection(fds[0]) ||
        !has_room_for_input(front, message->client.input_bytes) ||
        table_control_take_input(message, fds[1], &front->extra) != 0) {
        dor_log(WARN, "table", "not_taken_back", "worker=%u", worker->id);
        return;
    }
    struct front_client *client = new_client(front, fds[0]);
    if (client == NULL)
        return;
    fds[0] = -1;
    base_counter_add(&front->counters.hand_backs, 1);
    client->tenant = tenant;
    client->id = message->client.client_id;
    client->protocol = message->client.protocol;
    memcpy(client->name, message->client.name, sizeof client->name);
    memcpy(client->address, message->client.address, sizeof client->address);
    memcpy(client->library, message->client.library, sizeof client->library);
    memcpy(
        client->library_version, message->client.library_version,
        sizeof client->library_version);
    if (copy_input(client, &front->extra) != 0)
        front_client_close(front, client);
    else
        process(front, client);
    /* Large ones are seldom; their memory is not kept for the next. */
    if (front->extra.cap_bytes > FRONT_LARGE_INPUT_BYTES)
        base_buf_free(&front->extra);
}
