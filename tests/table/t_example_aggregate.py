#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_example_aggregate.py - examples/aggregate: the library's fields, totals and pages are those that a plain computation
over the same orders gives."""
import collections
import sys

sys.dont_write_bytecode = True
from examples import *

orders = script_of("aggregate", "orders")
ALL = (1, 20000)
NAMES = orders.FIELDS


def fits(order, conditions):
    return all((low == "*" or order[NAMES.index(name)] >= low) and (high == "*" or order[NAMES.index(name)] <= high)
               for name, low, high in conditions)


def groups_of(shop, first, last, group, added, conditions):
    """[[group, count, sum, least, greatest]], by group."""
    name, _, step = group.partition("/")
    values = collections.defaultdict(list)
    for number in range(first, last + 1):
        if number in shop and fits(shop[number], conditions):
            key = shop[number][NAMES.index(name)]
            key = key // int(step) * int(step) if step else key
            values[key].append(shop[number][NAMES.index(added)])
    return [[key, len(found), sum(found), min(found), max(found)] for key, found in sorted(values.items())]


def flat(conditions):
    return [word for condition in conditions for word in condition]


def random_question(dice, shop):
    """What totals and top are asked: range, group, field, conditions."""
    first, last = sorted(dice.sample(range(1, 22000), 2))
    group = dice.choice(["customer", "product", "pieces", "region", "state", "time/86400", "time/604800", "amount/5000"])
    conditions = []
    for name in dice.sample(NAMES, dice.randrange(3)):
        column = NAMES.index(name)
        low, high = sorted(dice.choice(list(shop.values()))[column] for _ in range(2))
        conditions.append((name, dice.choice([low, "*"]), dice.choice([high, "*"])))
    return first, last, group, dice.choice(NAMES), conditions


def test_fields(client, shop, dice):
    wrong = 0
    for number in dice.sample(sorted(shop), 50):
        order = shop[number]
        wanted = [order[NAMES.index("amount")], order[-1].encode().decode("latin-1"), order[NAMES.index("time")]]
        wrong += client.ask("FCALL_RO", "fields", 1, number, "amount", "address", "time") != wanted
    is_(wrong, 0, "fields of 50 orders")
    is_(client.ask("FCALL", "fields", 1, min(set(range(1, 20000)) - set(shop)), "time"), None, "an order that was cancelled")
    is_(client.ask("FCALL", "fields", 1, 1), [], "no fields")


def test_totals(client, shop, dice):
    wrong = []
    for _ in range(30):
        first, last, group, added, conditions = question = random_question(dice, shop)
        wanted = groups_of(shop, first, last, group, added, conditions)
        if client.ask("FCALL_RO", "totals", 0, first, last, group, added, *flat(conditions)) != wanted:
            wrong.append(question)
        best = sorted(wanted, key=lambda row: (-row[2], row[0]))[:5]
        if client.ask("FCALL_RO", "top", 0, 5, first, last, group, added, *flat(conditions)) != best:
            wrong.append(("top", question))
    is_(wrong, [], "30 random totals, and the top of each")
    is_(client.ask("FCALL", "totals", 0, 30000, 40000, "state", "amount"), [], "totals of nothing")


def test_pages(client, shop):
    conditions = (("amount", 30000, "*"), ("state", 1, 2))
    cursor, pages, found, longest = 0, 0, {}, 0
    while pages == 0 or cursor != 0:
        cursor, rows = client.ask("FCALL_RO", "find", 0, cursor, 20, "amount,region,address", *flat(conditions))
        found.update({number: rest for number, *rest in rows})
        pages += 1
        longest = max(longest, len(rows))
    wanted = {number: [order[4], order[5], order[-1].encode().decode("latin-1")]
              for number, order in shop.items() if fits(order, conditions)}
    is_(found, wanted, f"all that fit, in {pages} pages")
    ok(pages > len(wanted) / longest, "no page is much longer than asked for", longest)
    ok(longest < 200, "nor all at once", longest)


def test_change(client, shop):
    number = max(shop)
    old = shop[number]
    is_(client.ask("FCALL", "change", 1, number, "state", 3), old[6], "a change answers what was there")
    is_(client.ask("FCALL", "change", 1, number, "amount", 12345), old[4], "of a wide field too")
    is_(client.ask("GET", number).encode("latin-1"), orders.value_of((*old[:4], 12345.0, old[5], 3, old[7])), "nothing else changes")
    refuses_words(client, "no such order", "FCALL", "change", 1, 999999, "state", 3)
    refuses_words(client, "no such field", "FCALL", "change", 1, number, "address", 3)
    refuses_words(client, "state is no such number", "FCALL", "change", 1, number, "state", -1)
    refuses_words(client, "write flag", "FCALL_RO", "change", 1, number, "state", 3)


def test_refusals(client):
    refuses_words(client, "no such field: constructor", "FCALL", "totals", 0, *ALL, "constructor", "amount")
    refuses_words(client, "no such field", "FCALL", "totals", 0, *ALL, "region")
    refuses_words(client, "an order is", "FCALL", "totals", 0, 1, 2 ** 32, "region", "amount")
    refuses_words(client, "an order is", "FCALL", "totals", 0, 1, "", "region", "amount")
    refuses_words(client, "a step is", "FCALL", "totals", 0, *ALL, "time/0", "amount")
    refuses_words(client, "more than 5000 groups", "FCALL", "totals", 0, *ALL, "time", "amount")
    refuses_words(client, "conditions are", "FCALL", "totals", 0, *ALL, "region", "amount", "state", 1)
    refuses_words(client, "a bound is", "FCALL", "totals", 0, *ALL, "region", "amount", "state", "x", 1)
    refuses_words(client, "a count is", "FCALL", "find", 0, 0, 1e6, "amount")
    refuses_words(client, "a cursor is", "FCALL", "find", 0, -1, 10, "amount")
    # Something else among the orders: too short for one.
    client.ask("SET", 30001, "short")
    refuses_words(client, "outside the value", "FCALL", "fields", 1, 30001, "state")


def main():
    client = table_of("aggregate")
    seed = int(os.environ.get("DOR_SEED", time.time_ns() % 1000000))
    print(f"# seed={seed}")
    dice, shop = random.Random(seed), orders.make()
    is_(client.ask("DBSIZE"), len(shop), "all orders are there")
    test_fields(client, shop, dice)
    test_totals(client, shop, dice)
    test_pages(client, shop)
    test_change(client, shop)
    test_refusals(client)
    done()


if __name__ == "__main__":
    main()
