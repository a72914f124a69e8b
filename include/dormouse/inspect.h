/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inspect.h - which page is what: introspection of a Linux guest's memory from the outside.
 *
 * From the bytes of its memory alone it finds the guest's kernel, and from the kernel's own tables
 * the class of every page, the processes, their mappings and files. What it finds is advice about
 * bytes that it never changes. A guest may lie: every pointer, loop and size is bounded, and what
 * could not be found out is said to be unknown.
 *
 * Ownership:  the result belongs to the caller and is freed by dor_inspection_free(); its arrays
 *             and strings belong to it.
 * Threads:    any; one call uses one thread.
 * Errors:     0 or a negative enum dor_errno; a guest that cannot be understood is no error but a
 *             lower tier.
 */
#ifndef DORMOUSE_INSPECT_H
#define DORMOUSE_INSPECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dormouse/err.h>
#include <dormouse/image.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a page is to the guest's kernel. The numbers are kept in snapshots: never renumber. */
enum dor_page_class {
    DOR_CLASS_UNKNOWN = 0,
    DOR_CLASS_ZERO = 1,        /* all bytes zero and nothing better known about it */
    DOR_CLASS_FREE = 2,        /* on the allocator's free lists */
    DOR_CLASS_KERNEL_TEXT = 3, /* text and read-only data of the kernel image */
    DOR_CLASS_KERNEL_DATA =
        4, /* data, bss, page array, vmalloc, stacks, anything in use unnamed */
    DOR_CLASS_SLAB = 5,
    DOR_CLASS_PAGE_TABLE = 6,
    DOR_CLASS_FILE_CLEAN = 7,
    DOR_CLASS_FILE_DIRTY = 8,
    DOR_CLASS_ANON = 9,
    DOR_CLASS_SHMEM = 10,
    DOR_CLASS_RESERVED = 11, /* firmware, holes of the memory map, boot-time allocations */
    DOR_CLASSES = 12
};

/* "file_clean" and so on; NULL for other numbers. */
DOR_PUBLIC const char *dor_page_class_name(enum dor_page_class page_class);

/* How the classes were found. */
enum dor_inspect_tier {
    DOR_TIER_CONTENT = 0, /* no kernel found: zero pages, the rest unknown */
    DOR_TIER_NOTE = 1,    /* VMCOREINFO: classes and page tables, no tasks or files */
    DOR_TIER_FULL = 2     /* with BTF or a profile: tasks, mappings, files */
};

/* "content", "note", "full"; NULL for other numbers. */
DOR_PUBLIC const char *dor_inspect_tier_name(enum dor_inspect_tier tier);

/* PARS: what losing the page would cost the guest; decides the number of copies. */
enum dor_importance {
    DOR_IMPORTANCE_NONE = 0, /* zero, free: nothing is lost */
    DOR_IMPORTANCE_LOW = 1,  /* can be read again: clean file pages */
    DOR_IMPORTANCE_NORMAL =
        2, /* one process suffers: anonymous and shared memory, dirty files */
    DOR_IMPORTANCE_CRITICAL = 3, /* the guest dies: kernel data, slab, page tables, unknown */
    DOR_IMPORTANCES = 4
};

/* "none", "low", "normal", "critical"; NULL for other numbers. */
DOR_PUBLIC const char *dor_importance_name(enum dor_importance importance);

struct dor_inspect_process {
    uint32_t pid;
    char name[16]; /* the kernel's comm; control characters as '?' */
    uint64_t resident_pages, file_pages, anon_pages;
    uint32_t mapping_count;
    bool runtime; /* the one whose mappings give the region types */
};

struct dor_inspect_mapping {
    uint32_t process;           /* index */
    uint32_t file;              /* index, or UINT32_MAX */
    uint64_t start, end, flags; /* virtual addresses; the kernel's vm_flags */
};

struct dor_inspect_file {
    char name[256]; /* last part of its path, control characters as '?' */
    char file_system[16];
    uint64_t inode;
    uint64_t resident_pages;
};

struct dor_inspect_page {
    uint8_t page_class;  /* enum dor_page_class */
    uint8_t region_type; /* enum dor_region_type of store.h */
    uint8_t importance;  /* enum dor_importance */
    uint32_t process;    /* index of one process that maps it, or UINT32_MAX */
    uint32_t file;       /* index, or UINT32_MAX */
    uint64_t file_page;  /* page of that file; only for a file */
};

struct dor_inspection {
    enum dor_inspect_tier tier;
    bool partial; /* something was cut, looped or lay outside: the words are in `remark` */
    bool
        free_is_sure; /* full tier and the free lists are consistent: free pages may be dropped */
    uint32_t confidence_percent;
    char remark[256]; /* why the tier is not higher, or what is partial; "" when nothing is */
    char kernel[128]; /* OSRELEASE */
    char build_id[64];
    uint64_t page_count;
    const struct dor_inspect_page *pages; /* one per page of the image's row */
    /* Where those pages lie: as the image says, or, where it does not, as the guest shows. */
    const struct dor_image_range *ranges;
    size_t range_count;
    const struct dor_inspect_process *processes;
    size_t process_count;
    const struct dor_inspect_mapping *mappings;
    size_t mapping_count;
    const struct dor_inspect_file *files;
    size_t file_count;
};

struct dor_inspect {
    /* Name or pid of the runtime process; NULL, and below the full tier always, the largest. */
    const char *process;
    const char
        *profile_directory; /* cache of profiles by build id, read and added to; NULL = none */
    const char *vmlinux;    /* the guest's uncompressed kernel, to make a profile of; NULL */
};

/* Look at IMAGE. DOR_E_NOT_FOUND: tasks are known and none fits `process`. */
DOR_PUBLIC DOR_MUST_CHECK int dor_inspect(
    const struct dor_image *image, const struct dor_inspect *inspect,
    struct dor_inspection **ret);

/* Memory that is in no one file, such as a snapshot with diffs applied to it. */
struct dor_inspect_pages {
    const struct dor_image *image; /* says where the pages lie; its bytes are not looked at */
    /*
     * As many pages as IMAGE has. They are read a few at a time, only where the inspection leads to
     * them; outside data they are zeros. An error of the source ends the inspection with it.
     */
    const struct dor_page_source *source;
    /* May be NULL. Where the page lies in memory already (with the source's context), or NULL. */
    const uint8_t *(*find)(void *context, uint64_t page_index);
    /*
     * NULL, or for each page a class that is not DOR_CLASS_UNKNOWN when the page has had this
     * class, still has the bytes of then, and they are not all zero: it need not be read to be
     * counted.
     */
    const uint8_t *known;
};

/* As dor_inspect(); the ranges of the result have no data. */
DOR_PUBLIC DOR_MUST_CHECK int dor_inspect_pages(
    const struct dor_inspect_pages *pages, const struct dor_inspect *inspect,
    struct dor_inspection **ret);
DOR_PUBLIC void dor_inspection_free(struct dor_inspection *inspection);

#ifdef __cplusplus
}
#endif
#endif
