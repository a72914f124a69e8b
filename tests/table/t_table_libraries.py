#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_table_libraries.py - what is done with libraries of storage functions over a socket: loading, listing, dumping,
restoring, stopping; with Redis's words where it has them; and calls inside EXEC."""
import sys

sys.dont_write_bytecode = True
from served import *

LIBRARY = """#!js name=%s
redis.registerFunction('%s_set', (keys, args) => { kv.put(keys[0], args[0]); return 'set'; });
redis.registerFunction('%s_fail', (keys, args) => { kv.put(keys[0], args[0]); kv.del('kept'); throw new Error('no'); });
redis.registerFunction('%s_get', (keys) => kv.get(keys[0]), {flags: ['no-writes']});
"""
LUA = """#!lua name=%s
redis.register_function('%s_set', function(keys, args) return redis.call('SET', keys[1], args[1]) end)
"""


def js(name):
    return LIBRARY % ((name,) * 4)


def names(listing):
    """Names of libraries in an answer to FUNCTION LIST."""
    return sorted(entry[1][1][1] for entry in listing[1])


def test_load(wire):
    is_(wire.call("FUNCTION", "LOAD", js("a")), ("$", b"a"), "LOAD answers the library's name")
    is_(wire.call("FCALL", "a_set", 1, "k", "v"), ("$", b"set"), "its function is called")
    is_(wire.call("GET", "k"), ("$", b"v"), "and has written")
    is_(wire.call("FCALL_RO", "a_get", 1, "k"), ("$", b"v"), "FCALL_RO calls what does not write")
    is_(wire.call("FCALL_RO", "a_set", 1, "k", "w")[0], "-", "and refuses what may")
    is_(wire.call("FUNCTION", "LOAD", "REPLACE", js("a")), ("$", b"a"), "LOAD REPLACE replaces")
    is_(wire.call("TFCALL", "a.a_get", 1, "k"), ("$", b"v"), "TFCALL knows it by library and name")
    is_(wire.call("FUNCTION", "LOAD", "#!js name=b\nthrow new Error('at load')")[0], "-", "a library that throws is refused")
    is_(wire.call("FUNCTION", "LOAD", "#!js name=b\nlet x = ;")[0], "-", "one with an error of syntax too")
    is_(wire.call("FUNCTION", "LOAD", js("a").replace("name=a", "name=b"))[0], "-", "and one whose functions another has")
    is_(names(wire.call("FUNCTION", "LIST")), [b"a"], "nothing of them stays")
    is_(wire.call("FCALL", "a_get", 1, "k"), ("$", b"v"), "and what was there goes on")


def test_list(wire):
    wire.call("FUNCTION", "LOAD", js("b"))
    is_(names(wire.call("FUNCTION", "LIST")), [b"a", b"b"], "LIST has all")
    is_(names(wire.call("FUNCTION", "LIST", "LIBRARYNAME", "b*")), [b"b"], "or those of a pattern")
    one = wire.call("FUNCTION", "LIST", "LIBRARYNAME", "a", "WITHCODE")[1][0][1]
    is_(one[-1], ("$", js("a").encode()), "WITHCODE has the source")
    is_(wire.call("FUNCTION", "STATS")[0], "*", "STATS answers")
    is_(wire.call("DBSIZE"), (":", 1), "libraries are no keys")


def test_dump(wire):
    dump = wire.call("FUNCTION", "DUMP")[1]
    is_(wire.call("FUNCTION", "RESTORE", dump)[0], "-", "RESTORE refuses what is there")
    is_(wire.call("FUNCTION", "RESTORE", dump, "REPLACE"), ("+", b"OK"), "RESTORE REPLACE takes it")
    is_(wire.call("FUNCTION", "FLUSH"), ("+", b"OK"), "FLUSH forgets")
    is_(wire.call("FUNCTION", "LIST"), ("*", []), "all")
    is_(wire.call("FCALL", "a_get", 1, "k"), ("-", b"ERR Function not found"), "and their functions")
    is_(wire.call("FUNCTION", "RESTORE", dump), ("+", b"OK"), "RESTORE brings them back")
    is_(wire.call("FCALL", "a_get", 1, "k"), ("$", b"v"), "to be called")
    wire.call("FUNCTION", "DELETE", "a")
    is_(wire.call("FUNCTION", "RESTORE", dump)[0], "-", "RESTORE of two of which one is there")
    is_(names(wire.call("FUNCTION", "LIST")), [b"b"], "restores neither")
    for i in (0, len(dump) // 2, len(dump) - 1):
        broken = dump[:i] + bytes([dump[i] ^ 1]) + dump[i + 1:]
        is_(wire.call("FUNCTION", "RESTORE", broken, "REPLACE"), ("-", b"ERR DUMP payload version or checksum are wrong"),
            f"byte {i} of a dump is wrong")
    is_(wire.call("FUNCTION", "RESTORE", dump, "FLUSH"), ("+", b"OK"), "RESTORE FLUSH forgets first")


def test_exec(wire):
    wire.calls([["SET", "kept", "1"], ["SET", "k", "old"]])
    answers = wire.calls([["MULTI"], ["SET", "x", "1"], ["FCALL", "a_fail", "1", "k", "new"], ["SET", "y", "2"], ["EXEC"]])[-1][1]
    is_([answer[0] for answer in answers], ["+", "-", "+"], "in EXEC a function fails, the commands around it do not")
    is_(wire.calls([["GET", "x"], ["GET", "y"]]), [("$", b"1"), ("$", b"2")], "what they wrote is there")
    is_(wire.calls([["GET", "k"], ["GET", "kept"]]), [("$", b"old"), ("$", b"1")], "what the function wrote is not")
    is_(wire.call("FCALL", "a_fail", 1, "k", "new")[0], "-", "and alone it leaves nothing either")
    is_(wire.calls([["GET", "k"], ["GET", "kept"]]), [("$", b"old"), ("$", b"1")], "as before")


def test_words(wire, redis):
    """Mistakes that do not depend on the language have Redis's answers."""
    wire.call("FUNCTION", "FLUSH")
    redis.call("FUNCTION", "FLUSH")
    wire.call("FUNCTION", "LOAD", js("a"))
    redis.call("FUNCTION", "LOAD", LUA % ("a", "a"))
    for words in (["FUNCTION"], ["FUNCTION", "NOSUCH"], ["FUNCTION", "DELETE", "z"], ["FUNCTION", "DELETE"], ["FUNCTION", "KILL"],
                  ["FUNCTION", "LOAD", "no header"], ["FUNCTION", "LOAD", "#!nosuch name=z\n"], ["FUNCTION", "LIST", "LIBRARYNAME"],
                  ["FUNCTION", "LIST", "NOSUCH"], ["FUNCTION", "RESTORE", "x"], ["FUNCTION", "RESTORE", "x", "NOSUCH"],
                  ["FUNCTION", "FLUSH", "NOSUCH"], ["FCALL", "z", "0"], ["FCALL", "a_set"], ["FCALL", "a_set", "x"],
                  ["FCALL", "a_set", "-1"], ["FCALL", "a_set", "2", "k"], ["FCALL_RO", "z", "0"]):
        is_(wire.call(*words), redis.call(*words), f"{words} is answered as Redis does")


def main():
    server = plain_server("epoll", "--limit", 64)
    with Wire(server.port) as wire:
        answer = wire.call("FUNCTION", "LOAD", js("a"))
        if answer[0] == "-" and b"engine" in answer[1]:
            skip(answer[1].decode(), "libraries")
            done()
            return
        wire.call("FUNCTION", "FLUSH")
        test_load(wire)
        test_list(wire)
        test_dump(wire)
        test_exec(wire)
        redis = redis_server()
        if redis:
            with Wire(redis.port) as other:
                test_words(wire, other)
            redis.stop()
        else:
            skip("redis-server is not installed", "words")
    is_(server.stop(), 0, "the worker ends as it should")
    done()


if __name__ == "__main__":
    main()
