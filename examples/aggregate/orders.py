#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""orders.py [COUNT [SEED]] | redis-cli --pipe    - bring COUNT orders (20,000) of a shop into a table

Orders are numbered from 1; one in 40 was cancelled and is not there. Some products sell much better than others, some
customers come back often, and more is sold on weekends.
"""
import random
import struct
import sys

RECORD = struct.Struct("<IIIIdII")      # as orders.js describes it; the address follows
FIELDS = ("time", "customer", "product", "pieces", "amount", "region", "state")
FIRST_DAY, DAYS, DAY = 1767225600, 180, 86400       # from the first of January 2026, a Thursday, UTC
CUSTOMERS, PRODUCTS, REGIONS = 3000, 200, 12
STREETS = ("Lindenstraße", "Rue de l'Église", "Mill Lane", "Gran Vía", "ul. Długa", "Via Roma", "Stationsweg")


def make(count=20000, seed=1):
    """{number: (time, customer, product, pieces, amount, region, state, address)}"""
    dice = random.Random(seed)
    weekend = [1.8 if day % 7 in (2, 3) else 1.0 for day in range(DAYS)]
    days = sorted(dice.choices(range(DAYS), weekend, k=count))
    orders = {}
    for number, day in enumerate(days, 1):
        customer, product = int(dice.paretovariate(0.8)) % CUSTOMERS, int(dice.paretovariate(0.6)) % PRODUCTS
        pieces = 1 + int(dice.expovariate(0.7))
        amount = round(100 * pieces * (5 + product * 37 % 113) * dice.uniform(0.8, 1.0))
        state = dice.choices(range(4), (5, 10, 80, 5))[0]
        address = f"{dice.choice(STREETS)} {dice.randrange(1, 200)}, {dice.randrange(10000, 99999)}"
        if dice.random() >= 1 / 40:
            orders[number] = (FIRST_DAY + day * DAY + dice.randrange(DAY), customer, product, pieces, amount,
                              customer % REGIONS, state, address)
    return orders


def value_of(order):
    return RECORD.pack(*order[:-1]) + order[-1].encode()


def request(*words):
    """A command as clients of Redis send it."""
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def main():
    if len(sys.argv) > 3 or not all(word.isdigit() for word in sys.argv[1:]):
        sys.exit(__doc__)
    for number, order in make(*map(int, sys.argv[1:])).items():
        sys.stdout.buffer.write(request("SET", number, value_of(order)))


if __name__ == "__main__":
    main()
