#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_table_redis.py - a worker alone, by epoll and by io_uring, gives the answers of Redis to the same random commands."""
import sys

sys.dont_write_bytecode = True
from served import *
from t_table_compare import test_inline, test_rivals, test_streams

LOOPS = ("epoll", "uring")


def main():
    redis = redis_server()
    if not redis:
        print("1..0 # SKIP redis-server is not installed")
        sys.exit(77)
    for loop in LOOPS:
        redis.kill()
        redis, ours = redis_server(), plain_server(loop)
        if not ours:
            skip(f"no {loop} here", f"{loop}: the same answers as Redis")
            continue
        for protocol in (2, 3):
            test_streams(redis, ours, protocol)
        test_rivals(redis, ours)
        test_inline(redis, ours)
        is_(ours.stop(), 0, f"{loop}: it ends as it should")
    done()


if __name__ == "__main__":
    main()
