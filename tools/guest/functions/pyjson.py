# SPDX-License-Identifier: Apache-2.0
"""pyjson: parse a JSON order list, group it and render an HTML report (CPython).

The answer is the SHA-256 of the report, so it does not depend on the boot.
"""
import collections
import hashlib
import html
import json
import random
import string

import serve

ROW = string.Template("<tr class=$css><td>$who</td><td>$city</td><td>$what</td><td>$sum</td></tr>\n")
PAGE = string.Template("<html><head><title>$title</title></head><body>\n$body</body></html>\n")


def make_orders(count):
    """A fixed pseudo-random order list, as the JSON text a client would post."""
    rng = random.Random(2024)

    def word(low, high):
        return "".join(rng.choices("etaoinshrdlu" "cmfwyp", k=rng.randint(low, high)))

    names = [word(3, 8).title() for _ in range(600)]
    cities = [word(5, 11).title() + " <" + word(2, 2).upper() + ">" for _ in range(60)]
    goods = [word(4, 9) + " & " + word(4, 9) for _ in range(300)]
    return json.dumps([{
        "id": n,
        "who": rng.choice(names) + " " + rng.choice(names),
        "city": rng.choice(cities),
        "items": [{"what": rng.choice(goods), "n": rng.randint(1, 9), "cents": rng.randint(99, 9999)}
                  for _ in range(rng.randint(1, 4))],
        "note": " ".join(word(2, 9) for _ in range(rng.randint(0, 12))),
    } for n in range(count)])


def report(text):
    by_city = collections.defaultdict(list)
    for order in json.loads(text):
        by_city[order["city"]].append(order)
    parts = []
    for city in sorted(by_city):
        total = 0
        for order in sorted(by_city[city], key=lambda o: (o["who"], o["id"])):
            cents = sum(item["n"] * item["cents"] for item in order["items"])
            total += cents
            parts.append(ROW.substitute(
                css="big" if cents > 50000 else "small", who=html.escape(order["who"]), city=html.escape(city),
                what=html.escape(", ".join(item["what"] for item in order["items"])), sum=f"{cents / 100:.2f}"))
        parts.append(f"<!-- {len(by_city[city])} orders, {total} -->\n")
    return PAGE.substitute(title="orders", body="".join(parts))


ORDERS = make_orders(3500)


def answer():
    page = report(ORDERS)
    return f"pyjson {hashlib.sha256(page.encode()).hexdigest()} {len(page)}"


serve.forever(answer)
