/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tables.h - a guest's page tables: from a virtual address to bytes, and all that is mapped.
 * Tables are the guest's own and may say anything. Each step takes from one account of work, so
 * that cycles and trees without end stop; then every read fails and `exhausted` is set.
 *
 * Ownership:  the tables borrow the memory; they hold nothing to be freed.
 * Threads:    one struct, one thread: look-ups are remembered in it.
 * Errors:     none; what cannot be read is false and nothing is written.
 */
#ifndef DOR_GUEST_TABLES_H
#define DOR_GUEST_TABLES_H

#include "guest/memory.h"

enum { GUEST_WALKS_KEPT = 1024 };

/* What maps an address: a page of 4 KiB, 2 MiB or 1 GiB. */
struct guest_leaf {
    uint64_t address; /* physical; of the byte that was asked for, or of the page's first */
    unsigned shift;   /* 12, 21 or 30 */
    bool writable, no_execute, user;
};

struct guest_tables {
    const struct guest_memory *memory;
    uint64_t top;       /* physical address of the kernel's top-level table */
    unsigned levels;    /* 4 or 5 */
    uint64_t addresses; /* the bits of an entry that are an address */
    uint64_t work_left;
    bool exhausted;
    struct {
        uint64_t page, address; /* page + 1, so that zeros mean nothing */
    } kept[GUEST_WALKS_KEPT];
};

/* Encrypting kernels mark entries with a bit, ENCRYPTION_MASK, that is no part of the address. */
void guest_tables_init(
    struct guest_tables *tables, const struct guest_memory *memory, uint64_t top,
    bool five_levels, uint64_t encryption_mask);

/* Take AMOUNT of work; false when there is none left. */
bool guest_tables_work(struct guest_tables *tables, uint64_t amount);

/* What the tables at the physical address TOP say about the virtual ADDRESS. */
bool guest_tables_walk(
    struct guest_tables *tables, uint64_t top, uint64_t address, struct guest_leaf *ret);

/* The physical address of the kernel's virtual ADDRESS. */
bool guest_tables_address(struct guest_tables *tables, uint64_t address, uint64_t *ret);

/* The bytes at a kernel's virtual ADDRESS, NULL where they are not in one page. */
const uint8_t *
guest_tables_at(struct guest_tables *tables, uint64_t address, size_t size_bytes);

/* Copy bytes from the kernel's virtual ADDRESS. */
bool guest_read(struct guest_tables *tables, uint64_t address, void *buf, size_t size_bytes);
bool guest_read_u32(struct guest_tables *tables, uint64_t address, uint32_t *ret);
bool guest_read_u64(struct guest_tables *tables, uint64_t address, uint64_t *ret);

/* A name: up to SIZE_BYTES - 1 bytes before a NUL, control and other bytes as '?'. */
bool
guest_read_name(struct guest_tables *tables, uint64_t address, char *buf, size_t size_bytes);

struct guest_visit {
    /* Each leaf, in the order of addresses; false ends the visit. */
    bool (*leaf)(void *context, uint64_t address, const struct guest_leaf *leaf);
    /* Each page that holds a table; may be NULL. */
    void (*table)(void *context, uint64_t pfn);
    void *context;
    uint64_t first, end; /* virtual addresses; end 0 is the end of all */
    bool user;           /* only what user space may touch */
};

/* All leaves below the table at TOP. False when it was cut for want of work or by leaf(). */
bool
guest_tables_visit(struct guest_tables *tables, uint64_t top, const struct guest_visit *visit);

#endif
