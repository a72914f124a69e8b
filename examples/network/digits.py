#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""digits.py | redis-cli --pipe    - train a network that reads digits, and bring it and 200 digits into a table

The digits are drawn here, from a seed: strokes on 8 x 8 points, moved, turned, stretched and smudged. The network has two hidden
layers, 64-32-16-10, and learns by stochastic gradient descent; no more than Python's standard library is used, which
takes some seconds. Keys:

    digits:0 digits:1 digits:2    weights of the layers, as network.js describes them
    digit:0 to digit:199          64 bytes, the points of digits that the network has not learnt from
"""
import math
import operator
import random
import struct
import sys

SIDE = 8
SHAPE = (SIDE * SIDE, 32, 16, 10)
LEARNT, TESTED, ROUNDS = 3000, 200, 4
RATE = 0.05

# Strokes of each digit, as ways through points of a square; y grows downwards.
STROKES = (
    ("0.5,0 0.85,0.2 0.85,0.8 0.5,1 0.15,0.8 0.15,0.2 0.5,0",),
    ("0.25,0.25 0.55,0 0.55,1",),
    ("0.15,0.2 0.5,0 0.85,0.25 0.15,1 0.85,1",),
    ("0.15,0 0.85,0 0.45,0.4 0.85,0.7 0.5,1 0.15,0.85",),
    ("0.7,1 0.7,0 0.1,0.7 0.9,0.7",),
    ("0.85,0 0.2,0 0.2,0.45 0.6,0.4 0.85,0.7 0.5,1 0.15,0.9",),
    ("0.75,0 0.25,0.4 0.15,0.75 0.5,1 0.85,0.75 0.5,0.5 0.2,0.65",),
    ("0.1,0 0.9,0 0.4,1", "0.3,0.5 0.8,0.5"),
    ("0.5,0.45 0.2,0.25 0.5,0 0.8,0.25 0.5,0.45 0.15,0.75 0.5,1 0.85,0.75 0.5,0.45",),
    ("0.8,0.35 0.5,0.5 0.15,0.25 0.5,0 0.8,0.25 0.75,0.6 0.5,1",),
)
WAYS = tuple(tuple(tuple(tuple(map(float, point.split(","))) for point in stroke.split()) for stroke in strokes)
             for strokes in STROKES)


# ---- digits ----

def distance(x, y, ax, ay, bx, by):
    """From a point to the line from A to B."""
    dx, dy = bx - ax, by - ay
    along = max(0.0, min(1.0, ((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy)))
    return math.hypot(x - ax - along * dx, y - ay - along * dy)


def draw(digit, dice):
    """A digit as SIDE * SIDE bytes, 0 for paper to 255 for ink."""
    turn, wide, high = dice.gauss(0, 0.1), dice.uniform(0.55, 0.75), dice.uniform(0.7, 0.85)
    left, up = 0.5 + dice.gauss(0, 0.04), 0.5 + dice.gauss(0, 0.04)
    lines = []
    for stroke in WAYS[digit]:
        way = []
        for x, y in stroke:
            x, y = (x - 0.5) * wide + dice.gauss(0, 0.02), (y - 0.5) * high + dice.gauss(0, 0.02)
            way.append((left + x * math.cos(turn) - y * math.sin(turn), up + x * math.sin(turn) + y * math.cos(turn)))
        lines += [(*a, *b) for a, b in zip(way, way[1:])]
    points = []
    for row in range(SIDE):
        for column in range(SIDE):
            near = min(distance((column + 0.5) / SIDE, (row + 0.5) / SIDE, *line) for line in lines)
            ink = 255 * math.exp(-(near * 11) ** 2) + dice.gauss(0, 20)
            points.append(max(0, min(255, round(ink))))
    return bytes(points)


def examples(count, seed):
    """COUNT pairs of a digit and how it was drawn."""
    dice = random.Random(seed)
    return [(digit, draw(digit, dice)) for digit in (dice.randrange(10) for _ in range(count))]


# ---- the network ----
# A layer is a row of weights for each output: the one for the constant 1, then one for each input.

def dot(row, inputs):
    return row[0] + sum(map(operator.mul, row[1:], inputs))


def forward(layers, image):
    """What all layers give for an image; the last are the probabilities of the digits."""
    given = [[point / 255 for point in image]]
    for number, layer in enumerate(layers):
        sums = [dot(row, given[-1]) for row in layer]
        if number < len(layers) - 1:
            given.append([max(0.0, one) for one in sums])
        else:
            most = max(sums)
            powers = [math.exp(one - most) for one in sums]
            given.append([power / sum(powers) for power in powers])
    return given


def learn(layers, digit, image):
    """One step down the gradient of -log(probability of DIGIT)."""
    given = forward(layers, image)
    errors = [probability - (place == digit) for place, probability in enumerate(given[-1])]
    for layer, inputs in zip(reversed(layers), reversed(given[:-1])):
        blamed = [0.0] * len(inputs)
        for row, error in zip(layer, errors):
            if error != 0:
                blamed = [one + error * weight for one, weight in zip(blamed, row[1:])]
                step = RATE * error
                row[0] -= step
                row[1:] = [weight - step * one for weight, one in zip(row[1:], inputs)]
        errors = [one if given_one > 0 else 0.0 for one, given_one in zip(blamed, inputs)]


def rounded(layers):
    """The same with weights that are 32 bits long, as they are stored."""
    return [[list(struct.unpack(f"<{len(row)}f", struct.pack(f"<{len(row)}f", *row))) for row in layer]
            for layer in layers]


def train(seed=1):
    """The layers of a network that has learnt."""
    dice = random.Random(seed)
    layers = [[[0.0] + [dice.gauss(0, math.sqrt(2 / width)) for _ in range(width)] for _ in range(outputs)]
              for width, outputs in zip(SHAPE, SHAPE[1:])]
    lessons = examples(LEARNT, seed)
    for _ in range(ROUNDS):
        dice.shuffle(lessons)
        for digit, image in lessons:
            learn(layers, digit, image)
    return rounded(layers)


def held_out(seed=1):
    """Digits that train() has not seen."""
    return examples(TESTED, f"{seed} held out")


# ---- into a table ----

def value_of(layer):
    """A layer as network.js reads it."""
    numbers = [weight for row in layer for weight in row]
    return struct.pack(f"<{len(numbers)}f", *numbers)


def request(*words):
    """A command as clients of Redis send it."""
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def main():
    if len(sys.argv) > 1:
        sys.exit(__doc__)
    for number, layer in enumerate(train()):
        sys.stdout.buffer.write(request("SET", f"digits:{number}", value_of(layer)))
    for number, (_, image) in enumerate(held_out()):
        sys.stdout.buffer.write(request("SET", f"digit:{number}", image))


if __name__ == "__main__":
    main()
