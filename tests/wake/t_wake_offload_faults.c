/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_wake_offload_faults.c - a machine is taken from a monitor and given back while any allocation
 * or file call fails. A monitor is told that all is well only when it is, and no machine goes on
 * with memory that is not its own. The monitors are processes without anything of dormouse.
 */
#include <dormouse/offload.h>
#include <dormouse/transfer.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "wake/faults.h"

enum {
    PAGES = 64,
    PAGE_BYTES = 4096,
    HEADER_BYTES = 16,
    START = 1,
    CONFIG = 2,
    STATE = 3,
    MEMORY_FD = 7,
    COMPLETE_PAUSED = 8,
    PAGE_FAULT = 9,
    OK_STATUS = 1,
    SECONDS_MAX = 110,
    WAIT_MS = 30000,
};

/* How a monitor ends. */
enum { MONITOR_WELL = 0, MONITOR_REFUSED = 10, MONITOR_WRONG = 11 };

#define MEMORY                                                                                 \
    "{\"memory_ranges\":{\"data\":[{\"gpa\":0,\"length\":262144}]},"                           \
    "\"guest_ram_mappings\":[{\"slot\":0,\"gpa\":0,\"size\":262144,\"zone_id\":\"mem0\","      \
    "\"virtio_mem\":false,\"file_offset\":0}]}"
#define MEMORY_AS_TEXT                                                                         \
    "{\\\"memory_ranges\\\":{\\\"data\\\":[{\\\"gpa\\\":0,\\\"length\\\":262144}]}}"

static const char config[] =
    "{\"vm_config\":{},\"common_cpuid\":[],\"memory_manager_data\":" MEMORY "}";
static const char state[] = "{\"snapshots\":{\"memory-manager\":{\"snapshots\":{},"
                            "\"snapshot_data\":{\"state\":\"" MEMORY_AS_TEXT "\"}}}}";

static char socket_path[300];
static char store_path[300];
static int machine_fd; /* its memory */

/* Every third page is zero. */
static uint8_t
byte_of(unsigned page)
{
    return page % 3 == 0 ? 0 : (uint8_t)(page * 5 + 1);
}

static bool
page_is(int fd, unsigned page)
{
    uint8_t bytes[PAGE_BYTES];
    bool same = pread(fd, bytes, sizeof bytes, (off_t)page * PAGE_BYTES) == PAGE_BYTES;
    return same && bytes[0] == byte_of(page) && memcmp(bytes, bytes + 1, PAGE_BYTES - 1) == 0;
}

static void
make_memory(void)
{
    uint8_t bytes[PAGE_BYTES];
    machine_fd = memfd_create("machine", MFD_CLOEXEC);
    if (machine_fd < 0 || ftruncate(machine_fd, (off_t)PAGES * PAGE_BYTES) != 0)
        bail("no memory file");
    for (unsigned page = 0; page < PAGES; page++) {
        memset(bytes, byte_of(page), sizeof bytes);
        if (byte_of(page) != 0 &&
            pwrite(machine_fd, bytes, sizeof bytes, (off_t)page * PAGE_BYTES) != PAGE_BYTES)
            bail("no memory");
    }
}

/* ------------------------------------------------------------------ what monitors say */

static struct sockaddr_un
address(void)
{
    struct sockaddr_un made = {.sun_family = AF_UNIX};
    snprintf(made.sun_path, sizeof made.sun_path, "%.100s", socket_path);
    return made;
}

/* Ends the monitor when the other side has hung up. */
static void
send_bytes(int fd, const void *data, size_t size_bytes)
{
    if (send(fd, data, size_bytes, MSG_NOSIGNAL) != (ssize_t)size_bytes)
        _exit(MONITOR_REFUSED);
}

static void
receive_bytes(int fd, void *data, size_t size_bytes)
{
    if (recv(fd, data, size_bytes, MSG_WAITALL) != (ssize_t)size_bytes)
        _exit(MONITOR_REFUSED);
}

static void
send_header(int fd, uint16_t what, uint64_t length)
{
    uint8_t header[HEADER_BYTES] = {0};
    memcpy(header, &what, sizeof what);
    memcpy(header + 8, &length, sizeof length);
    send_bytes(fd, header, sizeof header);
}

/* What is asked for, or the status of an answer; *RET_LENGTH of what follows. */
static uint16_t
receive_header(int fd, uint64_t *ret_length)
{
    uint8_t header[HEADER_BYTES];
    uint16_t what;
    receive_bytes(fd, header, sizeof header);
    memcpy(&what, header, sizeof what);
    memcpy(ret_length, header + 8, sizeof *ret_length);
    return what;
}

static bool
is_answered_well(int fd)
{
    uint64_t length = 0;
    return receive_header(fd, &length) == OK_STATUS;
}

/* DATA, whose last byte brings descriptor *PASSED along; or receives both. */
static void
pass(int fd, void *data, size_t size_bytes, int *passed, bool sends)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec piece = {data, size_bytes};
    struct msghdr message = {
        .msg_iov = &piece,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof control.bytes};
    control.align.cmsg_level = SOL_SOCKET;
    control.align.cmsg_type = SCM_RIGHTS;
    control.align.cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(&control.align), passed, sizeof *passed);
    ssize_t done =
        sends ? sendmsg(fd, &message, MSG_NOSIGNAL) : recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    if (done != (ssize_t)size_bytes)
        _exit(MONITOR_REFUSED);
    memcpy(passed, CMSG_DATA(&control.align), sizeof *passed);
}

static pid_t
start(void (*monitor)(const void *context), const void *context)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid < 0)
        bail("no process");
    if (pid == 0) {
        alarm(SECONDS_MAX);
        monitor(context);
        _exit(MONITOR_WELL);
    }
    return pid;
}

static int
end_of(pid_t pid)
{
    int status = 0;
    if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
        return MONITOR_WRONG;
    return WEXITSTATUS(status);
}

/* ------------------------------------------------------------------ taking */

static void
say(int fd, uint16_t command, const char *text)
{
    size_t size_bytes = text == NULL ? 0 : strlen(text);
    send_header(fd, command, size_bytes);
    if (size_bytes > 0)
        send_bytes(fd, text, size_bytes);
    if (!is_answered_well(fd))
        _exit(MONITOR_REFUSED);
}

/* send-migration. It comes again until somebody listens, or until nobody will any more. */
static void
be_sender(const void *context)
{
    struct sockaddr_un to = address();
    uint32_t slot = 0;
    const atomic_bool *given_up = context;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    while (connect(fd, (struct sockaddr *)&to, sizeof to) != 0) {
        if (atomic_load(given_up))
            _exit(MONITOR_REFUSED);
        usleep(200);
    }
    say(fd, START, NULL);
    send_header(fd, MEMORY_FD, sizeof slot);
    pass(fd, &slot, sizeof slot, &machine_fd, true);
    if (!is_answered_well(fd))
        _exit(MONITOR_REFUSED);
    say(fd, CONFIG, config);
    say(fd, STATE, state);
    say(fd, COMPLETE_PAUSED, NULL);
}

static int
store_image(struct dor_image *image, struct dor_store *store)
{
    static const char *const words[] = {"the machine"};
    const struct dor_intake_options options = {
        .images = words, .image_count = 1, .replace = true, .no_inspect = true};
    struct dor_intake *intake = NULL;
    struct dor_put_result result;
    int rc = dor_intake_open_image(&options, image, &intake);
    if (rc == 0)
        rc = dor_intake_put(intake, store, "machine", NULL, NULL, &result);
    dor_intake_close(intake);
    return rc;
}

static int
take(struct dor_store *store, atomic_bool *given_up)
{
    struct dor_offload *offload = NULL;
    struct dor_image *image = NULL;
    int rc = dor_offload_accept(socket_path, NULL, &offload);
    atomic_store(given_up, true);
    if (rc != 0)
        return rc;
    rc = dor_offload_receive(offload, &image);
    if (rc == 0) {
        rc = store_image(image, store);
        int answered = dor_offload_answer(offload, rc == 0);
        rc = rc == 0 ? answered : rc;
    }
    dor_offload_close(offload);
    return rc;
}

static int
use_take(const void *how)
{
    static atomic_bool *given_up;
    struct dor_store *store = NULL;
    struct stat status;
    (void)how;
    if (given_up == NULL)
        given_up =
            mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (given_up == MAP_FAILED)
        bail("no memory");
    atomic_store(given_up, false);
    pid_t pid = start(be_sender, given_up);
    int rc = dor_store_open_memory(NULL, &store);
    if (rc == 0)
        rc = take(store, given_up);
    atomic_store(given_up, true);
    int monitor = end_of(pid);
    uint64_t id = 0;
    bool stored = rc == 0 && dor_store_find(store, "machine", &id) == 0;
    dor_store_close(store);
    if (monitor != (rc == 0 ? MONITOR_WELL : MONITOR_REFUSED) || stored != (rc == 0) ||
        lstat(socket_path, &status) == 0)
        return FAULT_RUN_WRONG;
    return rc;
}

/* ------------------------------------------------------------------ giving */

struct receiver {
    int listener;
    bool postcopy;
};

/* The second connection, if it comes before the first one ends. */
static int
accept_faults(const struct receiver *receiver, int fd)
{
    struct pollfd waits[] = {
        {.fd = receiver->listener, .events = POLLIN}, {.fd = fd, .events = POLLIN}};
    uint16_t role;
    poll(waits, 2, WAIT_MS);
    if (waits[0].revents == 0)
        _exit(MONITOR_REFUSED);
    int faults = accept(receiver->listener, NULL, NULL);
    receive_bytes(faults, &role, sizeof role);
    return faults;
}

/* Ask for every page; what cannot be had is asked for again, and never is zeros meanwhile. */
static void
ask_for_all(int faults, int memory)
{
    for (unsigned page = 0; page < PAGES; page++) {
        uint64_t range[2] = {(uint64_t)page * PAGE_BYTES, PAGE_BYTES};
        bool well = false;
        for (unsigned tries = 0; !well && tries < 3; tries++) {
            send_header(faults, PAGE_FAULT, sizeof range);
            send_bytes(faults, range, sizeof range);
            well = is_answered_well(faults);
        }
        if (!well)
            _exit(MONITOR_REFUSED);
        if (!page_is(memory, page))
            _exit(MONITOR_WRONG);
    }
}

static void
check_whole(int memory)
{
    for (unsigned page = 0; page < PAGES; page++)
        if (!page_is(memory, page))
            _exit(MONITOR_WRONG);
}

static bool
is_text(int fd, uint64_t length, const char *want)
{
    char text[2048];
    if (length != strlen(want) || length > sizeof text)
        return false;
    receive_bytes(fd, text, length);
    return memcmp(text, want, length) == 0;
}

/* receive-migration. */
static void
be_receiver(const void *context)
{
    const struct receiver *receiver = context;
    uint32_t slot = UINT32_MAX;
    int memory = -1;
    int faults = -1;
    int fd = accept(receiver->listener, NULL, NULL);
    for (uint16_t command = 0; command != COMPLETE_PAUSED;) {
        uint64_t length = 0;
        command = receive_header(fd, &length);
        if (command == MEMORY_FD)
            pass(fd, &slot, sizeof slot, &memory, false);
        if (command == STATE && !is_text(fd, length, state))
            _exit(MONITOR_WRONG);
        if (command == CONFIG && !is_text(fd, length, config))
            _exit(MONITOR_WRONG);
        if (command == COMPLETE_PAUSED && !receiver->postcopy)
            check_whole(memory);
        send_header(fd, OK_STATUS, 0);
        if (command == CONFIG && receiver->postcopy)
            faults = accept_faults(receiver, fd);
    }
    if (receiver->postcopy)
        ask_for_all(faults, memory);
}

static int
use_give(const void *context)
{
    const struct dor_offload_wake *how = context;
    struct dor_offload_wake_stat stat = {0};
    struct dor_wake_server *server = NULL;
    struct sockaddr_un at = address();
    struct receiver receiver = {
        .listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), .postcopy = how->postcopy};
    unlink(socket_path);
    if (bind(receiver.listener, (struct sockaddr *)&at, sizeof at) != 0 ||
        listen(receiver.listener, 4) != 0)
        bail("no socket at %s", socket_path);
    pid_t pid = start(be_receiver, &receiver);
    close(receiver.listener);
    int rc = dor_wake_server_open(store_path, NULL, &server);
    if (rc == 0)
        rc = dor_offload_wake(server, "machine", socket_path, how, &stat);
    dor_wake_server_close(server);
    if (rc != 0) {
        /* It may not have been connected to at all: then it waits to be accepted. */
        int end = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        (void)connect(end, (struct sockaddr *)&at, sizeof at);
        close(end);
    }
    int monitor = end_of(pid);
    /* One that got an error for a page whenever it asked has given up. */
    bool well =
        monitor == MONITOR_WELL || (monitor == MONITOR_REFUSED && stat.failed_requests > 0);
    if (monitor == MONITOR_WRONG || (rc == 0 && !well))
        return FAULT_RUN_WRONG;
    return rc;
}

static void
make_store(void)
{
    const struct dor_offload_slot slot = {.fd = machine_fd};
    const struct dor_offload_machine machine = {(char *)(uintptr_t)config, sizeof config - 1,
                                                (char *)(uintptr_t)state,  sizeof state - 1,
                                                (void *)(uintptr_t)&slot,  1};
    struct dor_store *store = NULL;
    struct dor_image *image = NULL;
    if (dor_store_create(store_path, NULL) != 0 ||
        dor_store_open(store_path, DOR_OPEN_WRITE, NULL, &store) != 0 ||
        dor_offload_image_open(&machine, &image) != 0 || store_image(image, store) != 0)
        bail("%s", dor_err_message());
    dor_store_close(store);
}

static bool
can_watch(void)
{
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | 1);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

int
main(void)
{
    work_in_memory();
    alarm(SECONDS_MAX);
    snprintf(socket_path, sizeof socket_path, "%s/socket", tap_dir());
    snprintf(store_path, sizeof store_path, "%s/store", tap_dir());
    make_memory();
    make_store();
    const struct dor_offload_wake whole = {0};
    const struct dor_offload_wake asked = {.postcopy = true, .no_fill = true};
    try_faults(use_take, NULL, "a machine is taken");
    try_faults(use_give, &whole, "a machine is given");
    if (can_watch())
        try_faults(use_give, &asked, "a machine is given page by page");
    else
        skip("userfaultfd is not allowed here", "a machine is given page by page");
    return done_testing();
}
