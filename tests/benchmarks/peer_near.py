"""Near duplicates alone, by one of several ways: ``python tests/benchmarks/peer_near.py WAY ROOT``.

Reads the inputs of all collected outcomes, makes word triples of them, and keeps each that is not near (0.8) to one that
was kept before. Prints one JSON object, with the numbers of those that were kept.

- ``ours``: candidates by MinHash bands (rensa's signatures) or by rare triples, compared exactly.
- ``exact``: candidates by rare triples alone, however many; misses nothing.
- ``bands``: candidates by bands alone, however many, compared exactly: what the signatures alone would cost.
- ``datasketch``, ``rensa``: MinHash (128 values) and LSH of that library, near when its estimate says so.
"""

from __future__ import annotations

import json
import re
import sys
from array import array
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path
from typing import Any

THRESHOLD = 0.8
VALUES = 128
BANDS = 32
WORD = re.compile(r"[^\W_]+")


def inputs(root: Path) -> Iterator[str]:
    """Yield the inputs of all collected outcomes."""
    for path in sorted((root / "llm-mesh/auto-learning/hq-outcomes").rglob("*.jsonl")):
        with path.open("rb") as file:
            for line in file:
                yield " ".join(json.loads(line)["input"].casefold().split())


def words(text: str) -> list[str]:
    """Return the word triples of a text, as texts."""
    found = WORD.findall(text)
    return [" ".join(found[start : start + 3]) for start in range(max(1, len(found) - 2))]


def ours(texts: Iterator[str]) -> tuple[int, list[int]]:
    """Keep as a dataset does; the triples are held in memory, as the others hold their signatures."""
    from cortex_autolearn.training.nearness import Nearness, Words  # noqa: PLC0415 - each way pays for itself
    from cortex_autolearn.training.rare import Rarity  # noqa: PLC0415 - as above

    reader = Words()
    shelf = [reader.triples(text) for text in texts]
    rarity = Rarity(sum(map(len, shelf)))
    for triples in shelf:
        rarity.count(triples)
    nearness = Nearness(THRESHOLD, rarity, shelf.__getitem__, expected=len(shelf))
    kept = []
    for number, triples in enumerate(shelf):
        sketch = nearness.sketch(triples)
        if nearness.near(sketch) is None:
            nearness.keep(number, sketch)
            kept.append(number)
    return len(shelf), kept


def exact(texts: Iterator[str]) -> tuple[int, list[int]]:
    """Keep by rare triples alone."""
    from cortex_autolearn.training.nearness import Words  # noqa: PLC0415 - as above
    from cortex_autolearn.training.rare import Rare, Rarity  # noqa: PLC0415 - as above

    reader = Words()
    shelf = [reader.triples(text) for text in texts]
    rarity = Rarity(sum(map(len, shelf)))
    for triples in shelf:
        rarity.count(triples)
    index = Rare(THRESHOLD, rarity)
    kept: list[int] = []
    for number, triples in enumerate(shelf):
        rarest = index.of(triples)
        candidates, _ = index.alike(len(triples), rarest, inf)
        if not triples or not any_near(triples, [shelf[kept[one]] for one in candidates or ()]):
            index.keep(len(triples), rarest)
            kept.append(number)
    return len(shelf), kept


def bands(texts: Iterator[str]) -> tuple[int, list[int]]:
    """Keep by bands alone."""
    from cortex_autolearn.training.bands import Bands  # noqa: PLC0415 - as above
    from cortex_autolearn.training.nearness import Words  # noqa: PLC0415 - as above

    reader = Words()
    shelf = [reader.triples(text) for text in texts]
    index = Bands(THRESHOLD, len(shelf), 1)
    kept: list[int] = []
    for number, triples in enumerate(shelf):
        places = index.places(triples)
        if not any_near(triples, [shelf[kept[one]] for one in index.alike(places)]):
            index.keep(places)
            kept.append(number)
    return len(shelf), kept


def any_near(triples: array[int], others: list[array[int]]) -> bool:
    """Tell whether one of some texts is near to a text."""
    whole = set(triples)
    for other in others:
        shared = len(whole.intersection(other))
        if shared + 1e-9 >= THRESHOLD * (len(whole) + len(other) - shared):
            return True
    return False


def datasketch(texts: Iterator[str]) -> tuple[int, list[int]]:
    """Keep by datasketch's MinHash and LSH."""
    from datasketch import MinHash, MinHashLSH  # noqa: PLC0415 - as above

    index = MinHashLSH(threshold=THRESHOLD, num_perm=VALUES)
    kept: dict[int, Any] = {}
    count = 0
    for number, text in enumerate(texts):
        count += 1
        signature = MinHash(num_perm=VALUES, seed=1)
        signature.update_batch([word.encode() for word in words(text)])
        if not any(kept[key].jaccard(signature) >= THRESHOLD for key in index.query(signature)):
            index.insert(number, signature)
            kept[number] = signature
    return count, list(kept)


def rensa(texts: Iterator[str]) -> tuple[int, list[int]]:
    """Keep by rensa's MinHash and LSH."""
    from rensa import RMinHash, RMinHashLSH  # noqa: PLC0415 - as above

    index = RMinHashLSH(THRESHOLD, VALUES, BANDS)
    kept: dict[int, Any] = {}
    count = 0
    for number, text in enumerate(texts):
        count += 1
        signature = RMinHash(VALUES, 1)
        signature.update(words(text))
        if not any(kept[key].jaccard(signature) >= THRESHOLD for key in index.query(signature)):
            index.insert(number, signature)
            kept[number] = signature
    return count, list(kept)


WAYS: dict[str, Callable[[Iterator[str]], tuple[int, list[int]]]] = {
    "ours": ours,
    "exact": exact,
    "bands": bands,
    "datasketch": datasketch,
    "rensa": rensa,
}


def main() -> None:
    """Run one way and print what it kept."""
    way, root = sys.argv[1], Path(sys.argv[2])
    count, kept = WAYS[way](inputs(root))
    print(json.dumps({"way": way, "inputs": count, "kept": kept}))


if __name__ == "__main__":
    main()
