/* SPDX-License-Identifier: Apache-2.0 */
/* mix: one guest with every kind of page that matters to who looks at memory from the outside.
 *
 *   page cache    of a writable ext4 (a loop device on a tmpfs file): written and not yet synced,
 *                 written and synced, written through a shared mapping, of a file that is removed
 *                 but open, read through a private mapping and written there
 *   shmem         a tmpfs file, the same mapped by two processes, a memfd, shared anonymous memory
 *   anonymous     4 KiB pages, shared with a child after a fork and half of them written by it;
 *                 transparent huge pages; two hugetlb pages; pages only read (the zero page)
 *   processes     this one with two threads, a forked worker with a thread of its own, a forked
 *                 mapper, and a busybox that sleeps
 *
 * Every byte comes from a counter, so the answer, a hash of what each process sees, is the same in
 * every boot. Write-back by age is off, so that what is dirty stays so. Needs the loop module.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/loop.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define IMAGE "/srv/mix.ext4"
#define DISK "/tmp/disk"
#define MOUNT "/tmp/mnt"

enum { KIB = 1024, MIB = 1024 * KIB, HUGE = 2 * MIB };
enum {
	PLAIN_BYTES = 3 * MIB, THP_BYTES = 8 * MIB, TLB_BYTES = 2 * HUGE, UNWRITTEN_BYTES = MIB, SHARED_BYTES = MIB,
	TMPFS_BYTES = 1536 * KIB, MEMFD_BYTES = 512 * KIB,
	DIRTY_BYTES = 1536 * KIB, SYNCED_BYTES = MIB, MAPPED_BYTES = MIB, REMOVED_BYTES = 512 * KIB, PRIVATE_BYTES = 256 * KIB,
};

static uint8_t *plain, *thp, *tlb, *unwritten, *shared, *tmpfs, *memfd, *mapped, *private;

static void check(int good, const char *what)
{
	if (good)
		return;
	perror(what);
	exit(1);
}

static void write_number(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	check(fd >= 0 && write(fd, text, strlen(text)) > 0, path);
	close(fd);
}

/* Half of the pages look like a heap, the others like noise; SALT makes no two areas alike. */
static void fill(uint8_t *to, size_t bytes, uint64_t salt)
{
	uint64_t x = salt * 0x9e3779b97f4a7c15ULL + 1;
	for (size_t at = 0; at < bytes; at += 8) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		uint64_t word = at & 4096 ? x : at % 32 ? salt << 32 | at : 0;
		memcpy(to + at, &word, 8);
	}
}

static uint64_t hash(uint64_t h, const uint8_t *from, size_t bytes)
{
	for (size_t at = 0; at < bytes; at += 8) {
		uint64_t word;
		memcpy(&word, from + at, 8);
		h = (h ^ word) * 0x100000001b3ULL;
	}
	return h;
}

static uint8_t *map(size_t bytes, int protection, int flags, int fd)
{
	uint8_t *at = mmap(NULL, bytes, protection, flags, fd, 0);
	check(at != MAP_FAILED, "mmap");
	return at;
}

/* A file of BYTES made of SALT; the descriptor stays open. */
static int make_file(const char *path, size_t bytes, uint64_t salt)
{
	uint8_t *data = malloc(bytes);
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	check(data && fd >= 0, path);
	fill(data, bytes, salt);
	check(write(fd, data, bytes) == (ssize_t)bytes, path);
	free(data);
	return fd;
}

/* ---------------------------------------------------------------- the writable file system */

/* Only blocks that are not zero, so that the disk is a sparse tmpfs file. */
static void copy_image(void)
{
	static uint8_t block[4096];
	static const uint8_t zero[4096];
	int from = open(IMAGE, O_RDONLY | O_CLOEXEC), to = open(DISK, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct stat st;
	check(from >= 0 && to >= 0 && !fstat(from, &st) && !ftruncate(to, st.st_size), DISK);
	for (off_t at = 0; pread(from, block, sizeof block, at) == (ssize_t)sizeof block; at += (off_t)sizeof block)
		if (memcmp(block, zero, sizeof block))
			check(pwrite(to, block, sizeof block, at) == (ssize_t)sizeof block, DISK);
	int loop = open("/dev/loop0", O_RDWR | O_CLOEXEC);
	check(loop >= 0 && !ioctl(loop, LOOP_SET_FD, to), "/dev/loop0");
	close(loop);
	close(to);
	close(from);
}

static void make_files(void)
{
	write_number("/proc/sys/vm/dirty_writeback_centisecs", "0");
	write_number("/proc/sys/vm/dirty_expire_centisecs", "360000");
	copy_image();
	check(!mkdir(MOUNT, 0755) && !mount("/dev/loop0", MOUNT, "ext4", MS_NOATIME, "commit=3600"), MOUNT);
	int fd = make_file(MOUNT "/synced", SYNCED_BYTES, 1);
	check(!fsync(fd), "fsync");
	close(fd);
	fd = make_file(MOUNT "/private", PRIVATE_BYTES, 2);
	check(!fsync(fd), "fsync");
	private = map(PRIVATE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd);
	fill(private, PRIVATE_BYTES / 2, 3);
	close(fd);
	close(make_file(MOUNT "/dirty", DIRTY_BYTES, 4));
	fd = make_file(MOUNT "/removed", REMOVED_BYTES, 5);	/* stays open */
	check(!unlink(MOUNT "/removed"), "unlink");
	fd = make_file(MOUNT "/mapped", MAPPED_BYTES, 6);
	check(!fsync(fd), "fsync");
	mapped = map(MAPPED_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	close(fd);
}

static uint64_t hash_file(uint64_t h, const char *path, size_t bytes)
{
	uint8_t *data = malloc(bytes);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	check(data && fd >= 0 && read(fd, data, bytes) == (ssize_t)bytes, path);
	close(fd);
	h = hash(h, data, bytes);
	free(data);
	return h;
}

/* ---------------------------------------------------------------- memory */

static void make_memory(void)
{
	const int rw = PROT_READ | PROT_WRITE;
	write_number("/proc/sys/vm/nr_hugepages", "4");	/* two in use, two in the pool */
	/* The kernel turns this off where memory is less than 512 MiB. */
	write_number("/sys/kernel/mm/transparent_hugepage/enabled", "madvise");
	tlb = map(TLB_BYTES, rw, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1);
	fill(tlb, TLB_BYTES, 11);
	uint8_t *room = map(THP_BYTES + HUGE, rw, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	thp = room + (HUGE - (uintptr_t)room % HUGE) % HUGE;
	check(!madvise(thp, THP_BYTES, MADV_HUGEPAGE), "madvise");
	fill(thp, THP_BYTES, 12);
	plain = map(PLAIN_BYTES, rw, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	check(!madvise(plain, PLAIN_BYTES, MADV_NOHUGEPAGE), "madvise");
	fill(plain, PLAIN_BYTES, 13);
	unwritten = map(UNWRITTEN_BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	shared = map(SHARED_BYTES, rw, MAP_SHARED | MAP_ANONYMOUS, -1);
	fill(shared, SHARED_BYTES / 2, 14);
	int fd = make_file("/tmp/shm", TMPFS_BYTES, 15);
	tmpfs = map(TMPFS_BYTES, rw, MAP_SHARED, fd);
	close(fd);
	fd = memfd_create("mix", MFD_CLOEXEC);
	check(fd >= 0 && !ftruncate(fd, MEMFD_BYTES), "memfd");
	memfd = map(MEMFD_BYTES, rw, MAP_SHARED, fd);
	fill(memfd, MEMFD_BYTES, 16);
}

static uint64_t hash_memory(uint64_t h)
{
	h = hash(h, tlb, TLB_BYTES);
	h = hash(h, thp, THP_BYTES);
	h = hash(h, plain, PLAIN_BYTES);
	h = hash(h, unwritten, UNWRITTEN_BYTES);
	h = hash(h, shared, SHARED_BYTES);
	h = hash(h, tmpfs, TMPFS_BYTES);
	h = hash(h, memfd, MEMFD_BYTES);
	h = hash(h, mapped, MAPPED_BYTES);
	return hash(h, private, PRIVATE_BYTES);
}

/* ---------------------------------------------------------------- processes */

/* A thread has its own arena and stack, and waits for ever. */
static void *idle(void *started)
{
	uint8_t *own = malloc(64 * KIB);
	check(own != NULL, "malloc");
	fill(own, 64 * KIB, 21);
	pthread_barrier_wait(started);
	while (pause())
		continue;
	return NULL;
}

static void start_threads(unsigned count)
{
	static pthread_barrier_t started;
	pthread_t thread;
	pthread_barrier_init(&started, NULL, count + 1);
	for (unsigned i = 0; i < count; i++)
		check(!pthread_create(&thread, NULL, idle, &started), "thread");
	pthread_barrier_wait(&started);
}

static void worker(void)
{
	prctl(PR_SET_NAME, "mix-worker");
	fill(plain, PLAIN_BYTES / 2, 31);		/* its own copies; the rest stays shared */
	fill(shared + SHARED_BYTES / 2, SHARED_BYTES / 2, 32);
	fill(tmpfs, TMPFS_BYTES / 2, 33);
	start_threads(1);
}

static void mapper(void)
{
	prctl(PR_SET_NAME, "mix-mapper");
	fill(mapped, MAPPED_BYTES / 2, 34);		/* dirty by page table and by page, never synced */
	fill(thp, 64 * KIB, 35);			/* splits a huge page's mapping here */
}

/* Answers each byte with the hash of what it sees; the first answer says that it is ready. */
static int start_process(void (*begin)(void))
{
	int pair[2];
	check(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair), "socketpair");
	pid_t child = fork();
	check(child >= 0, "fork");
	if (child) {
		close(pair[1]);
		return pair[0];
	}
	close(pair[0]);
	begin();
	char byte;
	do {
		uint64_t h = hash_memory(0);
		check(write(pair[1], &h, sizeof h) == sizeof h, "worker");
	} while (read(pair[1], &byte, 1) == 1);
	_exit(0);
}

static uint64_t answer_of(int process)
{
	uint64_t h = 0;
	check(read(process, &h, sizeof h) == sizeof h, "answer");
	return h;
}

static void start_sleeper(void)
{
	pid_t child = fork();
	check(child >= 0, "fork");
	if (!child) {
		execl("/bin/busybox", "busybox", "sleep", "1000000", NULL);
		_exit(127);
	}
}

int main(void)
{
	make_memory();
	make_files();
	int processes[] = { start_process(worker), start_process(mapper) };
	for (size_t i = 0; i < 2; i++)
		answer_of(processes[i]);
	start_threads(2);
	start_sleeper();

	struct sockaddr_un name = { .sun_family = AF_UNIX, .sun_path = "/run/function.sock" };
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	check(listener >= 0 && !bind(listener, (struct sockaddr *)&name, sizeof name) && !listen(listener, 4), "socket");
	for (;;) {
		char request[4096], reply[256];
		int client = accept(listener, NULL, NULL);
		if (client < 0)
			continue;
		if (read(client, request, sizeof request) > 0) {
			uint64_t h = hash_memory(0xcbf29ce484222325ULL);
			h = hash_file(h, MOUNT "/dirty", DIRTY_BYTES);
			h = hash_file(h, MOUNT "/synced", SYNCED_BYTES);
			for (size_t i = 0; i < 2; i++) {
				check(write(processes[i], "?", 1) == 1, "asking");
				h = (h ^ answer_of(processes[i])) * 0x100000001b3ULL;
			}
			int n = snprintf(reply, sizeof reply, "HTTP/1.0 200 OK\r\n\r\nmix %016llx\n", (unsigned long long)h);
			check(write(client, reply, (size_t)n) == n, "reply");
		}
		close(client);
	}
}
