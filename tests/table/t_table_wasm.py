#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_table_wasm.py - storage functions in WebAssembly: compiled C reads, changes and replies as JavaScript does; what hostile
modules try ends with an error, and nothing of it is left; broken modules are refused."""
import random
import shutil
import struct
import sys

sys.dont_write_bytecode = True
from tables import *

HERE = pathlib.Path(__file__).resolve().parent
INCLUDE = HERE.parent.parent / "include"
CALL, TABLE, END = 0x1000000, 0x2000000, 0xffffffff
MEMORY_GIBIBYTES = 4  # that a memory of WebAssembly reserves, and more
seed = int(os.environ.get("DOR_SEED") or random.randrange(1 << 32))
print(f"# seed={seed}")
rng = random.Random(seed)


def first_line(name, flags=""):
    return f"#!wasm name={name} {flags}\n".encode()


def compiled():
    target = work / "functions.wasm"
    subprocess.run(["clang", "--target=wasm32", "-mbulk-memory", "-O2", "-nostdlib", "-Wall", "-Wextra", "-Werror", "-Wl,--no-entry",
                    "-I", INCLUDE, "-o", target, HERE / "wasm_functions.c"], check=True)
    return target.read_bytes()


def assembled(text):
    source, target = work / "module.wat", work / "module.wasm"
    source.write_text(text)
    subprocess.run(["wat2wasm", "--enable-all", "--no-check", source, "-o", target], check=True)
    return target.read_bytes()


def fails(client, words, *request):
    answer = client.ask(*request)
    ok(isinstance(answer, Error) and words in answer, f"{' '.join(map(str, request))[:60]}: {words}", answer)


def test_replies(client):
    client.ask("SET", "hello", "world")
    client.ask("SET", "12", "twelve")
    is_(client.ask("FCALL", "w_get", 1, "hello"), "world", "a value is found")
    is_(client.ask("FCALL", "w_get", 1, "12"), "twelve", "by a number too")
    is_(client.ask("FCALL", "w_get", 1, "none"), None, "and none where none is")
    is_(client.ask("FCALL", "w_words", 2, "k", b"\xff\0", "a"), [["k", "\xff\0"], ["a"]], "keys and arguments are bytes")
    is_(client.ask("FCALL", "w_words", 0, *["x" * n for n in range(300)])[1][299], "x" * 299, "and may be many")
    is_(client.ask("FCALL", "w_kinds", 0), [None, 1, -2**63, "0.5", "a\0b", [1, None], "FINE"], "replies of every kind")
    is_(client.ask("FCALL", "w_error", 0), Error("BAD thing"), "an error")
    numbers = [("0", 0), ("-12", -12), (str(2**63 - 1), 2**63 - 1), (str(-2**63), -2**63), (str(2**63), -7), ("", -7), ("-", -7),
               ("1x", -7), ("99999999999999999999999", -7)]
    is_([client.ask("FCALL", "w_number", 0, text) for text, _ in numbers], [n for _, n in numbers], "numbers are read")
    ok(abs(float(client.ask("FCALL", "w_now", 0)) / 1000 - time.time()) < 60, "the present is the table's")
    is_(client.ask("FCALL_RO", "w_get", 1, "hello"), "world", "what does not write is called by FCALL_RO")
    fails(client, "write flag", "FCALL_RO", "w_put", 1, "hello", "x")
    fails(client, "more than", "FCALL", "w_words", 0, "x" * (4 << 20))
    listing = client.ask("FUNCTION", "LIST")
    functions = {f[1]: f for f in listing[0][5]}
    is_(functions["w_get"][3:], ["the value of a key", "flags", ["no-writes"]], "a function has its description and flags")


def test_against_javascript(client):
    """Keys of all kinds, more and more of them, and lists of friends."""
    client.ask("FUNCTION", "LOAD", """#!js name=twin
redis.registerFunction('j_length', keys => { const h = kv.open(keys[0]); return h === 0 ? null : kv.len(h); }, {flags: ['raw-arguments']});
redis.registerFunction('j_found', keys => keys.reduce((sum, key) => sum + kv.has(key), 0), {flags: ['raw-arguments']});
const walk = (node, depth) => {
  const h = kv.open(node), count = kv.len(h) >>> 2;
  let sum = count;
  for (let i = 0; depth > 1 && i < count; i++) sum = (sum + walk(kv.u32(h, i), depth - 1)) >>> 0;
  return sum;
};
redis.registerFunction('j_walk', (keys, args) => walk(+keys[0], +args[0]));""")
    keys = [b"", b"0", b"00", b"4294967295", b"4294967296", b"-1", b"9" * 11, bytes(range(256)), b"k" * 0xff00]
    wrong = 0
    for part in range(8):
        for i in range(2000):
            kind = rng.randrange(3)
            key = (b"%d" % rng.randrange(1 << 33) if kind == 0 else rng.randbytes(rng.randrange(40)) if kind == 1
                   else b"user:%d" % rng.randrange(10**6))
            keys.append(key)
        new = keys if part == 0 else keys[-2000:]
        requests = [command("SET", key, b"v" * rng.randrange(900), *rng.choice([(), ("PX", 10**8), ("PX", 1)])) for key in new]
        client.send(b"".join(requests))
        for _ in requests:
            client.read()
        time.sleep(0.01)
        for key in rng.sample(keys, 300) + [b"none", b"123456789", b"x" * 0xff01]:
            wrong += client.ask("FCALL", "w_length", 1, key) != client.ask("FCALL", "j_length", 1, key)
    is_(wrong, 0, f"modules and JavaScript find the same of {len(keys)} keys in a table that grows")
    some = rng.sample(keys, 1000)
    is_(client.ask("FCALL", "w_found", 1000, *some), client.ask("FCALL", "j_found", 1000, *some), "in one call too")
    nodes = 300
    for node in range(nodes):
        friends = [rng.randrange(nodes) for _ in range(rng.randrange(20))]
        client.ask("SET", node, struct.pack(f"<{len(friends)}I", *friends))
    walks = [(rng.randrange(nodes), rng.randrange(1, 4)) for _ in range(50)]
    is_([client.ask("FCALL", "w_walk", 1, *w) for w in walks], [client.ask("FCALL", "j_walk", 1, *w) for w in walks], "walks over friends")
    numbers = [int(key) for key in keys if key.isdigit() and int(key) < 1 << 32 and str(int(key)).encode() == key]
    numbers += [rng.randrange(1 << 32) for _ in range(1000)] + [rng.randrange(nodes) for _ in range(1000)]
    lengths = []
    for count in (0, 1, 63, 64, 65, len(numbers)):
        some = rng.sample(numbers, count)
        client.ask("SET", "numbers", struct.pack(f"<{count}I", *some))
        client.send(b"".join(command("STRLEN", n) for n in some) + b"".join(command("EXISTS", n) for n in some))
        lengths = [client.read() for _ in some]
        there = sum(client.read() for _ in some)
        is_(client.ask("FCALL", "w_many", 1, "numbers"), [0, count - there, sum(lengths)], f"{count} numbers are looked up in step")
    fails(client, "Unreachable", "FCALL", "w_many_out", 0)
    fails(client, "Unreachable", "FCALL", "w_lengths_out", 0)
    strange = [b"", b"0", b"007", b"4294967296", b"x" * 256, b"x" * 257, b"x" * 0xff00, b"x" * 0xff01, b"user:\xff", b"j", b"ends"]
    for key in strange[3:7:2] + strange[:1]:
        client.ask("SET", key, b"value of " + key[:9])
    client.ask("SET", "ends", "soon", "PX", "1")
    time.sleep(0.01)
    for some in (keys[:1], rng.sample(keys, 64), rng.sample(keys, 900) + strange, strange * 7):
        client.send(b"".join(command("STRLEN", k) for k in some) + b"".join(command("EXISTS", k) for k in some))
        lengths = [client.read() for _ in some]
        there = sum(client.read() for _ in some)
        is_(client.ask("FCALL", "w_many_keys", len(some), *some), [0, len(some) - there, sum(n for n in lengths if type(n) is int)],
            f"{len(some)} keys of bytes are looked up in step")
    fails(client, "Unreachable", "FCALL", "w_many_keys_out", 0)
    is_(client.ask("FCALL", "w_get", 1, "x" * 0xff01), None, "no key is too long to be looked for")


def test_changes(client):
    is_(client.ask("FCALL", "w_put", 1, "a", b"1\xff2"), "1\xff2", "what is put is found in the call")
    is_(client.ask("GET", "a"), "1\xff2", "and after it")
    is_(client.ask("FCALL", "w_put", 1, "short", "x", 40), "x", "with a time to live")
    ok(wait_for(lambda: client.ask("GET", "short") is None), "that ends")
    is_((client.ask("FCALL", "w_del", 1, "a"), client.ask("FCALL", "w_del", 1, "a")), (1, 0), "what is removed was there once")
    client.ask("SET", "long", "y" * (1 << 20))
    is_(client.ask("FCALL", "w_copy", 2, "long", "twice"), 1 << 20, "a value is put from where it lies")
    is_(client.ask("STRLEN", "twice"), 1 << 20, "all of it")
    client.ask("SET", "kept", "is")
    fails(client, "Unreachable", "FCALL", "w_put_and_trap", 1, "kept")
    is_(client.ask("GET", "kept"), "is", "a call that traps leaves nothing half done")
    fails(client, "read-only", "FCALL", "w_put_ro", 1, "kept", "x")
    is_(client.ask("GET", "kept"), "is", "a function without writes writes nothing")
    is_(client.ask("FCALL", "w_put_many", 0, 1000, 4000), 1000, "a call sees the table grow")
    before = client.ask("DBSIZE")
    fails(client, "script: w_put_many", "FCALL", "w_put_many", 0, 100_000, 1 << 20)
    is_(client.ask("DBSIZE"), before, "what was too much, for the table or the time, is undone")


def test_memory(client):
    is_([client.ask("FCALL", "w_count", 0) for _ in range(3)], [42, 42, 42], "each call begins with memory as it was loaded")
    is_([client.ask("FCALL", "w_alloc", 0, 8 << 20) for _ in range(3)], [0, 0, 0], "with zeros behind it")
    # Some pages are written in most calls, and in turn few and many others.
    room = [at << 12 for at in range(2048, 4096)]
    often = sorted(rng.sample(room, 3))
    often += [often[-1] + 4096]
    changed = 0
    for turn in range(300):
        pages = {*often[turn % 5 == 0:], *rng.sample(room, rng.choice((0, 0, 1, 2, 30)))}
        changed += client.ask("FCALL", "w_scribble", 0, *(page + rng.randrange(4096) for page in pages if page < 4096 << 12))
    is_(changed, 0, "also where calls write again and again")
    is_(client.ask("FCALL", "w_count", 0), 42, "and what other functions find")
    fails(client, "Unreachable", "FCALL", "w_alloc", 0, 16 << 20)
    is_(client.ask("FCALL", "w_pages", 0), [256, -1, -1], "memory does not grow")


def test_attacks(client):
    head = client.ask("FCALL", "w_peek", 0, TABLE)
    is_(head, 0x4c425444, "a module reads its arena")
    for place in (TABLE, TABLE + 4096, CALL, CALL + 8, 0xfffff0, END - 3):
        for rounds in (0, 200_000, 200_000, 200_000):
            if place == 0xfffff0:
                is_(client.ask("FCALL", "w_poke", 0, place, rounds), 1, f"a store to {place:x}, after {rounds}")
            else:
                fails(client, "Out of bounds", "FCALL", "w_poke", 0, place, rounds)
    is_(client.ask("FCALL", "w_peek", 0, TABLE), head, "the arena is as it was")
    is_(client.ask("FCALL", "w_peek", 0, END - 3), 0, "behind it are zeros")
    fails(client, "Out of bounds", "FCALL", "w_peek", 0, END)
    for to, count in ((TABLE, 10), (TABLE - 5, 10), (CALL - 5, 10), (0, 17 << 20), (0xfffffff0, 100), (CALL, 1)):
        fails(client, "Unreachable", "FCALL", "w_fill", 0, to, count)
        fails(client, "Unreachable", "FCALL", "w_copy_bytes", 0, to, 64, count)
    is_(client.ask("FCALL", "w_copy_bytes", 0, 0x800000, TABLE, 0x700000), 1, "what can be read can be copied")
    fails(client, "Out of bounds", "FCALL", "w_copy_bytes", 0, 0x800000, 0xfffffff0, 100)
    fails(client, "Out of bounds", "FCALL", "w_put_bytes", 0, 0xfffffff0, 100)
    is_(client.ask("FCALL", "w_bad_reply", 0, 0), None, "a reply at 0 is null")
    for place in (TABLE, CALL, END, 0xffffff, 64):
        ok(isinstance(client.ask("FCALL", "w_bad_reply", 0, place), Error), f"a reply at {place:x} is none")
    for tag in "sam+-diq":
        ok(isinstance(client.ask("FCALL", "w_long_reply", 0, ord(tag)), Error) == (tag not in "di"), f"a reply {tag} that is too long")
    fails(client, "call stack", "FCALL", "w_deep", 0)
    is_(client.ask("FUNCTION", "LOAD", "#!js name=seen\nredis.registerFunction('seen', () => typeof WebAssembly);"), "seen", "JavaScript")
    is_(client.ask("FCALL", "seen", 0), "undefined", "does not see WebAssembly")


def test_endless(client, module):
    client.ask("FUNCTION", "LOAD", first_line("functions") + module)
    for name in ("w_loop", "w_tree", "w_fills", "w_loop_finding", "w_loop_writing"):
        for turn in range(2):
            began = time.monotonic()
            fails(client, "took longer than its limit", "FCALL", name, 0)
            ok(time.monotonic() - began < 20, f"{name} is stopped soon")
    is_(client.ask("EXISTS", "loop"), 0, "what a stopped call wrote is undone")
    is_(client.ask("FCALL", "w_count", 0), 42, "functions go on")


MODULE = '(module (import "env" "memory" (memory 1)) %s (func (export "x_f") (result i32) i32.const 0))'
REFUSED = {
    "imports kv.fill,": '(import "kv" "fill" (func (param i32 i32 i32)))',
    "imports kv.ask,": '(import "kv" "ask" (func))',
    "imports env.open": '(import "env" "open" (func))',
    "imports env.table": '(import "env" "table" (table 1 funcref))',
    "imports kv.global": '(import "kv" "global" (global i32))',
    "import kv.find_many_u32 has another": '(import "kv" "find_many_u32" (func (param i32 i32)))',
    "import kv.find has another type": '(import "kv" "find" (func (param i32) (result i64)))',
    "start function": "(func $s) (start $s)",
    "several memories": "(memory 1)",
    "tables have a largest size": "(table 1 funcref)",
    "of 65536 entries": "(table 1 65537 funcref)",
    "instruction fe": "(func (drop (i32.atomic.load (i32.const 0))))",
    "instruction 12": "(func $a return_call $a)",
    "instruction 06": "(func (try (do) (catch_all)))",
    "section 13": "(tag)",
    "data without a fixed place": '(data "passive")',
    "data above": '(data (i32.const 0xffffff) "ab")',
    "instruction fc 08": '(data (i32.const 0) "x") (func (memory.init 0 (i32.const 0) (i32.const 0) (i32.const 0)))',
    "instruction fc 0f": "(table 1 2 funcref) (func (drop (table.grow 0 (ref.null func) (i32.const 1))))",
    "more than 50000 locals": "(func (local " + "i64 " * 50001 + "))",
    "instruction 14": "(type $t (func)) (func (param funcref) (call_ref (local.get 0)))",
}
WHOLE = {
    "shared": '(module (import "env" "memory" (memory 1 1 shared)) (func (export "x_f") (result i32) i32.const 0))',
    "not one of 32 bits": '(module (memory i64 1) (func (export "x_f") (result i32) i32.const 0))',
    "has 257 pages": '(module (memory 257) (func (export "x_f") (result i32) i32.const 0))',
    "No functions registered": '(module (func (export "x_f") (param i32) (result i32) i32.const 0))',
    "doesn't validate": '(module (func (export "x_f") (result i32)))',
    "Function names": '(module (func (export "x-f") (result i32) i32.const 0))',
}


def test_refused(client):
    for words, inner in REFUSED.items():
        if words == "instruction 14":
            # An assembler of this age knows no such instruction: (call_ref) is 14 and a type.
            body = bytes([0, 0x14, 0, 0x0b])
            module = (b"\0asm\1\0\0\0" + bytes([1, 4, 1, 0x60, 0, 0]) + bytes([3, 2, 1, 0]) +
                      bytes([10, 2 + len(body), 1, len(body)]) + body)
        else:
            module = assembled(MODULE % inner)
        fails(client, words, "FUNCTION", "LOAD", first_line("x") + module)
    for words, text in WHOLE.items():
        fails(client, words, "FUNCTION", "LOAD", first_line("x") + assembled(text))
    many = '(module %s)' % "".join(f'(func (export "x_{i}") (result i32) i32.const 0)' for i in range(1025))
    fails(client, "1024 functions at most", "FUNCTION", "LOAD", first_line("x") + assembled(many))
    fails(client, "longer than", "FUNCTION", "LOAD", first_line("x") + b"\0asm\1\0\0\0" + bytes(4 << 20))
    for junk in (b"", b"\0asm", b"\0asm\2\0\0\0", b"\0asm\1\0\0\0", b"\0asm\1\0\0\0\1", b"\0asm\1\0\0\0\1\xff\xff\xff\xff\x0f",
                 b"\0asm\1\0\0\0\1\5\xff\xff\xff\xff\x0f"):
        ok(isinstance(client.ask("FUNCTION", "LOAD", first_line("x") + junk), Error), f"{junk} is refused")


def test_globals_and_names(client):
    """Numbers of what is added cannot be named; without the section kv all that fit are functions."""
    text = """(module (memory (export "memory") 1) (global $g (mut i32) (i32.const 5)) (table 2 2 funcref) (elem (i32.const 0) $a $b)
 (func $a (result i32) i32.const 1) (func $b (result i32) i32.const 2)
 (func (export "x_table") (result i32) (i32.store8 (i32.const 8) (i32.const 105))
   (i32.store (i32.const 9) (i32.add (call_indirect (result i32) (i32.const 1)) (i32.const 0))) i32.const 8)
 (func (export "x_global") (result i32) (global.set $g (i32.add (global.get $g) (i32.const 1)))
   (i32.store8 (i32.const 8) (i32.const 105)) (i32.store (i32.const 9) (global.get $g)) i32.const 8)
 (func (export "other") (param i32) (result i32) local.get 0) (data (i32.const 100) "abc"))"""
    is_(client.ask("FUNCTION", "LOAD", "REPLACE", first_line("x", "flags=no-writes") + assembled(text)), "x", "a module in text")
    is_(client.ask("FCALL_RO", "x_table", 0), 2, "has tables, and flags of the first line")
    is_([client.ask("FCALL", "x_global", 0) for _ in range(2)], [6, 7], "globals live on")
    fails(client, "not found", "FCALL", "other", 0, 1)
    module = assembled("""(module (global (mut i32) (i32.const 5)) (func (export "x_f") (result i32)
        (global.set 0 (i32.const 77)) i32.const 0))""")
    at = module.index(bytes([0x24, 0, 0x41]) if bytes([0x24, 0, 0x41]) in module else bytes([0x24, 0]))
    fails(client, "global that it does not have", "FUNCTION", "LOAD", "REPLACE", first_line("x") + module[:at + 1] + b"\1" + module[at + 2:])
    module = assembled("""(module (func (export "x_f") (result i32) (local i32)
        (loop (local.set 0 (i32.const 77))) i32.const 0))""")
    at = module.index(bytes([0x21, 0, 0x0b]))
    fails(client, "local that it does not have", "FUNCTION", "LOAD", "REPLACE", first_line("x") + module[:at + 1] + b"\1" + module[at + 2:])
    module = assembled('(module (func) (func (export "x_f") (result i32) call 0 i32.const 0))')
    at = module.index(bytes([0x10, 0, 0x41]))
    fails(client, "function that it does not have", "FUNCTION", "LOAD", "REPLACE", first_line("x") + module[:at + 1] + b"\2" + module[at + 2:])


def test_broken(client, module):
    refused = 0
    for i in range(400):
        broken = bytearray(module)
        for _ in range(rng.choice((1, 1, 1, 2, 8))):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        if i % 4 == 0:
            del broken[rng.randrange(len(broken)):]
        answer = client.ask("FUNCTION", "LOAD", "REPLACE", first_line("broken") + bytes(broken).replace(b"w_", b"b_"))
        refused += isinstance(answer, Error)
        if not isinstance(answer, Error):
            for name in ("b_get", "b_count", "b_walk", "b_kinds"):
                client.ask("FCALL", name, 1, "hello")
    print(f"# {refused} of 400 broken modules were refused")
    client.ask("FUNCTION", "DELETE", "broken")
    is_(client.ask("FCALL", "w_count", 0), 42, "after broken modules the good one goes on")


def test_carried(client, front, module):
    listing = client.ask("FUNCTION", "LIST", "LIBRARYNAME", "functions", "WITHCODE")
    is_(listing[0][7].encode("latin-1"), first_line("functions") + module, "LIST WITHCODE has the bytes")
    is_(listing[0][3], "WASM", "and the engine")
    dump = client.ask("FUNCTION", "DUMP").encode("latin-1")
    is_(client.ask("FUNCTION", "FLUSH"), "OK", "FLUSH")
    fails(client, "not found", "FCALL", "w_count", 0)
    is_(client.ask("FUNCTION", "RESTORE", dump), "OK", "RESTORE")
    is_(client.ask("FCALL", "w_count", 0), 42, "brings it back")
    for pid in workers_of(front):
        os.kill(pid, signal.SIGKILL)
    again = wait_for(lambda: ask_again(front))
    is_(again, 42, "it outlives the worker")


def ask_again(front):
    try:
        return front.client("anna", "p").ask("FCALL", "w_count", 0)
    except (Gone, OSError):
        return None


def gibibytes_reserved(pid):
    """What a process has reserved of its address space."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmSize:")[1].split()[0]) / (1 << 20)


def test_tenants(module):
    """One worker, one memory, many tenants: each sees what is its own."""
    count = 12
    tenants = str(work / "pool")
    for i in range(count):
        add_tenant(tenants, f"t{i}", "p", "isolation=shared", "domain=pool")
    front = Front(tenants=tenants)
    clients = [front.client(f"t{i}", "p") for i in range(count)]
    for i, client in enumerate(clients):
        client.ask("SET", "who", f"tenant {i}")
        client.ask("SET", "secret", struct.pack("<I", 0x5ec0de00 + i) * (50_000 * (i + 1)))
        client.ask("FUNCTION", "LOAD", first_line("functions") + module)
        client.ask("FCALL", "w_get", 1, "who")
        if i == 0:
            alone = gibibytes_reserved(workers_of(front)[0])
    for turn in range(3):
        is_([c.ask("FCALL", "w_get", 1, "who") for c in clients], [f"tenant {i}" for i in range(count)], "each finds its own")
    sizes = [c.ask("FCALL", "w_length", 1, "secret") for c in clients]
    is_(sizes, [200_000 * (i + 1) for i in range(count)], "of its own size")
    clients[-1].ask("FCALL", "w_words", 1, "secret key", "x" * 100_000)
    small = clients[0]
    is_(small.ask("FCALL", "w_sweep", 0, CALL + 4096, TABLE), 0, "nothing is left of another's arguments")
    end = TABLE + (1 << 20) + (1 << 18)
    is_(small.ask("FCALL", "w_sweep", 0, end, end + (64 << 20)), 0, "nor of another's table behind the own one")
    is_(small.ask("FCALL", "w_alloc", 0, 8 << 20), 0, "nor of another's memory")
    fails(clients[1], "took longer", "FCALL", "w_loop", 0)
    is_(clients[2].ask("FCALL", "w_count", 0), 42, "others go on after one was stopped")
    is_(len(workers_of(front)), 1, "all in one worker")
    each = (gibibytes_reserved(workers_of(front)[0]) - alone) / (count - 1)
    ok(each < MEMORY_GIBIBYTES, "one memory is reserved for all", f"{each} GiB more a tenant")
    front.end()


if os.environ.get("DOR_SANITIZER") == "thread":
    skip("JavaScriptCore stops threads by signals, which the sanitizer holds back", "storage functions in WebAssembly")
    done()
if not shutil.which("clang") or not shutil.which("wasm-ld") or not shutil.which("wat2wasm"):
    skip("clang, wasm-ld and wat2wasm make the modules", "storage functions in WebAssembly")
    done()
code = compiled()
tenants = str(work / "tenants")
# A busy machine counts against a call, so those that are to end have long.
add_tenant(tenants, "anna", "p", "call_ms=5000")
add_tenant(tenants, "bert", "p", "call_ms=50")
add_tenant(tenants, "carl", "p", "call_ms=5000")
front = Front(tenants=tenants)
client = front.client("anna", "p")
answer = client.ask("FUNCTION", "LOAD", first_line("functions") + code)
if isinstance(answer, Error) and ("engine" in answer or "no WebAssembly" in answer):
    skip(answer, "storage functions in WebAssembly")
    done()
is_(answer, "functions", "a module is loaded")
test_replies(client)
test_memory(client)
test_changes(client)
test_against_javascript(client)
test_attacks(client)
test_endless(front.client("bert", "p"), code)
test_refused(client)
test_globals_and_names(front.client("carl", "p"))
test_broken(client, code)
test_carried(client, front, code)
test_tenants(code)
done()
