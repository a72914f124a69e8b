/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop.c - what both loops do alike: listeners and watched descriptors, and turning somebody away
 * when there are no more descriptors.
 */
#include "table/loop.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"

struct table_source *
table_source_add(struct table_source **list, int fd, table_loop_watch_fn *fn, void *context)
{
    struct table_source *source = base_zalloc(sizeof *source);
    if (source == NULL)
        return NULL;
    *source = (struct table_source){.next = *list, .fd = fd, .fn = fn, .context = context};
    *list = source;
    return source;
}

void
table_source_drop(struct table_source **list, struct table_source *source)
{
    while (*list != source)
        list = &(*list)->next;
    *list = source->next;
    base_free(source);
}

void
table_sources_close(struct table_source **list)
{
    while (*list != NULL) {
        if ((*list)->fn == NULL)
            close((*list)->fd);
        table_source_drop(list, *list);
    }
}

void
table_source_turn_away(const struct table_source *listener, int *spare, int original)
{
    int flags = fcntl(listener->fd, F_GETFL);
    close(*spare);
    /* Who waited may have gone: nothing here may wait for the next one. */
    if (flags >= 0 && fcntl(listener->fd, F_SETFL, flags | O_NONBLOCK) == 0) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            close(fd);
        (void)!fcntl(listener->fd, F_SETFL, flags);
    }
    *spare = dup(original);
}
