/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmm.c - a virtual machine monitor as far as a page server sees one, written to the description of
 * Firecracker's protocol: maps a guest's memory, registers it with a userfaultfd, hands that over
 * with one message, and lets threads use the memory as a guest would. It compares every page with
 * the image, and knows what a page must hold that was written or let go.
 *
 *     vmm SOCKET IMAGE [NAME=VALUE ...]
 *
 *     regions=2      of guest memory, at addresses apart from each other
 *     memory=anon    or shared (a memory file), or memfd (one that is handed over, minor faults)
 *     page=4096      or 2097152
 *     field=new      page_size; or old (page_size_kib), or none of them
 *     threads=2      that touch pages in an order of their own
 *     balloons=0     threads that let pages go and use them again, meanwhile
 *     rounds=1       of touching
 *     seed=1
 *     pace_us=0      between two pages of a thread
 *     write=1        write to each page after it was compared, and compare that in the end
 *     keep=1         keep an own copy of the userfaultfd; 0: the server has the only ones
 *     hang_up=0      close the connection after the message
 *     thread_id=0    ask the kernel to name the faulting thread
 *     only=FIRST-END touch these pages alone
 *     wait=0         say "ready", then wait for a line on standard input, before touching
 *     await=0        before touching, wait until so many pages have come unasked, at most a minute
 *     stay=0         when all is done say "done", then wait for a line
 *
 * Prints one JSON object. Exit code 0, 1 for a wrong byte, 77 when it cannot run here.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, BLOCK_PAGES = 64, REGIONS_MAX = 64, CANNOT_RUN = 77 };

struct region {
    uint8_t *memory;
    uint64_t size_bytes, offset;
};

/* What a page must hold. */
enum holds { OF_IMAGE, ZEROS, STAMP };

static struct {
    const char *socket_path, *image_path;
    uint64_t regions, page, threads, balloons, rounds, seed, pace_us, write, keep, hang_up;
    uint64_t thread_id, wait, await, stay, first, end;
    const char *memory, *field;
} options = {
    .regions = 2,
    .page = PAGE,
    .threads = 2,
    .rounds = 1,
    .seed = 1,
    .write = 1,
    .keep = 1,
    .end = UINT64_MAX,
    .memory = "anon",
    .field = "new"};

static struct region regions[REGIONS_MAX];
static const uint8_t *image;
static uint64_t page_count;
static uint8_t *expected; /* enum holds of each page */
static atomic_uint_least64_t touched, wrong, bus_errors, removals;

static _Noreturn void die(int code, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static _Noreturn void
die(int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "vmm: ");
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
    va_end(args);
    exit(code);
}

/* ------------------------------------------------------------------ options */

static const struct {
    const char *name;
    uint64_t *value;
} numbers[] = {{"regions", &options.regions},     {"page", &options.page},
               {"threads", &options.threads},     {"balloons", &options.balloons},
               {"rounds", &options.rounds},       {"seed", &options.seed},
               {"pace_us", &options.pace_us},     {"write", &options.write},
               {"keep", &options.keep},           {"hang_up", &options.hang_up},
               {"thread_id", &options.thread_id}, {"wait", &options.wait},
               {"await", &options.await},         {"stay", &options.stay}};

static void
read_option(char *word)
{
    char *value = strchr(word, '=');
    if (value == NULL)
        die(2, "%s: want NAME=VALUE", word);
    *value++ = '\0';
    if (strcmp(word, "memory") == 0)
        options.memory = value;
    else if (strcmp(word, "field") == 0)
        options.field = value;
    else if (strcmp(word, "only") == 0)
        options.first = strtoull(value, &value, 10),
        options.end = strtoull(value + 1, NULL, 10);
    else
        for (size_t i = 0;; i++) {
            if (i == sizeof numbers / sizeof *numbers)
                die(2, "no option %s", word);
            if (strcmp(word, numbers[i].name) == 0) {
                *numbers[i].value = strtoull(value, NULL, 10);
                break;
            }
        }
}

/* ------------------------------------------------------------------ memory */

static void
map_image(void)
{
    struct stat info;
    int fd = open(options.image_path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) != 0 || info.st_size % PAGE != 0)
        die(2, "%s: no image", options.image_path);
    void *memory = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (memory == MAP_FAILED)
        die(2, "%s: %s", options.image_path, strerror(errno));
    image = memory;
    page_count = (uint64_t)info.st_size / PAGE;
    if (options.end > page_count)
        options.end = page_count;
    expected = calloc(page_count, 1);
    close(fd);
}

/* A place for SIZE_BYTES at a multiple of the page size, with nothing mapped beside it. */
static uint8_t *
find_place(uint64_t size_bytes)
{
    uint64_t room = size_bytes + 2 * options.page + 2 * PAGE;
    uint8_t *place =
        mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (place == MAP_FAILED)
        die(2, "mmap: %s", strerror(errno));
    uintptr_t start =
        ((uintptr_t)place + PAGE + options.page - 1) / options.page * options.page;
    return place + (start - (uintptr_t)place);
}

/* Guest memory, in one file when it is shared; that file, or -1. */
static int
map_guest(void)
{
    bool is_shared = strcmp(options.memory, "anon") != 0;
    bool is_huge = options.page != PAGE;
    unsigned huge_file = MFD_HUGETLB | 21u << MAP_HUGE_SHIFT;
    uint64_t units = page_count * PAGE / options.page;
    uint64_t offset = 0;
    int fd = is_shared ? memfd_create("guest", MFD_CLOEXEC | (is_huge ? huge_file : 0)) : -1;
    if (is_shared && (fd < 0 || ftruncate(fd, (off_t)(page_count * PAGE)) != 0))
        die(CANNOT_RUN, "memory file: %s", strerror(errno));
    if (units * options.page != page_count * PAGE || options.regions > units ||
        options.regions > REGIONS_MAX)
        die(2, "the image cannot be cut so");
    for (uint64_t i = 0; i < options.regions; i++) {
        struct region *region = &regions[i];
        uint64_t count = units / options.regions + (i < units % options.regions);
        int flags = is_shared ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
        if (is_huge && !is_shared)
            flags |= MAP_HUGETLB | 21 << MAP_HUGE_SHIFT;
        region->size_bytes = count * options.page;
        region->offset = offset;
        region->memory = mmap(
            find_place(region->size_bytes), region->size_bytes, PROT_READ | PROT_WRITE,
            flags | MAP_FIXED, fd, (off_t)(is_shared ? offset : 0));
        if (region->memory == MAP_FAILED)
            die(CANNOT_RUN, "guest memory: %s", strerror(errno));
        offset += region->size_bytes;
    }
    return fd;
}

static uint8_t *
memory_of(uint64_t page)
{
    for (uint64_t i = 0; i < options.regions; i++)
        if (page * PAGE - regions[i].offset < regions[i].size_bytes)
            return regions[i].memory + (page * PAGE - regions[i].offset);
    die(2, "no page %llu", (unsigned long long)page);
}

/* ------------------------------------------------------------------ handing over */

static int
make_uffd(void)
{
    int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    if (uffd < 0) {
        int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
        uffd = device < 0 ? -1 : ioctl(device, _IO(0xAA, 0x00), O_CLOEXEC | O_NONBLOCK);
    }
    if (uffd < 0)
        die(CANNOT_RUN, "userfaultfd: %s", strerror(errno));
    bool is_minor = strcmp(options.memory, "memfd") == 0;
    struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_EVENT_REMOVE};
    if (options.page != PAGE)
        api.features |= UFFD_FEATURE_MISSING_HUGETLBFS;
    else if (is_minor)
        api.features |= UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_MISSING_SHMEM;
    if (options.thread_id)
        api.features |= UFFD_FEATURE_THREAD_ID;
    if (ioctl(uffd, UFFDIO_API, &api) != 0)
        die(CANNOT_RUN, "userfaultfd features: %s", strerror(errno));
    for (uint64_t i = 0; i < options.regions; i++) {
        struct uffdio_register area = {
            .range = {(uintptr_t)regions[i].memory, regions[i].size_bytes},
            .mode = UFFDIO_REGISTER_MODE_MISSING};
        if (is_minor && options.page == PAGE)
            area.mode |= UFFDIO_REGISTER_MODE_MINOR;
        if (ioctl(uffd, UFFDIO_REGISTER, &area) != 0)
            die(CANNOT_RUN, "userfaultfd registration: %s", strerror(errno));
    }
    return uffd;
}

static size_t
write_mappings(char *text, size_t text_bytes)
{
    size_t size = 0;
    for (uint64_t i = 0; i < options.regions; i++) {
        size += (size_t)snprintf(
            text + size, text_bytes - size,
            "%s{\"base_host_virt_addr\":%llu,\"size\":%llu,\"offset\":%llu", i == 0 ? "[" : ",",
            (unsigned long long)(uintptr_t)regions[i].memory,
            (unsigned long long)regions[i].size_bytes, (unsigned long long)regions[i].offset);
        if (strcmp(options.field, "new") == 0)
            size += (size_t)snprintf(
                text + size, text_bytes - size, ",\"page_size\":%llu",
                (unsigned long long)options.page);
        if (strcmp(options.field, "none") != 0)
            size += (size_t)snprintf(
                text + size, text_bytes - size, ",\"page_size_kib\":%llu",
                (unsigned long long)options.page);
        size += (size_t)snprintf(text + size, text_bytes - size, "}");
    }
    return size + (size_t)snprintf(text + size, text_bytes - size, "]");
}

static int
connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        die(2, "%s: %s", path, strerror(errno));
    return fd;
}

static void
hand_over(int fd, int uffd, int memory)
{
    static char text[64 << 10];
    char control[CMSG_SPACE(2 * sizeof(int))] __attribute__((aligned(8))) = {0};
    int fds[2] = {uffd, memory};
    size_t count = memory >= 0 ? 2 : 1;
    struct iovec bytes = {text, write_mappings(text, sizeof text)};
    struct msghdr message = {
        .msg_iov = &bytes,
        .msg_iovlen = 1,
        .msg_control = control,
        .msg_controllen = CMSG_SPACE(count * sizeof(int))};
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(rights), fds, count * sizeof(int));
    if (sendmsg(fd, &message, 0) != (ssize_t)bytes.iov_len)
        die(2, "sendmsg: %s", strerror(errno));
}

/* ------------------------------------------------------------------ the guest */

static __thread sigjmp_buf on_bus_error;

static void
catch_bus_error(int number)
{
    (void)number;
    siglongjmp(on_bus_error, 1);
}

static uint64_t
next_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static void
make_stamp(uint64_t page, uint8_t *bytes)
{
    uint64_t state = page * 2 + options.seed;
    for (size_t i = 0; i < PAGE; i += 8) {
        uint64_t word = next_random(&state);
        memcpy(bytes + i, &word, 8);
    }
}

static void
compare(uint64_t page)
{
    static const char *const names[] = {"the image's", "zeros", "what was written"};
    uint8_t stamp[PAGE];
    const uint8_t *want = image + page * PAGE;
    if (expected[page] == ZEROS)
        memset(stamp, 0, PAGE);
    else if (expected[page] == STAMP)
        make_stamp(page, stamp);
    if (expected[page] != OF_IMAGE)
        want = stamp;
    atomic_fetch_add(&touched, 1);
    if (memcmp(memory_of(page), want, PAGE) == 0)
        return;
    if (atomic_fetch_add(&wrong, 1) < 10)
        fprintf(
            stderr, "vmm: page %llu is wrong, it should hold %s\n", (unsigned long long)page,
            names[expected[page]]);
}

/* False when the page cannot be had. */
static bool
use(uint64_t page, bool write)
{
    if (sigsetjmp(on_bus_error, 1) != 0) {
        atomic_fetch_add(&bus_errors, 1);
        return false;
    }
    compare(page);
    if (write) {
        make_stamp(page, memory_of(page));
        expected[page] = STAMP;
    }
    if (options.pace_us > 0)
        usleep((useconds_t)options.pace_us);
    return true;
}

static uint64_t
block_pages(void)
{
    uint64_t unit = options.page / PAGE;
    return unit > BLOCK_PAGES ? unit : BLOCK_PAGES;
}

/* Every fourth block of pages is the balloons'. */
static bool
is_for_balloons(uint64_t page)
{
    return options.balloons > 0 && page / block_pages() % 4 == 3;
}

/* Touches the pages that are its own, in a random order. */
static void *
touch(void *context)
{
    uint64_t self = (uint64_t)(uintptr_t)context;
    uint64_t state = options.seed * 1000 + self;
    uint64_t count = 0;
    uint32_t *pages = malloc(page_count * sizeof *pages);
    for (uint64_t page = options.first; page < options.end; page++)
        if (page / 3 % options.threads == self && !is_for_balloons(page))
            pages[count++] = (uint32_t)page;
    for (uint64_t round = 0; round < options.rounds; round++) {
        for (uint64_t i = count; i > 1; i--) {
            uint64_t other = next_random(&state) % i;
            uint32_t page = pages[i - 1];
            pages[i - 1] = pages[other];
            pages[other] = page;
        }
        for (uint64_t i = 0; i < count; i++)
            (void)use(pages[i], options.write && next_random(&state) % 2 == 0);
    }
    free(pages);
    return NULL;
}

/* Let COUNT pages of the guest go. */
static void
let_go(uint64_t page, uint64_t count)
{
    bool is_shared = strcmp(options.memory, "anon") != 0;
    if (madvise(memory_of(page), count * PAGE, is_shared ? MADV_REMOVE : MADV_DONTNEED) != 0)
        die(2, "madvise: %s", strerror(errno));
    memset(expected + page, ZEROS, count);
    atomic_fetch_add(&removals, 1);
}

/* Uses its blocks in part and lets ranges of them go, which must then be zeros. */
static void *
inflate(void *context)
{
    uint64_t self = (uint64_t)(uintptr_t)context;
    uint64_t state = options.seed * 2000 + self;
    uint64_t unit = options.page / PAGE;
    uint64_t pages = block_pages();
    for (uint64_t block = 3; (block + 1) * pages <= page_count; block += 4) {
        uint64_t page = block * pages;
        const struct region *last = &regions[options.regions - 1];
        if (block / 4 % options.balloons != self ||
            memory_of(page) + (pages - 1) * PAGE != memory_of(page + pages - 1) ||
            (page + pages) * PAGE > last->offset + last->size_bytes)
            continue;
        for (unsigned turn = 0; turn < 4; turn++) {
            for (unsigned i = 0; i < 8; i++)
                (void)use(page + next_random(&state) % pages, i % 3 == 0);
            uint64_t at = next_random(&state) % (pages / unit) * unit;
            uint64_t count = unit + next_random(&state) % (pages - at) / unit * unit;
            count = at + count > pages ? pages - at : count;
            let_go(page + at, count);
            for (unsigned i = 0; i < 4; i++)
                (void)use(page + at + next_random(&state) % count, i % 2 == 0);
        }
        for (uint64_t i = 0; i < pages; i++)
            (void)use(page + i, false);
    }
    return NULL;
}

static void
wait_for_line(const char *word)
{
    char line[64];
    printf("%s\n", word);
    fflush(stdout);
    if (fgets(line, sizeof line, stdin) == NULL)
        die(2, "nobody says go on");
}

/* Guest pages that are there. */
static uint64_t
count_present(void)
{
    uint64_t count = 0;
    for (uint64_t i = 0; i < options.regions; i++) {
        uint64_t pages = regions[i].size_bytes / PAGE;
        unsigned char *present = calloc(pages, 1);
        if (mincore(regions[i].memory, regions[i].size_bytes, present) != 0)
            die(2, "mincore: %s", strerror(errno));
        for (uint64_t page = 0; page < pages; page++)
            count += present[page] & 1;
        free(present);
    }
    return count;
}

static void
await_pages(void)
{
    for (unsigned turn = 0; turn < 6000 && count_present() < options.await; turn++)
        usleep(10000);
}

static double
run_guest(void)
{
    struct timespec begin, end;
    pthread_t threads[256];
    uint64_t count = 0;
    if (options.threads + options.balloons > 256)
        die(2, "too many threads");
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (uint64_t i = 0; i < options.threads; i++)
        pthread_create(&threads[count++], NULL, touch, (void *)(uintptr_t)i);
    for (uint64_t i = 0; i < options.balloons; i++)
        pthread_create(&threads[count++], NULL, inflate, (void *)(uintptr_t)i);
    for (uint64_t i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    clock_gettime(CLOCK_MONOTONIC, &end);
    return (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9;
}

int
main(int argc, char **argv)
{
    if (argc < 3)
        die(2, "usage: vmm SOCKET IMAGE [NAME=VALUE ...]");
    options.socket_path = argv[1];
    options.image_path = argv[2];
    for (int i = 3; i < argc; i++)
        read_option(argv[i]);
    signal(SIGBUS, catch_bus_error);
    map_image();
    int memory = map_guest();
    int uffd = make_uffd();
    int fd = connect_to(options.socket_path);
    hand_over(fd, uffd, strcmp(options.memory, "memfd") == 0 ? memory : -1);
    if (!options.keep)
        close(uffd);
    if (options.hang_up)
        close(fd);
    if (options.wait)
        wait_for_line("ready");
    await_pages();
    double seconds = run_guest();
    /* Once more, quietly: what was given first must not have changed since. */
    for (uint64_t page = options.first; page < options.end; page++)
        (void)use(page, false);
    if (options.stay)
        wait_for_line("done");
    printf(
        "{\"pages\": %llu, \"touched\": %llu, \"wrong\": %llu, \"bus_errors\": %llu, "
        "\"removals\": %llu, "
        "\"seconds\": %.4f}\n",
        (unsigned long long)page_count, (unsigned long long)touched, (unsigned long long)wrong,
        (unsigned long long)bus_errors, (unsigned long long)removals, seconds);
    return wrong == 0 ? 0 : 1;
}
