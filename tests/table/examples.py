# SPDX-License-Identifier: Apache-2.0
"""examples.py - what the tests of examples/ share: a table in which an example has been run by its own script."""
import importlib.util
import shutil
import sys

sys.dont_write_bytecode = True
from tables import *

EXAMPLES = pathlib.Path(__file__).resolve().parent.parent.parent / "examples"


def script_of(example, name):
    """A Python script of an example, as a module."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / example / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def table_of(example):
    """A client of a table that the example's script `run` has filled; ends the test where it cannot run."""
    if not shutil.which("redis-cli"):
        skip("redis-cli is not installed", example)
        done()
    front = Front()
    client = front.client()
    answer = client.ask("FUNCTION", "LOAD", "#!js name=probe\nredis.registerFunction('probe', () => 1)")
    if isinstance(answer, Error) and "engine" in answer:
        skip(answer, example)
        done()
    client.ask("FUNCTION", "DELETE", "probe")
    ran = subprocess.run([EXAMPLES / example / "run"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600,
                         env={**clean_env(), "SOCKET": front.path, "PYTHONDONTWRITEBYTECODE": "1"})
    ok(ran.returncode == 0 and ran.stderr == "" and "errors: 0" in ran.stdout and "(error)" not in ran.stdout,
       f"{example}/run runs", ran.stdout[-2000:], ran.stderr[-2000:])
    return client


def refuses_words(client, words, *request):
    answer = client.ask(*request)
    ok(isinstance(answer, Error) and words in answer, f"{' '.join(map(str, request))[:60]}: {words}", answer)
