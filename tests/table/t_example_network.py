#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_example_network.py - examples/network: the network that its script trains reads digits it has not seen, and the library
comes to the probabilities that the script's own pass over the layers gives."""
import struct
import sys

sys.dont_write_bytecode = True
from examples import *

digits = script_of("network", "digits")
LAYERS = ("digits:0", "digits:1", "digits:2")
# Both add up in 64 bits; only the order of two additions differs.
FAR = 1e-9
MUST_READ = 0.92


def call(client, function, layers, *rest):
    return client.ask("FCALL_RO", function, len(layers), *layers, *rest)


def forward(layers, image):
    return digits.forward(layers, image)[-1]


def is_near(got, wanted):
    return len(got) == len(wanted) and all(abs(float(one) - other) <= FAR for one, other in zip(got, wanted))


def test_accuracy(client, layers):
    held_out = digits.held_out()
    learnt = {image for _, image in digits.examples(digits.LEARNT, 1)}
    is_([image for _, image in held_out if image in learnt], [], "no digit of the test was learnt from")
    names = [f"digit:{number}" for number in range(len(held_out))]
    read = call(client, "classify_stored", LAYERS, *names)
    right = sum(got == digit for got, (digit, _) in zip(read, held_out)) / len(held_out)
    print(f"# {right:.1%} are read right")
    ok(right >= MUST_READ, f"at least {MUST_READ:.0%} of the digits are read right", right)
    is_(call(client, "classify", LAYERS, *(image for _, image in held_out)), read, "sent along they are read the same")
    own = [max(range(10), key=forward(layers, image).__getitem__) for _, image in held_out]
    is_(read, own, "and by the script")
    is_(call(client, "classify_stored", LAYERS, "digit:0", "none", "digit:1"), [read[0], None, read[1]], "one that is not there")
    is_(call(client, "classify", LAYERS), [], "no images")


def test_probabilities(client, layers):
    far = 0
    for _, image in digits.examples(100, "others"):
        far += not is_near(call(client, "probabilities", LAYERS, image), forward(layers, image))
    for image in (bytes(64), b"\xff" * 64, bytes(range(0, 256, 4))):
        far += not is_near(call(client, "probabilities", LAYERS, image), forward(layers, image))
    is_(far, 0, "probabilities are those of the script")


def test_shapes(client):
    """Other networks: the library knows no shape."""
    dice, far = random.Random(3), 0
    for shape in ((5, 3), (1, 1), (7, 20, 4, 2, 9), (300, 2)):
        layers = digits.rounded([[[dice.gauss(0, 1) for _ in range(width + 1)] for _ in range(outputs)]
                                 for width, outputs in zip(shape, shape[1:])])
        names = [f"other:{number}" for number in range(len(layers))]
        for name, layer in zip(names, layers):
            client.ask("SET", name, digits.value_of(layer))
        image = dice.randbytes(shape[0])
        far += not is_near(call(client, "probabilities", names, image), forward(layers, image))
    is_(far, 0, "networks of other shapes")


def test_refusals(client):
    image = bytes(64)
    refuses_words(client, "layer 1 is not there", "FCALL", "classify", 2, "digits:0", "none", image)
    refuses_words(client, "the keys are the layers", "FCALL", "classify", 0, image)
    refuses_words(client, "does not go with 63 inputs", "FCALL", "classify", 3, *LAYERS, image[1:])
    client.ask("SET", "odd", "12345")
    refuses_words(client, "layer 0 ends within a number", "FCALL", "classify", 1, "odd", b"")
    refuses_words(client, "does not go with 10 inputs", "FCALL", "classify", 2, "digits:2", "digits:2", bytes(16))
    refuses_words(client, "at most 4096 bytes", "FCALL", "classify", 3, *LAYERS, bytes(5000))
    refuses_words(client, "an image is missing", "FCALL", "probabilities", 3, *LAYERS)
    client.ask("SET", "bad", struct.pack("<130f", *[float("nan")] * 130))
    is_(call(client, "classify", ("bad",), image), [0], "weights that are no numbers make a class all the same")


def main():
    client = table_of("network")
    layers = digits.train()
    is_(client.ask("GET", "digits:1").encode("latin-1"), digits.value_of(layers[1]), "the same seed trains the same weights")
    test_accuracy(client, layers)
    test_probabilities(client, layers)
    test_shapes(client)
    test_refusals(client)
    done()


if __name__ == "__main__":
    main()
