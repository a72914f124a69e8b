# SPDX-License-Identifier: Apache-2.0
"""node.py - what the tests of the daemon share: starting one, asking it, and comparing answers with the document."""
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.parse

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "cli"))
from cli import *

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DOCUMENT = json.loads((ROOT / "docs/openapi.json").read_text())
# Level 19 makes a put long enough to be looked at, cancelled and queued behind.
SLOW = {"raw_level": "19", "base_fast_level": "0"}


def make_slow(rng, size):
    """Bytes that level 19 has something to think about: 16 letters, among which short matches are everywhere."""
    return rng.randbytes(size).translate(bytes(range(16)) * 16)


class Daemon:
    """A daemon over STORE; CONFIG is the text of its configuration."""

    def __init__(self, store, *args, config=None, env=None, wait=True, command=(), **how):
        self.store, self.socket = store, os.path.join(store, "daemon.sock")
        if config is not None:
            args = (*args, "--config", write("config-" + os.path.basename(store), config.encode()))
        if "--socket" in args:
            self.socket = args[args.index("--socket") + 1]
        self.process = subprocess.Popen(
            [*command, program, "--store", store, "serve", *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env={**clean_env(), **(env or {})}, **how)
        daemons.append(self)
        if wait:
            self.first_line = self.process.stdout.readline()

    def connect(self, timeout=50):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(timeout)
        client.connect(self.socket)
        return client

    def raw(self, data, timeout=50):
        """Send DATA as it is; all that comes back."""
        client = self.connect(timeout)
        try:
            client.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass
        return read_all(client)

    def ask(self, method, target, body=None, headers=None, timeout=50):
        """One request; status, headers and body of the answer. An object as body is sent as JSON."""
        connection = http.client.HTTPConnection("dormouse", timeout=timeout)
        connection.sock = self.connect(timeout)
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        try:
            connection.request(method, target, body, headers or {})
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused before the body was read: the answer is there all the same
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        check_answer(method, target, answer, data)
        return answer.status, answer.headers, data

    def says(self, method, target, body=None, status=200, **how):
        """The same for JSON with the wanted status, as an object."""
        got, _, data = self.ask(method, target, body, **how)
        if got != status:
            ok(False, f"{method} {target}: status {status}", got, data)
        return json.loads(data)

    def refuses(self, status, error, words, name, method, target, body=None, **how):
        """What must fail, with a status, the name of the error and words in its message."""
        got, _, data = self.ask(method, target, body, **how)
        said = json.loads(data)
        ok(got == status and said.get("error") == error and words in (said.get("message") or ""), name,
           f"wanted {status} {error} {words!r}", got, data)

    def wait_for(self, what, job, state, seconds=30):
        """Wait until job JOB is in STATE."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            told = self.says("GET", f"/jobs/{job}")
            if told["state"] == state:
                return ok(True, what)
            time.sleep(0.01)
        return ok(False, what, told)

    def end(self, number=signal.SIGTERM, timeout=50):
        """End it, unless it has been told to; its exit code."""
        if number and self.process.poll() is None:
            self.process.send_signal(number)
        self.out, self.err = self.process.communicate(timeout=timeout)
        return self.process.returncode


daemons = []


def end_all():
    for daemon in daemons:
        if daemon.process.poll() is None:
            daemon.process.kill()
            daemon.process.wait()


atexit.register(end_all)


def read_all(client):
    """What comes until the end, or until it is reset."""
    parts = []
    try:
        while part := client.recv(1 << 16):
            parts.append(part)
    except ConnectionResetError:
        pass
    client.close()
    return b"".join(parts)


def quote(name):
    return urllib.parse.quote(name, safe="")


# What follows knows as much of JSON Schema as the document uses.

def resolve(schema):
    while "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    return schema


def mistakes(schema, value, where="answer"):
    """How VALUE is not what SCHEMA says, as a list of words."""
    schema = resolve(schema)
    if value is None and schema.get("nullable"):
        return []
    if "allOf" in schema:
        return [m for part in schema["allOf"] for m in mistakes(part, value, where)]
    kind = schema.get("type")
    python = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, None: object}[kind]
    if not isinstance(value, python) or (kind == "integer" and isinstance(value, bool)):
        return [f"{where}: {value!r} is no {kind}"]
    found = []
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{where}: {value!r} is none of {schema['enum']}")
    if kind == "integer" and value < schema.get("minimum", value):
        found.append(f"{where}: {value} is too small")
    if kind == "array":
        found += [m for i, item in enumerate(value) for m in mistakes(schema["items"], item, f"{where}[{i}]")]
    if kind == "object":
        known, more = schema.get("properties", {}), schema.get("additionalProperties", True)
        found += [f"{where}: no {key}" for key in schema.get("required", []) if key not in value]
        for key, item in value.items():
            if key in known:
                found += mistakes(known[key], item, f"{where}.{key}")
            elif more is False:
                found.append(f"{where}: {key} is not in the document")
            elif isinstance(more, dict):
                found += mistakes(more, item, f"{where}.{key}")
    return found


def find_operation(method, target):
    """What the document says of METHOD and TARGET, or None."""
    path = target.split("?")[0]
    for pattern, operations in DOCUMENT["paths"].items():
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", pattern), path):
            return operations.get(method.lower())
    return None


def check_answer(method, target, answer, data):
    """Every answer of every test must be as the document says."""
    operation = find_operation(method, target)
    schema = {"$ref": "#/components/schemas/Error"}
    if operation is not None and answer.status < 300:
        content = operation["responses"][str(answer.status)]["content"]
        kind = answer.headers["Content-Type"].split(";")[0]
        if kind not in content:
            ok(False, f"{method} {target}: content type", kind)
        if kind != "application/json":
            return
        schema = content[kind]["schema"]
    if method == "HEAD":
        return
    try:
        found = mistakes(schema, json.loads(data))
    except ValueError as error:
        found = [str(error), data]
    if found:
        ok(False, f"{method} {target}: is as the document says", *found)
