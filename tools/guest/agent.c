/* SPDX-License-Identifier: Apache-2.0 */
/* agent: pid 1 of the guest. The idea: one small static program does all that a guest does besides
 * its function, so that nothing else leaves traces in memory.
 *
 * It mounts /proc and friends, learns its role from block 0 of the second disk, starts that
 * function, asks it once, records the ground truth (record.c) and prints "READY <answer>". From
 * then on each line "ask" on the console asks the function again and prints "ANSWER <answer>".
 * With no role yet it prints "BASE" and polls the disk: a snapshot taken there can become any
 * function later. All reads of the disk are O_DIRECT, so polling leaves no page cache.
 */
#define _GNU_SOURCE
#include "record.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define DISK "/dev/vdb"
#define SOCKET "/run/function.sock"

static void pause_ms(long ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };
	nanosleep(&t, NULL);
}

static void fail(const char *what)
{
	printf("FAILED %s: %s\n", what, strerror(errno));
	for (;;)
		pause();
}

/* Block 0 holds "role=NAME\n" padded with NULs, or only NULs. Returns 0 while there is no role. */
static int read_role(char *role, size_t size)
{
	static char block[4096] __attribute__((aligned(4096)));
	int disk = open(DISK, O_RDONLY | O_DIRECT);
	if (disk < 0 || pread(disk, block, sizeof block, 0) != (ssize_t)sizeof block)
		fail("reading the role from " DISK);
	close(disk);
	if (strncmp(block, "role=", 5))
		return 0;
	size_t n = strspn(block + 5, "abcdefghijklmnopqrstuvwxyz0123456789-");
	if (!n || n >= size || block[5 + n] != '\n')
		return 0;
	memcpy(role, block + 5, n);
	role[n] = 0;
	return 1;
}

static pid_t start_function(const char *role)
{
	static char py[] = "/usr/bin/python3.11", js[] = "/usr/bin/node";
	static char *const environment[] = { "PATH=/usr/bin:/bin", "HOME=/tmp", "LANG=C.UTF-8", NULL };
	static const struct { const char *suffix; char *program; } kinds[] = { { ".py", py }, { ".js", js }, { "", NULL } };
	char path[128];

	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		snprintf(path, sizeof path, "/srv/%s%s", role, kinds[i].suffix);
		if (access(path, R_OK))
			continue;
		pid_t pid = fork();
		if (pid)
			return pid;
		if (kinds[i].program)
			execve(kinds[i].program, (char *[]){ kinds[i].program, path, NULL }, environment);
		else
			execve(path, (char *[]){ path, NULL }, environment);
		_exit(127);
	}
	return -1;
}

/* One request to the function. Returns 0 with the answer's first line, or -1. */
static int ask(char *answer, size_t size)
{
	static const char request[] = "GET / HTTP/1.0\r\n\r\n";
	static char reply[4096];
	struct sockaddr_un name = { .sun_family = AF_UNIX, .sun_path = SOCKET };
	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	size_t got = 0;
	ssize_t n;

	if (s < 0)
		return -1;
	if (connect(s, (struct sockaddr *)&name, sizeof name) || write(s, request, sizeof request - 1) < 0) {
		close(s);
		return -1;
	}
	while (got < sizeof reply - 1 && (n = read(s, reply + got, sizeof reply - 1 - got)) > 0)
		got += (size_t)n;
	close(s);
	reply[got] = 0;
	char *body = strstr(reply, "\r\n\r\n");
	if (!body || !body[4])
		return -1;
	body += 4;
	body[strcspn(body, "\r\n")] = 0;
	snprintf(answer, size, "%s", body);
	return 0;
}

/* The first line of a small file, without its end, or "". */
static const char *line_of(const char *path, char *to, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, to, size - 1);
	if (fd >= 0)
		close(fd);
	to[n < 0 ? 0 : n] = 0;
	to[strcspn(to, "\n")] = 0;
	return to;
}

/* What the kernel makes of the machine, so that the host sees whether it is the one it asked for. */
static void tell_machine(void)
{
	static char cpus[32], nodes[32], info[4096];
	int fd = open("/proc/cpuinfo", O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && read(fd, info, sizeof info - 1) < 0)
		*info = 0;
	close(fd);
	printf("MACHINE cpus=%s nodes=%s la57=%d pti=%d\n", line_of("/sys/devices/system/cpu/online", cpus, sizeof cpus),
	       line_of("/sys/devices/system/node/online", nodes, sizeof nodes), strstr(info, " la57") != NULL,
	       strstr(info, " pti") != NULL);
}

int main(void)
{
	static char role[64], answer[512], line[64];
	struct utsname os;
	struct termios tty;
	pid_t function;

	mkdir("/run", 0755);
	if (mount("proc", "/proc", "proc", 0, NULL) || mount("sysfs", "/sys", "sysfs", 0, NULL) ||
	    mount("tmpfs", "/tmp", "tmpfs", 0, NULL) || mount("tmpfs", "/run", "tmpfs", 0, NULL))
		fail("mount");
	if (!tcgetattr(0, &tty)) {
		tty.c_lflag &= (tcflag_t)~(ECHO | ISIG);
		tcsetattr(0, TCSANOW, &tty);
	}
	setvbuf(stdout, NULL, _IOLBF, 4096);
	uname(&os);
	printf("\nKERNEL %s\n", os.release);
	tell_machine();
	if (record_start(DISK))
		fail("preparing the recorder");

	if (!read_role(role, sizeof role)) {
		if (record(0))
			fail("recording");
		printf("BASE\n");
		while (!read_role(role, sizeof role))
			pause_ms(100);
	}
	printf("ROLE %s\n", role);
	function = start_function(role);
	if (function < 0)
		fail("starting the function");
	while (ask(answer, sizeof answer)) {
		if (waitpid(function, NULL, WNOHANG) == function)
			fail("the function ended");
		pause_ms(50);
	}
	pause_ms(1000);	/* let late threads and timers of the runtime settle */
	if (record(function))
		fail("recording");
	printf("READY %s\n", answer);
	while (fgets(line, sizeof line, stdin)) {
		if (strcmp(line, "ask\n"))
			continue;
		if (ask(answer, sizeof answer))
			printf("FAILED no answer\n");
		else
			printf("ANSWER %s\n", answer);
	}
	fail("console");
}
