"""The search for near duplicates on texts that are hard for it: time must grow as they do, whatever they are.

``python tests/benchmarks/near.py [--texts 10000 40000] [--kinds NAME ...] [--json]``

Microseconds a text, of this process alone: signature, search and keeping, without reading and without word triples.
``crowded`` are those that could not be told from the others in time.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from typing import Any

import measure

from cortex_autolearn.training.nearness import CROWDED, Nearness, Words
from cortex_autolearn.training.rare import Rarity

THRESHOLD = 0.8


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, nargs="+", default=[10_000, 40_000])
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = [searched(kind, count) for kind in options.kinds for count in options.texts]
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    print(measure.table(list(rows[0]), [list(row.values()) for row in rows]))


def searched(kind: str, count: int) -> dict[str, Any]:
    """Keep of so many texts of a kind those that are not near to one that was kept."""
    draw, words = random.Random(1), Words()
    one = KINDS[kind](draw, vocabulary(draw))
    triples = [words.triples(one()) for _ in range(count)]
    rarity = Rarity(sum(map(len, triples)))
    for each in triples:
        rarity.count(each)
    found: list[int | None] = []
    began = time.process_time()
    nearness = Nearness(THRESHOLD, rarity, triples.__getitem__, expected=count)
    for number, each in enumerate(triples):
        sketch = nearness.sketch(each)
        found.append(nearness.near(sketch))
        if found[-1] is None:
            nearness.keep(number, sketch)
    took = time.process_time() - began
    return {
        "texts": kind,
        "number": count,
        "us a text": took / count * 1e6,
        "kept": found.count(None),
        "crowded": found.count(CROWDED),
    }


def vocabulary(draw: random.Random) -> list[str]:
    """Return made-up words."""
    return ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randrange(2, 10))) for _ in range(8_000)]


def prose(draw: random.Random, words: list[str]) -> Callable[[], str]:
    """Texts of their own."""
    return lambda: " ".join(draw.choices(words, k=draw.randrange(30, 120)))


def stock(draw: random.Random, words: list[str]) -> Callable[[], str]:
    """Five of 200 stock sentences: nothing in a text is rare."""
    sentences = [" ".join(draw.choices(words, k=draw.randrange(8, 16))) for _ in range(200)]
    return lambda: " ".join(draw.sample(sentences, 5))


def template(draw: random.Random, words: list[str]) -> Callable[[], str]:
    """One template of 60 words with three numbers: just not near, and all alike."""
    text = draw.choices(words, k=60)
    return lambda: " ".join(word if place % 20 != 10 else str(draw.randrange(10**9)) for place, word in enumerate(text))


def few_values(draw: random.Random, words: list[str]) -> Callable[[], str]:
    """One template of 25 words with three places, for each of which there are 100 words."""
    text, values = draw.choices(words, k=25), [draw.sample(words, 100) for _ in range(3)]
    return lambda: " ".join(
        word if place % 8 != 4 else draw.choice(values[place // 8]) for place, word in enumerate(text)
    )


def boilerplate(draw: random.Random, words: list[str]) -> Callable[[], str]:
    """A preface of 60 words and 40 of their own."""
    preface = " ".join(draw.choices(words, k=60))
    return lambda: f"{preface} {' '.join(draw.choices(words, k=40))}"


def same(draw: random.Random, words: list[str]) -> Callable[[], str]:
    """One text, of which each has another word."""
    text = draw.choices(words, k=60)

    def one() -> str:
        place = draw.randrange(60)
        return " ".join([*text[:place], draw.choice(words), *text[place + 1 :]])

    return one


def of_two(draw: random.Random, words: list[str]) -> Callable[[], str]:
    """Thirty places, each with one of two phrases: everybody is like everybody, and nothing is rare."""
    phrases = [[" ".join(draw.choices(words, k=4)) for _ in range(2)] for _ in range(30)]
    return lambda: " ".join(draw.choice(pair) for pair in phrases)


KINDS: dict[str, Callable[[random.Random, list[str]], Callable[[], str]]] = {
    "prose": prose,
    "stock": stock,
    "template": template,
    "few values": few_values,
    "boilerplate": boilerplate,
    "same": same,
    "of two": of_two,
}

if __name__ == "__main__":
    main()
