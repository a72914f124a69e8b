/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http.c - connections, and each request's way through libmicrohttpd's callbacks:
 *
 *     headers --begin--> body ... --whole--> suspended while the job runs --resumed--> answered
 *                  \-- refused at once          \-- inline: answered at once
 *
 * A suspended connection is resumed exactly once, by the end of its call.
 */
#include "node/http.h"

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/size.h"
#include "node/connection.h"
#include "node/shape.h"

#include <inttypes.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SPARE_CONNECTIONS = 16, /* for those that are closing */
    ALLOW_BYTES = 40,
    EMPTY_BODY_BYTES = 2, /* {} */
};

struct request {
    struct node *node;
    struct node_connection *connection; /* NULL when there was no memory for it */
    struct node_call *call;             /* NULL until there is a route */
    struct base_buf body;
    uint64_t streamed_bytes;
    struct base_err refused; /* code 0: not refused */
    unsigned status;         /* of a refusal; 0 = by its code */
    char allow[ALLOW_BYTES]; /* methods, with status 405 */
    bool submitted;
};

unsigned
node_http_status(int code)
{
    switch ((enum dor_errno)code) {
    case DOR_OK:
        return MHD_HTTP_OK;
    case DOR_E_USAGE:
        return MHD_HTTP_BAD_REQUEST;
    case DOR_E_NOT_FOUND:
        return MHD_HTTP_NOT_FOUND;
    case DOR_E_EXISTS:
        return MHD_HTTP_CONFLICT;
    case DOR_E_NO_SPACE:
        return MHD_HTTP_INSUFFICIENT_STORAGE;
    case DOR_E_NO_MEMORY:
    case DOR_E_BUSY:
        return MHD_HTTP_SERVICE_UNAVAILABLE;
    case DOR_E_TIMEOUT:
        return MHD_HTTP_GATEWAY_TIMEOUT;
    case DOR_E_DENIED:
        return MHD_HTTP_FORBIDDEN;
    case DOR_E_UNSUPPORTED:
        return MHD_HTTP_NOT_IMPLEMENTED;
    case DOR_E_CORRUPT:
    case DOR_E_IO:
        break;
    }
    return MHD_HTTP_INTERNAL_SERVER_ERROR;
}

/* ------------------------------------------------------------------ requests */

/* Refuse with this thread's last error. */
static void
refuse(struct request *request, unsigned status)
{
    request->refused = *base_err_record();
    request->status = status;
}

/* Compare PATH of a route with URL, decoding what its parameters stand for. */
static int
match_path(
    const char *path, const char *url, char parameters[NODE_PARAMETERS][DOR_PATH_BYTES_MAX + 1],
    bool *ret)
{
    unsigned count = 0;
    *ret = false;
    while (*path != '\0' && *url != '\0') {
        size_t path_bytes = 1 + strcspn(path + 1, "/");
        size_t url_bytes = 1 + strcspn(url + 1, "/");
        if (path[1] != '{' && (path_bytes != url_bytes || memcmp(path, url, path_bytes) != 0))
            return 0;
        if (path[1] == '{') {
            int rc = node_percent_decode(
                url + 1, url_bytes - 1, false, parameters[count++], DOR_PATH_BYTES_MAX + 1);
            if (rc != 0)
                return rc;
        }
        path += path_bytes;
        url += url_bytes;
    }
    *ret = *path == *url;
    return 0;
}

/* The route of METHOD and URL goes to the request's call. */
static void
find_route(struct request *request, const char *method, const char *url)
{
    bool known = false;
    if (strcmp(method, "HEAD") == 0)
        method = "GET";
    struct node_call *call = node_call_new(request->node, NULL);
    request->call = call;
    if (call == NULL || url[0] != '/') {
        dor_fail(DOR_E_USAGE, "the address does not begin with /");
        refuse(request, 0);
        return;
    }
    for (size_t i = 0; i < node_route_count; i++) {
        const struct node_route *route = &node_routes[i];
        bool fits = false;
        if (match_path(route->path, url, call->parameters, &fits) != 0) {
            refuse(request, 0);
            return;
        }
        if (fits && strcmp(route->method, method) == 0) {
            call->route = route;
            return;
        }
        if (fits) {
            size_t used = strlen(request->allow);
            snprintf(
                request->allow + used, sizeof request->allow - used, "%s%s",
                used == 0 ? "" : ", ", route->method);
        }
        known = known || fits;
    }
    if (known)
        dor_fail(DOR_E_USAGE, "%s is not for this address", method);
    else
        dor_fail(DOR_E_NOT_FOUND, "there is nothing at this address; see /openapi.json");
    refuse(request, known ? MHD_HTTP_METHOD_NOT_ALLOWED : 0);
}

struct query {
    struct request *request;
    size_t used_bytes, size_bytes;
};

static enum MHD_Result
take_parameter(void *context, enum MHD_ValueKind kind, const char *key, const char *value)
{
    struct query *query = context;
    struct node_call *call = query->request->call;
    char name[DOR_NAME_BYTES_MAX];
    (void)kind;
    char *place = call->query + query->used_bytes;
    if (value == NULL)
        value = "true";
    int rc = node_percent_decode(key, strlen(key), true, name, sizeof name);
    if (rc == 0)
        rc = node_percent_decode(
            value, strlen(value), true, place, query->size_bytes - query->used_bytes);
    if (rc == 0) {
        query->used_bytes += strlen(place) + 1;
        const char *body = strcmp(call->route->method, "GET") == 0 ||
                                   strcmp(call->route->method, "DELETE") == 0 ||
                                   strcmp(call->route->body, "upload") == 0
                               ? call->route->body
                               : "none";
        rc = node_body_set(body, name, place, &call->values);
    }
    if (rc == 0)
        return MHD_YES;
    refuse(query->request, 0);
    return MHD_NO;
}

static void
take_query(struct request *request, struct MHD_Connection *mhd)
{
    struct query query = {
        .request = request, .size_bytes = request->node->config.options.header_bytes_max * 2};
    if (MHD_get_connection_values(mhd, MHD_GET_ARGUMENT_KIND, NULL, NULL) == 0)
        return;
    char *text = base_alloc(query.size_bytes);
    if (text == NULL) {
        refuse(request, 0);
        return;
    }
    request->call->query = base_keep(text);
    MHD_get_connection_values(mhd, MHD_GET_ARGUMENT_KIND, take_parameter, &query);
}

static bool
is_stream(const struct request *request)
{
    return strcmp(request->call->route->body, "upload") == 0;
}

static uint64_t
body_limit(const struct request *request)
{
    const struct node_options *options = &request->node->config.options;
    if (is_stream(request))
        return options->upload_bytes_max;
    const char *method = request->call->route->method;
    bool bodied = strcmp(method, "PUT") == 0 || strcmp(method, "POST") == 0;
    return bodied && strcmp(request->call->route->body, "none") != 0 ? options->body_bytes_max
                                                                     : EMPTY_BODY_BYTES;
}

static void
refuse_length(struct request *request)
{
    dor_fail(
        DOR_E_USAGE, "the body is too long; this request takes at most %" PRIu64 " bytes",
        body_limit(request));
    refuse(request, MHD_HTTP_CONTENT_TOO_LARGE);
}

static void
check_length(struct request *request, struct MHD_Connection *mhd)
{
    const char *length = MHD_lookup_connection_value(mhd, MHD_HEADER_KIND, "Content-Length");
    if (length != NULL && strtoull(length, NULL, 10) > body_limit(request))
        refuse_length(request);
    else if (
        is_stream(request) && node_spool_open(request->node, &request->call->spool_fd) != 0)
        refuse(request, 0);
}

static struct request *
begin(struct node *node, struct MHD_Connection *mhd, const char *url, const char *method)
{
    struct request *request = base_zalloc(sizeof *request);
    if (request == NULL)
        return NULL;
    request->node = node;
    request->connection =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
    base_mutex_lock(&node->http.mutex);
    node->http.request_count++;
    base_mutex_unlock(&node->http.mutex);
    find_route(request, method, url);
    if (request->refused.code == 0)
        take_query(request, mhd);
    if (request->refused.code == 0)
        check_length(request, mhd);
    if (request->refused.code == 0 && is_stream(request))
        node_connection_set_deadline(request->node, request->connection, false);
    return request;
}

static void
take_body(struct request *request, const char *data, size_t size_bytes)
{
    if (request->refused.code != 0)
        return;
    int rc = 0;
    if (size_bytes > body_limit(request) - request->streamed_bytes) {
        refuse_length(request);
        return;
    }
    if (is_stream(request))
        rc = base_file_pwrite(
            request->call->spool_fd, data, size_bytes, request->streamed_bytes, "the image");
    else
        rc = base_buf_append(&request->body, data, size_bytes);
    request->streamed_bytes += size_bytes;
    if (rc != 0)
        refuse(request, 0);
}

/* ------------------------------------------------------------------ answers */

static void
free_call(void *context)
{
    node_call_unref(context);
}

static struct MHD_Response *
make_response(struct node_call *call)
{
    if (call->file_fd >= 0)
        return MHD_create_response_from_fd64(call->file_bytes, base_take_fd(&call->file_fd));
    struct MHD_Response *response = MHD_create_response_from_buffer_with_free_callback_cls(
        call->text_bytes, call->text, free_call, call);
    if (response != NULL)
        node_call_ref(call);
    return response;
}

/* Takes the response. */
static enum MHD_Result
send_response(
    struct request *request, struct MHD_Connection *mhd, unsigned status, const char *type,
    struct MHD_Response *response)
{
    if (response == NULL)
        return MHD_NO;
    MHD_add_response_header(response, "Content-Type", type);
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
        MHD_add_response_header(response, "Allow", request->allow);
    if (status == MHD_HTTP_SERVICE_UNAVAILABLE)
        MHD_add_response_header(response, "Retry-After", "1");
    enum MHD_Result queued = MHD_queue_response(mhd, status, response);
    MHD_destroy_response(response);
    base_counter_add(&request->node->counters.requests, 1);
    if (status >= MHD_HTTP_BAD_REQUEST)
        base_counter_add(&request->node->counters.refused_requests, 1);
    return queued;
}

static enum MHD_Result
answer_json(struct request *request, struct MHD_Connection *mhd, unsigned status, json_t *json)
{
    char *text = json == NULL ? NULL : json_dumps(json, JSON_COMPACT);
    json_decref(json);
    if (text == NULL)
        return MHD_NO;
    return send_response(
        request, mhd, status, "application/json",
        MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE));
}

static enum MHD_Result
answer_error(
    struct request *request, struct MHD_Connection *mhd, const struct base_err *err,
    unsigned status)
{
    return answer_json(
        request, mhd, status == 0 ? node_http_status(err->code) : status,
        node_shape_error(err));
}

static enum MHD_Result
answer_call(struct request *request, struct MHD_Connection *mhd)
{
    struct node_call *call = request->call;
    if (call->err.code != 0)
        return answer_error(request, mhd, &call->err, 0);
    return send_response(request, mhd, MHD_HTTP_OK, call->content_type, make_response(call));
}

/* The call has ended: libmicrohttpd asks again, and then there is an answer. */
static void
resume(void *context)
{
    MHD_resume_connection(context);
}

static enum MHD_Result
submit(struct request *request, struct MHD_Connection *mhd)
{
    struct node *node = request->node;
    struct node_call *call = request->call;
    request->submitted = true;
    if (call->values.async) {
        if (strcmp(call->route->body, "raw") == 0) {
            dor_fail(DOR_E_USAGE, "query: async: this answer is no JSON that could be kept");
            return answer_error(request, mhd, base_err_record(), 0);
        }
        if (node_jobs_submit(&node->jobs, call) != 0)
            return answer_error(request, mhd, base_err_record(), 0);
        return answer_json(
            request, mhd, MHD_HTTP_ACCEPTED, node_jobs_describe(&node->jobs, call, false));
    }
    call->resume = resume;
    call->resume_context = mhd;
    node_connection_set_call(request->node, request->connection, call);
    MHD_suspend_connection(mhd);
    if (node_jobs_submit(&node->jobs, call) != 0) {
        call->err = *base_err_record();
        MHD_resume_connection(mhd);
    }
    return MHD_YES;
}

/* The request is there as a whole. */
static enum MHD_Result
run(struct request *request, struct MHD_Connection *mhd)
{
    struct node_call *call = request->call;
    node_connection_set_deadline(request->node, request->connection, false);
    if (request->refused.code == 0 && request->body.size_bytes > 0 &&
        body_limit(request) > EMPTY_BODY_BYTES &&
        node_body_parse(
            call->route->body, (const char *)request->body.data, request->body.size_bytes,
            &call->values, &call->body) != 0)
        refuse(request, 0);
    if (request->refused.code != 0)
        return answer_error(request, mhd, &request->refused, request->status);
    if (call->route->where != NODE_INLINE)
        return submit(request, mhd);
    request->submitted = true;
    if (call->route->run(call) != 0)
        call->err = *base_err_record();
    return answer_call(request, mhd);
}

static bool
has_body(struct MHD_Connection *mhd)
{
    const char *length = MHD_lookup_connection_value(mhd, MHD_HEADER_KIND, "Content-Length");
    return MHD_lookup_connection_value(mhd, MHD_HEADER_KIND, "Transfer-Encoding") != NULL ||
           (length != NULL && strtoull(length, NULL, 10) > 0);
}

static enum MHD_Result
handle(
    void *context, struct MHD_Connection *mhd, const char *url, const char *method,
    const char *version, const char *data, size_t *data_bytes, void **request_context)
{
    struct request *request = *request_context;
    (void)version;
    if (request == NULL) {
        request = begin(context, mhd, url, method);
        *request_context = request;
        if (request == NULL)
            return MHD_NO;
        /* Before the body is read, so that a long one need not be sent; it ends the connection. */
        return request->refused.code != 0 && has_body(mhd)
                   ? answer_error(request, mhd, &request->refused, request->status)
                   : MHD_YES;
    }
    if (*data_bytes > 0) {
        take_body(request, data, *data_bytes);
        *data_bytes = 0;
        return MHD_YES;
    }
    if (!request->submitted)
        return run(request, mhd);
    node_connection_set_call(request->node, request->connection, NULL);
    return answer_call(request, mhd);
}

static void
end_request(
    void *context, struct MHD_Connection *mhd, void **request_context,
    enum MHD_RequestTerminationCode code)
{
    struct node *node = context;
    struct request *request = *request_context;
    (void)mhd;
    (void)code;
    if (request == NULL)
        return;
    node_connection_set_call(request->node, request->connection, NULL);
    node_connection_set_deadline(request->node, request->connection, true);
    base_mutex_lock(&node->http.mutex);
    node->http.request_count--;
    base_mutex_unlock(&node->http.mutex);
    node_call_unref(request->call);
    base_buf_free(&request->body);
    base_free(request);
    *request_context = NULL;
}

/* Addresses stay as they were sent: a decoded "/" would be another path. */
static size_t
keep_escapes(void *context, struct MHD_Connection *mhd, char *text)
{
    (void)context;
    (void)mhd;
    return strlen(text);
}

int
node_http_start(struct node *node)
{
    const struct node_options *options = &node->config.options;
    base_mutex_init(&node->http.mutex);
    node->http.daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME, 0,
        NULL, NULL, handle, node, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)options->connections_max + SPARE_CONNECTIONS, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)options->request_seconds, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)options->header_bytes_max, MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL,
        MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_NOTIFY_CONNECTION, node_connection_notify,
        node, MHD_OPTION_NOTIFY_COMPLETED, end_request, node, MHD_OPTION_END);
    if (node->http.daemon == NULL) {
        base_mutex_fini(&node->http.mutex);
        return dor_fail(DOR_E_NO_MEMORY, "the HTTP server does not start");
    }
    return 0;
}

void
node_http_stop(struct node *node)
{
    if (node->http.daemon == NULL)
        return;
    MHD_stop_daemon(node->http.daemon);
    node->http.daemon = NULL;
    base_mutex_fini(&node->http.mutex);
}
