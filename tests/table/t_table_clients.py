#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_table_clients.py - programs that others wrote for Redis work with a served table unchanged: redis-py, hiredis,
redis-cli and redis-benchmark."""
import sys

sys.dont_write_bytecode = True
try:
    import redis
except ImportError:
    redis = None
    # The module of the Debian package belongs to the system's own Python.
    import os
    if os.path.exists("/usr/bin/python3") and "DOR_PYTHON" not in os.environ:
        os.environ["DOR_PYTHON"] = "system"
        os.execv("/usr/bin/python3", ["/usr/bin/python3", *sys.argv])
from served import *
import libhiredis

MODULE_MISSING = "the module redis (python3-redis) is not installed"
# The standard set of redis-benchmark is these and what is about other values than strings.
BENCHMARK_TESTS = "ping_inline,ping_mbulk,set,get,incr,mset"
BENCHMARK_OTHERS = "lpush rpush lpop rpop sadd hset spop zadd zpopmin lrange_100 lrange_300 lrange_500 lrange_600"
LARGE_BYTES = 20 << 20


def raises(kind, words, name, function, *args, **how):
    """FUNCTION must raise KIND with WORDS in its text."""
    try:
        got = function(*args, **how)
    except kind as error:
        return ok(words in str(error), name, f"{error}, wanted {words!r}")
    return ok(False, name, f"returned {got!r}")


# ---------------------------------------------------------------- redis-py

def test_redis_py_strings(client):
    is_(client.set("a", "1"), True, "redis-py: SET")
    is_(client.get("a"), b"1", "redis-py: GET")
    is_(client.get("nobody"), None, "redis-py: GET of nothing")
    is_(client.set("a", "2", nx=True), None, "redis-py: SET NX of what is there")
    is_(client.set("fresh", "2", xx=True), None, "redis-py: SET XX of what is not there")
    is_(client.set("a", "3", get=True), b"1", "redis-py: SET GET")
    is_(client.setnx("a", "4"), False, "redis-py: SETNX")
    is_(client.getset("a", "5"), b"3", "redis-py: GETSET")
    is_(client.getdel("a"), b"5", "redis-py: GETDEL")
    is_(client.exists("a"), 0, "redis-py: EXISTS after GETDEL")
    client["item"] = b"\x00\r\n\xff"
    is_((client["item"], "item" in client), (b"\x00\r\n\xff", True), "redis-py: a client as a dict")
    del client["item"]
    raises(KeyError, "item", "redis-py: a missing item", client.__getitem__, "item")
    is_(client.append("text", "hello"), 5, "redis-py: APPEND to nothing")
    is_(client.append("text", " world"), 11, "redis-py: APPEND")
    is_(client.strlen("text"), 11, "redis-py: STRLEN")
    is_(client.getrange("text", -5, -1), b"world", "redis-py: GETRANGE from the end")
    is_(client.setrange("text", 6, "there"), 11, "redis-py: SETRANGE")
    is_(client.setrange("gap", 3, "x"), 4, "redis-py: SETRANGE beyond the end")
    is_(client.mget("text", "nobody", "gap"), [b"hello there", None, b"\0\0\0x"], "redis-py: MGET")
    is_(client.mset({"m1": "1", "m2": b"\xfe"}), True, "redis-py: MSET")
    is_(client.mget(["m1", "m2"]), [b"1", b"\xfe"], "redis-py: what MSET set")
    is_((client.incr("n"), client.incr("n", 41), client.decr("n", 2), client.incrby("n", -40)), (1, 42, 40, 0),
        "redis-py: INCR and its kin")
    is_(client.incrbyfloat("f", 1.5), 1.5, "redis-py: INCRBYFLOAT")
    is_(client.incrbyfloat("f", -1.25), 0.25, "redis-py: INCRBYFLOAT down")
    raises(redis.ResponseError, "not an integer", "redis-py: INCR of a text", client.incr, "text")
    large = os.urandom(LARGE_BYTES)
    client.set("large", large)
    ok(client.get("large") == large, "redis-py: a value of 20 MiB")
    is_(client.getrange("large", LARGE_BYTES - 4, -1), large[-4:], "redis-py: the end of it")


def test_redis_py_keys(client):
    client.flushall()
    is_(client.dbsize(), 0, "redis-py: FLUSHALL")
    is_(client.randomkey(), None, "redis-py: RANDOMKEY of nothing")
    client.mset({f"user:{i}": str(i) for i in range(1000)})
    is_(client.dbsize(), 1000, "redis-py: DBSIZE")
    is_(len(set(client.scan_iter("user:*", count=37))), 1000, "redis-py: scan_iter meets every key")
    is_(sorted(client.keys("user:99?")), [b"user:99%d" % i for i in range(10)], "redis-py: KEYS")
    ok(client.randomkey().startswith(b"user:"), "redis-py: RANDOMKEY")
    is_(client.type("user:1"), b"string", "redis-py: TYPE")
    is_(client.type("nobody"), b"none", "redis-py: TYPE of nothing")
    ok(client.memory_usage("user:1") > 0, "redis-py: MEMORY USAGE")
    is_((client.delete("user:1", "user:2", "nobody"), client.unlink("user:3")), (2, 1), "redis-py: DEL and UNLINK")
    is_(client.exists("user:1", "user:4", "user:4"), 2, "redis-py: EXISTS counts one key twice")


def test_redis_py_expiry(client):
    import datetime
    client.set("e", "1", ex=100)
    ok(98 <= client.ttl("e") <= 100, "redis-py: SET EX and TTL")
    client.set("e", "2", keepttl=True)
    ok(98_000 <= client.pttl("e") <= 100_000, "redis-py: SET KEEPTTL and PTTL")
    client.set("e", "3")
    is_((client.ttl("e"), client.ttl("nobody")), (-1, -2), "redis-py: TTL without one, and of nothing")
    is_(client.expire("e", datetime.timedelta(minutes=1)), True, "redis-py: EXPIRE")
    is_((client.persist("e"), client.persist("e")), (True, False), "redis-py: PERSIST")
    is_(client.expireat("e", int(time.time()) + 50), True, "redis-py: EXPIREAT")
    is_(client.pexpire("e", 30_000), True, "redis-py: PEXPIRE")
    is_(client.pexpireat("e", int(time.time() * 1000) + 70_000), True, "redis-py: PEXPIREAT")
    ok(60 < client.ttl("e") <= 70, "redis-py: and that counts")
    is_((client.expire("e", 10, nx=True), client.expire("e", 10, gt=True), client.expire("e", 10, lt=True)),
        (False, False, True), "redis-py: EXPIRE NX, GT and LT")
    client.set("short", "1", px=30)
    end = time.monotonic() + REPLY_SECONDS_MAX
    while client.exists("short") and time.monotonic() < end:
        time.sleep(0.01)
    is_((client.get("short"), client.ttl("short")), (None, -2), "redis-py: a key goes when its time has come")


def test_redis_py_transactions(client, other):
    with client.pipeline() as pipe:
        is_(pipe.set("p", "1").incr("p").get("p").execute(), [True, 2, b"2"], "redis-py: MULTI and EXEC")
        pipe.set("p", "text").incr("p").set("q", "1")
        got = pipe.execute(raise_on_error=False)
        ok(got[0] is True and isinstance(got[1], redis.ResponseError) and got[2] is True,
           "redis-py: an error inside EXEC is that command's own", got)
        pipe.watch("p")
        other.set("p", "changed")
        pipe.multi()
        pipe.set("p", "lost")
        raises(redis.WatchError, "", "redis-py: WATCH sees what another client did", pipe.execute)
    is_(client.get("p"), b"changed", "redis-py: and the transaction did nothing")
    client.set("count", "0")
    is_(client.transaction(lambda pipe: (int(pipe.get("count")), pipe.multi(), pipe.incr("count")), "count"), [1],
        "redis-py: transaction()")
    with client.pipeline(transaction=False) as pipe:
        for i in range(10_000):
            pipe.set(f"many:{i}", i)
        is_(pipe.execute(), [True] * 10_000, "redis-py: 10,000 commands without waiting")


def test_redis_py_server(client):
    is_((client.ping(), client.echo("hello")), (True, b"hello"), "redis-py: PING and ECHO")
    info = client.info()
    ok(info["redis_version"] and info["used_memory"] > 0 and info["connected_clients"] >= 1, "redis-py: INFO", info)
    ok("db0" in client.info("keyspace"), "redis-py: INFO keyspace")
    is_(client.client_setname("me"), True, "redis-py: CLIENT SETNAME")
    is_(client.client_getname(), "me", "redis-py: CLIENT GETNAME")
    own = client.client_id()
    ok(any(one["id"] == str(own) and one["name"] == "me" for one in client.client_list()), "redis-py: CLIENT LIST",
       client.client_list())
    ok("get" in client.command(), "redis-py: COMMAND")
    ok(client.command_count() > 30, "redis-py: COMMAND COUNT")
    ok(isinstance(client.config_get("maxmemory"), dict), "redis-py: CONFIG GET")
    raises(redis.ResponseError, "unknown command", "redis-py: what is not there", client.execute_command, "NOSUCH")


def test_redis_py_kill(server):
    killer = redis.Redis(host="127.0.0.1", port=server.port, single_connection_client=True)
    victim = redis.Redis(host="127.0.0.1", port=server.port, single_connection_client=True)
    number = victim.client_id()
    is_(killer.client_kill_filter(_id=number), 1, "redis-py: CLIENT KILL ID")
    ok(all(one["id"] != str(number) for one in killer.client_list()), "redis-py: who was killed is gone")
    victim.close()
    killer.close()


def test_redis_py(server):
    if redis is None:
        skip(MODULE_MISSING, "redis-py")
        return
    print(f"# redis-py {redis.__version__}")
    one = {"single_connection_client": True, "socket_timeout": REPLY_SECONDS_MAX}
    with redis.Redis(host="127.0.0.1", port=server.port, **one) as client, redis.Redis(unix_socket_path=str(server.path), **one) as other:
        test_redis_py_strings(client)
        test_redis_py_keys(client)
        test_redis_py_expiry(client)
        test_redis_py_transactions(client, other)
        test_redis_py_server(client)
    test_redis_py_kill(server)
    if int(redis.__version__.split(".")[0]) < 5:
        skip(f"redis-py {redis.__version__} speaks RESP2 only; t_table_compare.py has RESP3", "redis-py: RESP3")
        return
    with redis.Redis(host="127.0.0.1", port=server.port, protocol=3, **one) as client:
        test_redis_py_strings(client)
        test_redis_py_server(client)


# ---------------------------------------------------------------- hiredis

def test_hiredis(server):
    found = libhiredis.library()
    if not found:
        skip("libhiredis.so.0.14 is not installed", "hiredis")
        return
    for address, place in ((server.port, "TCP"), (server.path, "Unix socket")):
        client = libhiredis.Client(found, address)
        is_(client.call("SET", "h", b"\x00\r\n" * 5), b"OK", f"hiredis, {place}: SET of binary bytes")
        is_(client.call("GET", "h"), b"\x00\r\n" * 5, f"hiredis, {place}: GET")
        is_(client.call("MGET", "h", "nobody"), [b"\x00\r\n" * 5, None], f"hiredis, {place}: MGET")
        is_(client.call("STRLEN", "h"), 15, f"hiredis, {place}: an integer")
        ok(isinstance(client.call("NOSUCH"), libhiredis.HiredisError), f"hiredis, {place}: an error")
        for i in range(5000):
            client.append("SET", f"h:{i}", "x" * (i % 300))
            client.append("GET", f"h:{i}")
        got = [client.get_reply() for _ in range(10_000)]
        ok(got == [one for i in range(5000) for one in (b"OK", b"x" * (i % 300))],
           f"hiredis, {place}: 10,000 commands without waiting")
        client.close()


# ---------------------------------------------------------------- redis-cli

def cli_says(server, *words, **how):
    done = subprocess.run(["redis-cli", "-p", str(server.port), *words], capture_output=True, timeout=REPLY_SECONDS_MAX,
                          env=clean_env(), **{"stdin": subprocess.DEVNULL, **how} if "input" not in how else how)
    return (done.stdout + done.stderr).decode(errors="replace")


def test_redis_cli(server):
    if not shutil.which("redis-cli"):
        skip("redis-cli (redis-tools) is not installed", "redis-cli")
        return
    is_(cli_says(server, "set", "c", "some words"), "OK\n", "redis-cli: set")
    is_(cli_says(server, "get", "c"), "some words\n", "redis-cli: get")
    is_(cli_says(server, "-x", "set", "c", input=b"from standard input"), "OK\n", "redis-cli: -x")
    is_(cli_says(server, "-3", "get", "nobody"), "\n", "redis-cli: RESP3")
    ok("proto" in cli_says(server, "-3", "hello"), "redis-cli: HELLO")
    is_(cli_says(server, input=b"multi\nset c 1\nincr c\nexec\n"), "OK\nQUEUED\nQUEUED\nOK\n2\n", "redis-cli: a transaction")
    cli_says(server, "flushall")
    mass = b"".join(encoded("SET", f"mass:{i}", i) for i in range(20_000))
    said = cli_says(server, "--pipe", input=mass)
    ok("errors: 0, replies: 20000" in said, "redis-cli: --pipe", said)
    is_(len(set(cli_says(server, "--scan", "--pattern", "mass:*").split())), 20_000, "redis-cli: --scan")
    for option in ("--bigkeys", "--memkeys"):
        said = cli_says(server, option)
        ok("20000 strings" in said or "Sampled 20000 keys" in said, f"redis-cli: {option}", said[-600:])
    ok("string" in cli_says(server, "command", "docs", "get").lower(), "redis-cli: command docs")


# ---------------------------------------------------------------- redis-benchmark

def test_redis_benchmark(server):
    if not shutil.which("redis-benchmark"):
        skip("redis-benchmark (redis-tools) is not installed", "redis-benchmark")
        return
    for where in (["-p", str(server.port)], ["-s", str(server.path)]):
        for pipeline in ("1", "16"):
            done = subprocess.run(
                ["redis-benchmark", *where, "-t", BENCHMARK_TESTS, "-n", "4000", "-c", "20", "-r", "1000", "-d", "200",
                 "-P", pipeline, "--csv"], capture_output=True, timeout=REPLY_SECONDS_MAX, env=clean_env())
            said = done.stdout.decode() + done.stderr.decode()
            names = [line.split(",")[0].strip('"') for line in said.splitlines()[1:]]
            is_((done.returncode, names), (0, ["PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "MSET (10 keys)"]),
                f"redis-benchmark {where[0]} -P {pipeline}: its tests complete without an error")
            ok("rror" not in said.replace("errors: 0", "") and "WARN" not in said,
               f"redis-benchmark {where[0]} -P {pipeline}: and it has nothing to complain about", said)
    quick = ["redis-benchmark", "-p", str(server.port), "-n", "100", "-c", "2", "--csv"]
    done = subprocess.run(quick, capture_output=True, timeout=REPLY_SECONDS_MAX, env=clean_env())
    names = [line.split(",")[0].strip('"') for line in done.stdout.decode().splitlines()[1:]]
    ok(done.returncode == 1 and b"unknown command 'LPUSH'" in done.stderr
       and names == ["PING_INLINE", "PING_MBULK", "SET", "GET", "INCR"],
       "redis-benchmark: all of its tests in a row end at LPUSH, which is not there", done)
    for one in BENCHMARK_OTHERS.split():
        done = subprocess.run([*quick, "-t", one], capture_output=True, timeout=REPLY_SECONDS_MAX, env=clean_env())
        command = "LPUSH" if one.startswith("lrange") else one.upper()
        ok(done.returncode == 1 and f"ERR unknown command '{command}'".encode() in done.stderr,
           f"redis-benchmark: {one} is told that the command is unknown", done)


def main():
    server = our_server()
    test_redis_py(server)
    test_hiredis(server)
    test_redis_cli(server)
    test_redis_benchmark(server)
    is_(server.stop(), 0, "the server ends as it should")
    done()


if __name__ == "__main__":
    main()
