# SPDX-License-Identifier: Apache-2.0
"""pymat: numeric work in plain CPython: solve a linear system, blur and edge-detect an image.

The answer is a rounded residual and checksums, so it does not depend on the boot.
"""
import array
import math
import random
import zlib

import serve

RNG = random.Random(77)
N = 90
WIDTH, HEIGHT = 320, 240
MATRIX = [array.array("d", (RNG.uniform(-1, 1) + (N if i == j else 0) for j in range(N))) for i in range(N)]
RIGHT = array.array("d", (RNG.uniform(-1, 1) for _ in range(N)))
PICTURE = bytearray(
    int(127 + 80 * math.sin(x / 17) * math.cos(y / 23)) + RNG.randrange(32) for y in range(HEIGHT) for x in range(WIDTH))


def solve(matrix, right):
    """Gauss elimination; the diagonal dominates, so no pivoting."""
    m = [array.array("d", row) for row in matrix]
    b = array.array("d", right)
    for k in range(N):
        for i in range(k + 1, N):
            f = m[i][k] / m[k][k]
            if f:
                m[i] = array.array("d", (x - f * y for x, y in zip(m[i], m[k])))
                b[i] -= f * b[k]
    out = array.array("d", bytes(8 * N))
    for i in reversed(range(N)):
        out[i] = (b[i] - sum(map(float.__mul__, m[i][i + 1:], out[i + 1:]))) / m[i][i]
    return out


def filtered(picture):
    """A 3-tap blur along the rows, then the absolute difference of neighbouring rows."""
    blur = bytearray(len(picture))
    for y in range(HEIGHT):
        row = picture[y * WIDTH:(y + 1) * WIDTH]
        blur[y * WIDTH + 1:(y + 1) * WIDTH - 1] = bytes((a + 2 * b + c) >> 2 for a, b, c in zip(row, row[1:], row[2:]))
    return bytes(abs(a - b) for a, b in zip(blur, blur[WIDTH:]))


def answer():
    x = solve(MATRIX, RIGHT)
    error = max(abs(sum(map(float.__mul__, row, x)) - r) for row, r in zip(MATRIX, RIGHT))
    edges = filtered(PICTURE)
    return f"pymat {sum(x):.9f} {'exact' if error < 1e-9 else 'wrong'} {zlib.crc32(edges):08x} {zlib.adler32(edges):08x}"


serve.forever(answer)
