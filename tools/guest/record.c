/* SPDX-License-Identifier: Apache-2.0 */
/* record: what the guest's own kernel says about its memory, for checking an analysis made from
 * the outside. Written with O_DIRECT to a raw disk, from buffers that were allocated and pinned
 * long before, so that recording changes next to nothing of what it records.
 *
 * The disk ("gt" beside a snapshot), all numbers 64-bit little-endian, all offsets from its start:
 *      0   role block: "role=NAME\n", NUL padded (written by the host)
 *   4096   header: "DMGT0001", pages, flags_off, count_off, text_off, text_len, agent pid,
 *          function pid (0 in a base)
 *   flags_off   u64[pages] of /proc/kpageflags, by page frame number
 *   count_off   u64[pages] of /proc/kpagecount
 *   text_off    text_len bytes, lines of three kinds for each process that has user memory:
 *                 PID <decimal pid> <command>
 *                 M <its line of /proc/pid/maps>
 *                 P <address> <page frame>   (hex; one per present page of the last M)
 * Page frame numbers go up to the end of RAM; those of holes have the flag NOPAGE.
 * The room for tables follows from the disk's size (see ROOM_TEXT), which the host chooses.
 */
#define _GNU_SOURCE
#include "record.h"
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { BLOCK = 4096, ROOM_TEXT = 4 << 20, ROOM_MAPS = 256 << 10, WINDOW = 4096, MOST_PIDS = 256 };

static int disk = -1;
static size_t most_pages;
static uint64_t *header, *flags, *count, *window;
static char *text, *maps;
static size_t text_len;

int record_start(const char *path)
{
	uint64_t bytes;
	disk = open(path, O_WRONLY | O_DIRECT | O_CLOEXEC);
	if (disk < 0 || ioctl(disk, BLKGETSIZE64, &bytes) || bytes < ROOM_TEXT + 4 * BLOCK)
		return -1;
	most_pages = (bytes - 2 * BLOCK - ROOM_TEXT) / 16 & ~511UL;
	size_t room = BLOCK + most_pages * 16 + ROOM_TEXT;
	char *all = mmap(NULL, room + WINDOW * 8 + ROOM_MAPS, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (all == MAP_FAILED)
		return -1;
	header = (uint64_t *)all;
	flags = (uint64_t *)(all + BLOCK);
	count = flags + most_pages;
	text = (char *)(count + most_pages);
	window = (uint64_t *)(all + room);
	maps = (char *)(window + WINDOW);
	return mlockall(MCL_CURRENT | MCL_FUTURE);
}

static void emit(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	int n = vsnprintf(text + text_len, ROOM_TEXT - text_len, format, arguments);
	va_end(arguments);
	if (n > 0 && (size_t)n < ROOM_TEXT - text_len)	/* a line that does not fit is left out whole */
		text_len += (size_t)n;
}

static size_t read_whole(const char *path, void *to, size_t size)
{
	size_t got = 0;
	ssize_t n;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	while (got < size && (n = read(fd, (char *)to + got, size - got)) > 0)
		got += (size_t)n;
	close(fd);
	return got;
}

static void record_range(int pagemap, uint64_t start, uint64_t end)
{
	const uint64_t present = 1ULL << 63, frame = (1ULL << 55) - 1;
	if (end > 1ULL << 47)	/* vsyscall lies in the kernel half */
		return;
	while (start < end) {
		size_t n = (end - start) / 4096 < WINDOW ? (end - start) / 4096 : WINDOW;
		if (pread(pagemap, window, n * 8, (off_t)(start / 4096 * 8)) != (ssize_t)(n * 8))
			return;
		for (size_t i = 0; i < n; i++)
			if (window[i] & present)
				emit("P %lx %lx\n", (unsigned long)(start + i * 4096), (unsigned long)(window[i] & frame));
		start += n * 4096;
	}
}

static void record_process(int pid)
{
	char path[64], command[64];

	snprintf(path, sizeof path, "/proc/%d/maps", pid);
	size_t n = read_whole(path, maps, ROOM_MAPS - 1);
	if (!n)	/* kernel threads have none */
		return;
	maps[n] = 0;
	snprintf(path, sizeof path, "/proc/%d/comm", pid);
	command[read_whole(path, command, sizeof command - 1)] = 0;
	command[strcspn(command, "\n")] = 0;
	emit("PID %d %s\n", pid, command);
	snprintf(path, sizeof path, "/proc/%d/pagemap", pid);
	int pagemap = open(path, O_RDONLY | O_CLOEXEC);
	for (char *line = maps, *end; (end = strchr(line, '\n')); line = end + 1) {
		unsigned long from, to;
		*end = 0;
		emit("M %s\n", line);
		if (sscanf(line, "%lx-%lx", &from, &to) == 2)
			record_range(pagemap, from, to);
	}
	close(pagemap);
}

int record(pid_t function)
{
	int pids[MOST_PIDS], n = 0;
	struct dirent *entry;
	DIR *proc = opendir("/proc");

	if (!proc)
		return -1;
	while ((entry = readdir(proc)) && n < MOST_PIDS)
		if (isdigit((unsigned char)entry->d_name[0]))
			pids[n++] = atoi(entry->d_name);
	closedir(proc);
	text_len = 0;
	for (int i = 0; i < n; i++)
		record_process(pids[i]);
	size_t pages = read_whole("/proc/kpageflags", flags, most_pages * 8) / 8;
	read_whole("/proc/kpagecount", count, most_pages * 8);

	memcpy(header, "DMGT0001", 8);
	header[1] = pages;
	header[2] = 2 * BLOCK;
	header[3] = header[2] + most_pages * 8;
	header[4] = header[3] + most_pages * 8;
	header[5] = text_len;
	header[6] = (uint64_t)getpid();
	header[7] = (uint64_t)function;
	const char *from = (const char *)header;
	size_t left = (BLOCK + most_pages * 16 + text_len + BLOCK - 1) / BLOCK * BLOCK;
	for (off_t at = BLOCK; left;) {
		ssize_t done = pwrite(disk, from, left < 256 << 10 ? left : 256 << 10, at);
		if (done <= 0)
			return -1;
		from += done;
		at += done;
		left -= (size_t)done;
	}
	return pages ? 0 : -1;
}
