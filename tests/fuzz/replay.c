/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay.c - runs a fuzz target over every file of its corpus, where there is no libFuzzer.
 * Each file is a check that passes when the target comes back.
 */
#include "base/file.h"
#include "tap.h"

#include <fcntl.h>

enum { INPUT_BYTES_MAX = 16 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

/* The bytes move to memory of exactly their size, so that a sanitizer sees the first one read
 * too far. */
static int
run_exact(const struct base_buf *buf)
{
    AUTO_FREE uint8_t *exact = base_alloc(buf->size_bytes);
    if (exact == NULL)
        return DOR_E_NO_MEMORY;
    if (buf->size_bytes > 0)
        memcpy(exact, buf->data, buf->size_bytes);
    return LLVMFuzzerTestOneInput(exact, buf->size_bytes);
}

static int
replay_file(const char *name, void *arg)
{
    AUTO_BUF struct base_buf buf = {0};
    int rc = base_file_read_all(*(const int *)arg, name, INPUT_BYTES_MAX, &buf);
    if (rc == 0)
        rc = run_exact(&buf);
    is_ok(rc, "%s", name);
    return 0;
}

int
main(int argc, char **argv)
{
    AUTO_CLOSE int dir = -1;
    if (argc != 2 || base_file_open(AT_FDCWD, argv[1], O_RDONLY | O_DIRECTORY, 0, &dir) != 0)
        bail("give the folder of a corpus: %s", dor_err_message());
    if (base_dir_list(dir, replay_file, &dir) != 0)
        bail("%s", dor_err_message());
    return done_testing();
}
