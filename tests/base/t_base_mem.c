/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_base_mem.c - allocators, scope guards and the growing buffer, each with every allocation
 * failing.
 */
#include "base/err.h"
#include "base/fault.h"
#include "base/mem.h"
#include "base/size.h"
#include "tap.h"

#include <fcntl.h>

static void
test_allocators(void)
{
    AUTO_FREE char *plain = base_alloc(0);
    ok(plain != NULL, "zero bytes are a pointer, not a failure");
    AUTO_FREE unsigned char *zeroed = base_zalloc(100);
    ok(zeroed != NULL && zeroed[0] == 0 && zeroed[99] == 0, "zeroed memory is zero");
    AUTO_FREE uint32_t *array = base_array(10, sizeof *array);
    ok(array != NULL && array[9] == 0, "arrays are zero");
    array[9] = 7;
    uint32_t *longer = base_realloc_array(array, 1000, sizeof *array);
    ok(longer != NULL && longer[9] == 7, "growing keeps the elements");
    array = longer;
    AUTO_FREE uint8_t *pages = base_alloc_pages(3);
    ok(pages != NULL && (uintptr_t)pages % DOR_PAGE_BYTES == 0, "pages are aligned");
    pages[3 * DOR_PAGE_BYTES - 1] = 1;
    AUTO_FREE uint8_t *large = base_alloc_huge((size_t)5 << 20);
    ok(large != NULL && (uintptr_t)large % (2 << 20) == 0, "work space lies for huge pages");
    large[((size_t)5 << 20) - 1] = 1;
    AUTO_FREE uint8_t *small = base_alloc_huge(1);
    ok(small != NULL, "and may be small");
    base_free(NULL);
}

static void
test_overflow(void)
{
    /* Volatile, or the compiler sees the mistake this test is about. */
    volatile size_t huge = SIZE_MAX / 2;
    AUTO_FREE void *array = base_array(huge, 3);
    ok(array == NULL, "an array too large for size_t fails");
    is_int(base_err_record()->code, DOR_E_NO_MEMORY, "with the right error");
    base_err_clear();
    AUTO_FREE void *grown = base_realloc_array(NULL, huge, 3);
    ok(grown == NULL && base_err_record()->code == DOR_E_NO_MEMORY, "resizing too");
    AUTO_FREE void *pages = base_alloc_pages(huge);
    ok(pages == NULL, "pages too");
    AUTO_FREE void *most = base_alloc_huge(huge + huge + 1);
    ok(most == NULL, "and work space");
}

static void
test_failures(void)
{
    void *kept = base_alloc(8);
    base_fault_arm(FAULT_ALLOC, 1, 0);
    base_free(base_alloc(1));
    ok(base_fault_fired(), "base_alloc passes the hook");
    is_int(base_err_record()->code, DOR_E_NO_MEMORY, "and records the error");
    base_fault_arm(FAULT_ALLOC, 1, 0);
    base_free(base_zalloc(1));
    ok(base_fault_fired(), "base_zalloc passes the hook");
    base_fault_arm(FAULT_ALLOC, 1, 0);
    base_free(base_array(1, 1));
    ok(base_fault_fired(), "base_array passes the hook");
    base_fault_arm(FAULT_ALLOC, 1, 0);
    ok(base_realloc_array(kept, 100, 8) == NULL, "base_realloc_array passes the hook");
    base_fault_arm(FAULT_ALLOC, 1, 0);
    base_free(base_alloc_pages(1));
    ok(base_fault_fired(), "base_alloc_pages passes the hook");
    base_fault_arm(FAULT_ALLOC, 1, 0);
    base_free(base_alloc_huge((size_t)3 << 20));
    ok(base_fault_fired(), "base_alloc_huge passes the hook");
    base_fault_arm(FAULT_NONE, 0, 0);
    base_free(kept);
}

/* Appends the numbers 0 ... 999 and checks them; the buffer stays whole when an append fails.
 * */
static int
fill(struct base_buf *buf)
{
    for (uint32_t i = 0; i < 1000; i++) {
        size_t before = buf->size_bytes;
        int rc = base_buf_append(buf, &i, sizeof i);
        if (rc != 0)
            return before == buf->size_bytes ? rc : DOR_E_CORRUPT;
    }
    return 0;
}

static void
test_buf(void)
{
    uint64_t nth = 0;
    int rc;
    do {
        AUTO_BUF struct base_buf buf = {0};
        base_fault_arm(FAULT_ALLOC, ++nth, 0);
        rc = fill(&buf);
        base_fault_arm(FAULT_NONE, 0, 0);
        is_int(rc, base_fault_fired() ? DOR_E_NO_MEMORY : 0, "allocation %d fails", (int)nth);
        uint32_t last = 0;
        if (rc == 0)
            memcpy(&last, buf.data + buf.size_bytes - sizeof last, sizeof last);
        ok(rc != 0 || (last == 999 && buf.size_bytes == 4000), "or the bytes are there");
    } while (base_fault_fired());
    ok(nth > 3 && nth < 10, "doubling: few allocations for 4000 bytes");
    struct base_buf buf = {0};
    is_ok(base_buf_append(&buf, NULL, 0), "appending nothing");
    is_int(base_buf_append(&buf, "x", 1), 0, "appending a byte");
    is_int(base_buf_reserve(&buf, SIZE_MAX), DOR_E_NO_MEMORY, "more than the address space");
    base_buf_free(&buf);
    ok(buf.data == NULL && buf.size_bytes == 0 && buf.cap_bytes == 0,
       "freeing leaves an empty one");
}

static int *
make_taken(void)
{
    AUTO_FREE int *p = base_alloc(sizeof *p);
    if (p != NULL)
        *p = 5;
    return TAKE(p);
}

static void
test_guards(void)
{
    int *taken = make_taken();
    ok(taken != NULL && *taken == 5, "TAKE moves a pointer out of its guard");
    base_free(taken);
    int number;
    {
        AUTO_CLOSE int fd = open("/dev/null", O_RDONLY);
        AUTO_CLOSE int none = -1;
        number = fd;
        ok(fd >= 0 && none == -1, "a guarded descriptor");
    }
    is_int(fcntl(number, F_GETFD), -1, "is closed at the end of its scope");
    {
        AUTO_CLOSE int fd = open("/dev/null", O_RDONLY);
        number = base_take_fd(&fd);
    }
    ok(fcntl(number, F_GETFD) >= 0, "a taken one is not");
    close(number);
}

int
main(void)
{
    test_allocators();
    test_overflow();
    test_failures();
    test_buf();
    test_guards();
    return done_testing();
}
