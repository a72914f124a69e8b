/* SPDX-License-Identifier: Apache-2.0 */
/*
 * describe.c - a client as CLIENT LIST shows it.
 */
#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "table/client.h"
#include "table/worker_priv.h"

static void
write_address(const struct sockaddr_storage *address, socklen_t length, char *text)
{
    char host[INET6_ADDRSTRLEN] = "";
    text[0] = '\0';
    if (address->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)address;
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
        snprintf(text, TABLE_ADDRESS_BYTES, "%s:%u", host, ntohs(in->sin_port));
    } else if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)address;
        inet_ntop(AF_INET6, &in->sin6_addr, host, sizeof host);
        snprintf(text, TABLE_ADDRESS_BYTES, "[%s]:%u", host, ntohs(in->sin6_port));
    } else if (address->ss_family == AF_UNIX) {
        const struct sockaddr_un *path = (const struct sockaddr_un *)address;
        int bytes = (int)length - (int)offsetof(struct sockaddr_un, sun_path);
        snprintf(
            text, TABLE_ADDRESS_BYTES, "%.*s:0", bytes > 0 ? bytes : 0,
            bytes > 0 ? path->sun_path : "");
    }
}

void
table_client_addresses(
    const struct table_client *client, char peer[TABLE_ADDRESS_BYTES],
    char local[TABLE_ADDRESS_BYTES])
{
    struct sockaddr_storage address = {0};
    socklen_t length = sizeof address;
    local[0] = peer[0] = '\0';
    if (getsockname(client->stream.fd, (struct sockaddr *)&address, &length) == 0)
        write_address(&address, length, local);
    if (client->address != NULL) {
        snprintf(peer, TABLE_ADDRESS_BYTES, "%s", client->address);
        return;
    }
    length = sizeof address;
    if (address.ss_family == AF_UNIX)
        memcpy(peer, local, TABLE_ADDRESS_BYTES);
    else if (getpeername(client->stream.fd, (struct sockaddr *)&address, &length) == 0)
        write_address(&address, length, peer);
}

int
table_client_describe(const struct table_client *client, char *buf)
{
    char peer[TABLE_ADDRESS_BYTES], local[TABLE_ADDRESS_BYTES];
    table_client_addresses(client, peer, local);
    int64_t now_ms = client->worker->now_ms;
    const struct table_reply *out = &client->stream.out;
    unsigned chunks = 0;
    for (const struct table_chunk *chunk = out->head; chunk != NULL; chunk = chunk->next)
        chunks++;
    char flags[8];
    snprintf(
        flags, sizeof flags, "%s%s%s", client->multi != NULL ? "x" : "",
        client->watch_broken ? "d" : "", client->closing ? "c" : "");
    int length = snprintf(
        buf, TABLE_CLIENT_LINE_BYTES,
        "id=%" PRIu64 " addr=%s laddr=%s fd=%d name=%.128s age=%" PRId64 " idle=%" PRId64
        " flags=%s db=0 sub=0 psub=0 ssub=0 multi=%d qbuf=%zu qbuf-free=%zu argv-mem=0 "
        "multi-mem=%" PRIu64 " rbs=0 rbp=0 obl=0 oll=%u omem=%" PRIu64 " tot-mem=%" PRIu64
        " events=%s cmd=%s user=%.128s redir=-1 resp=%u lib-name=%.64s lib-ver=%.64s",
        client->id, peer, local, client->stream.fd, client->name != NULL ? client->name : "",
        (now_ms - client->created_ms) / 1000, (now_ms - client->used_ms) / 1000,
        flags[0] != '\0' ? flags : "N", client->multi != NULL ? (int)client->multi->count : -1,
        client->in_to - client->in_from, client->in_cap - client->in_to,
        client->multi != NULL ? client->multi->bytes : 0, chunks, out->waiting_bytes,
        sizeof *client + client->in_cap + (uint64_t)chunks * TABLE_CHUNK_BYTES,
        client->stream.sending ? "rw" : "r",
        client->last_command != NULL ? client->last_command->name : "NULL",
        client->tenant->name, client->stream.out.protocol,
        client->library != NULL ? client->library : "",
        client->library_version != NULL ? client->library_version : "");
    return length < TABLE_CLIENT_LINE_BYTES ? length : TABLE_CLIENT_LINE_BYTES - 1;
}
