#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_example_graph.py - examples/graph: the network has the shape it is said to have, and the library answers as plain
searches over it do."""
import statistics
import sys

sys.dont_write_bytecode = True
from examples import *

friends = script_of("graph", "friends")
ASKED, PAIRS = 25, 60


def distances(circles, start, hops=None):
    """{person: friendships away from START}, by breadth-first search."""
    found, waiting = {start: 0}, [start]
    for person in waiting:
        if found[person] == hops:
            break
        for friend in circles[person]:
            if friend not in found:
                found[friend] = found[person] + 1
                waiting.append(friend)
    return found


def test_shape():
    """The figures that the generator aims at."""
    pairs = friends.make()
    circles = {person: set(known) for person, known in friends.lists(pairs).items()}
    degrees = sorted(map(len, circles.values()))
    is_((len(circles), len(set(pairs))), (4039, 88234), "4,039 people, 88,234 friendships")
    ok(all(one < other for one, other in pairs), "nobody is his own friend")
    is_(sorted(circles), list(range(4039)), "numbered from 0")
    is_(statistics.quantiles(degrees, n=4, method="inclusive"), [11, 25, 57], "quartiles of friends a person")
    is_(degrees[:1] + degrees[-10:], [1, 235, 245, 254, 291, 294, 347, 547, 755, 792, 1045], "the fewest and the most")
    share = []
    for person, known in circles.items():
        if len(known) < 2 or person % 8:
            continue
        share.append(sum(len(circles[one] & known) for one in known) / (len(known) * (len(known) - 1)))
    clustering = sum(share) / len(share)
    ok(0.5 < clustering < 0.7, "about as clustered as ego-Facebook, 0.6055", clustering)
    is_(len(distances(circles, 0)), 4039, "everybody is connected")
    is_(friends.make(1), pairs, "the same seed makes the same")
    ok(friends.make(2) != pairs, "another one another")
    # What `run` has added.
    circles[17].add(2000)
    circles[2000].add(17)
    return circles


def test_reach(client, circles, dice):
    wrong = 0
    for start in dice.sample(sorted(circles), ASKED):
        away = list(distances(circles, start, 4).values())
        wrong += client.ask("FCALL_RO", "reach", 1, start, 4) != [away.count(hop) for hop in range(1, 5)]
    is_(wrong, 0, f"people around {ASKED} people")
    is_(client.ask("FCALL", "reach", 1, 17, 0), [], "no hops")
    is_(client.ask("FCALL", "reach", 1, 5000, 2), [0, 0], "a person who is not there has no friends")


def test_common(client, circles, dice):
    wrong = 0
    for _ in range(PAIRS):
        one = dice.choice(sorted(circles))
        other = dice.choice(sorted(circles[one]))
        wrong += client.ask("FCALL_RO", "common", 2, one, other) != sorted(circles[one] & circles[other])
    is_(wrong, 0, f"common friends of {PAIRS} pairs")


def test_suggest(client, circles, dice):
    wrong = 0
    for person in dice.sample(sorted(circles), ASKED):
        shared = {}
        for friend in circles[person]:
            for stranger in circles[friend] - circles[person] - {person}:
                shared[stranger] = shared.get(stranger, 0) + 1
        best = sorted(shared.items(), key=lambda item: (-item[1], item[0]))[:10]
        wrong += client.ask("FCALL_RO", "suggest", 1, person, 10) != [list(one) for one in best]
    is_(wrong, 0, f"suggestions for {ASKED} people")


def test_path(client, circles, dice):
    broken = longer = 0
    for _ in range(PAIRS):
        start, end = dice.sample(sorted(circles), 2)
        way = client.ask("FCALL_RO", "path", 2, start, end)
        broken += (way[0], way[-1]) != (start, end) or any(b not in circles[a] for a, b in zip(way, way[1:]))
        longer += len(way) - 1 != distances(circles, start)[end]
    is_((broken, longer), (0, 0), f"shortest ways between {PAIRS} pairs")
    is_(client.ask("FCALL", "path", 2, 17, 17), [17], "a way to oneself")
    is_(client.ask("FCALL", "path", 2, 17, 5000), None, "no way to who is not there")
    client.ask("FCALL", "befriend", 2, 6000, 6001)
    is_(client.ask("FCALL", "path", 2, 6000, 17), None, "nor to an island")


def test_befriend(client):
    is_(client.ask("FCALL", "befriend", 2, 7000, 7001), 1, "two become friends")
    is_(client.ask("FCALL", "befriend", 2, 7001, 7000), 0, "once")
    for other in (9, 123456, 7000 * 2, 1):
        client.ask("FCALL", "befriend", 2, 7000, other)
    is_(client.ask("GET", 7000).encode("latin-1"), friends.value_of([1, 9, 7001, 14000, 123456]), "lists stay in order")
    is_(client.ask("FCALL", "common", 2, 9, 123456), [7000], "on both sides")
    refuses_words(client, "his own friend", "FCALL", "befriend", 2, 7000, 7000)
    refuses_words(client, "write flag", "FCALL_RO", "befriend", 2, 7000, 8000)


def test_refusals(client):
    refuses_words(client, "a person", "FCALL", "reach", 1, "nobody", 2)
    refuses_words(client, "a person", "FCALL", "reach", 1, 1 << 24, 2)
    refuses_words(client, "hops", "FCALL", "reach", 1, 17, 1000)
    refuses_words(client, "hops", "FCALL", "reach", 1, 17)
    refuses_words(client, "a count", "FCALL", "suggest", 1, 17, 1e9)
    # A list that leads beyond all numbers, and one that ends within a number.
    client.ask("SET", 8000, b"\xff\xff\xff\xff")
    refuses_words(client, "numbers are below", "FCALL", "reach", 1, 8000, 2)
    client.ask("SET", 8000, b"\x11\0\0\0\xff")
    is_(client.ask("FCALL", "reach", 1, 8000, 1), [1], "half a number is none")


def main():
    circles = test_shape()
    client = table_of("graph")
    seed = int(os.environ.get("DOR_SEED", time.time_ns() % 1000000))
    print(f"# seed={seed}")
    dice = random.Random(seed)
    for test in (test_reach, test_common, test_suggest, test_path):
        test(client, circles, dice)
    test_befriend(client)
    test_refusals(client)
    done()


if __name__ == "__main__":
    main()
