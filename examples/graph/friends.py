#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""friends.py make [SEED] > friends.txt    - make a network of friends, one friendship a line: two numbers
friends.py load < friends.txt | redis-cli --pipe    - bring such a file into a table

What `make` makes has the shape of SNAP's ego-Facebook (4,039 people, 88,234 friendships), without anybody's data: as many
friends a person as there, found mostly among those with near numbers, so that friends of friends often are
friends. SNAP's own file facebook_combined.txt can be loaded as well.
"""
import random
import struct
import sys

PEOPLE, FRIENDSHIPS = 4039, 88234
# Counts of people and friendships: https://snap.stanford.edu/data/ego-Facebook.html. Friends of a person: quartiles and
# the ten with most, as they are said of that file; nobody counted them here.
QUARTILES = (1, 11, 25, 57)
MOST = (1045, 792, 755, 547, 347, 294, 291, 254, 245, 235)

NEAR = 80           # how far away by number friends are looked for
FAR_SHARE = 0.003    # of the friends may be anybody
SWAP_NEAR = 500     # how many pairs away another partner is looked for at first


def degrees():
    """How many friends each person has, in ascending order."""
    count = PEOPLE - len(MOST)
    quarter = PEOPLE // 4
    low = [round(start + (end - start) * i / quarter)
           for start, end in zip(QUARTILES, QUARTILES[1:]) for i in range(quarter)]
    # Above the last quartile a power of the rank, with the exponent that makes the sum right.
    high = lambda power: [round(QUARTILES[3] + (MOST[-1] - QUARTILES[3]) * (i / (count - len(low))) ** power)
                          for i in range(count - len(low))]
    rest = 2 * FRIENDSHIPS - sum(low) - sum(MOST)
    below, above = 0.1, 100.0
    while above - below > 1e-9:
        middle = (below + above) / 2
        below, above = (middle, above) if sum(high(middle)) > rest else (below, middle)
    upper = high(above)
    for i in range(rest - sum(upper)):
        upper[-1 - i] += 1
    return low + upper + sorted(MOST)


def make(seed=1):
    """The friendships, as pairs of numbers, the smaller first, in order."""
    dice = random.Random(seed)
    wanted = degrees()
    dice.shuffle(wanted)
    # Each person holds out a hand for each friend, somewhere near; hands that come to lie side by side take each other.
    hands = []
    for person, count in enumerate(wanted):
        reach = max(NEAR, 1.6 * count)
        for _ in range(count):
            far = dice.random() < FAR_SHARE
            at = dice.random() * PEOPLE if far else (person + (dice.random() - 0.5) * reach) % PEOPLE
            hands.append((at, person))
    hands.sort()
    pairs, settled, again = set(), [], []
    for (_, one), (_, other) in zip(hands[::2], hands[1::2]):
        pair = (min(one, other), max(one, other))
        if one == other or pair in pairs:
            again.append((pair, len(settled)))
        else:
            pairs.add(pair)
            settled.append(pair)
    # Who has taken his own hand, or a friend's once more, changes partners with a pair not far away.
    for (one, other), place in again:
        around = SWAP_NEAR
        while True:
            at = round(place + dice.uniform(-around, around)) % len(settled)
            around += 1
            left, right = settled[at]
            new = [(min(one, left), max(one, left)), (min(other, right), max(other, right))]
            if new[0] != new[1] and all(a != b and (a, b) not in pairs for a, b in new):
                break
        pairs.remove((left, right))
        pairs.update(new)
        settled[at] = new[0]
    return sorted(pairs)


def lists(pairs):
    """{person: the friends in ascending order}"""
    found = {}
    for one, other in pairs:
        found.setdefault(one, []).append(other)
        found.setdefault(other, []).append(one)
    return {person: sorted(friends) for person, friends in sorted(found.items())}


def value_of(friends):
    """A list as graph.js reads it: 32-bit numbers, little-endian."""
    return struct.pack(f"<{len(friends)}I", *friends)


def request(*words):
    """A command as clients of Redis send it."""
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def main():
    if sys.argv[1:2] == ["make"]:
        for one, other in make(int(sys.argv[2]) if len(sys.argv) > 2 else 1):
            print(one, other)
    elif sys.argv[1:] == ["load"]:
        pairs = [tuple(map(int, line.split())) for line in sys.stdin]
        for person, friends in lists(pairs).items():
            sys.stdout.buffer.write(request("SET", person, value_of(friends)))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
