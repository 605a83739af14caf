"""Near duplicates alone, by one of three ways: ``python tests/benchmarks/peer_near.py ours|datasketch|rensa ROOT``.

Reads the inputs of all collected outcomes, makes word triples of them, and keeps each that is not near (0.8) to one that
was kept before. ``ours`` compares exactly; the others take what MinHash (128 values) and LSH give as a candidate for
near when the estimate says so. Prints one JSON object.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
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


def ours(texts: Iterator[str]) -> tuple[int, int]:
    """Keep by exact comparison; the triples are held in memory, as the others hold their signatures."""
    from cortex_autolearn.training.nearness import Nearness, Rarity, Words  # noqa: PLC0415 - each way pays for itself

    reader, rarity = Words(), Rarity(4_000_000)
    shelf = []
    for text in texts:
        shelf.append(reader.triples(text))
        rarity.count(shelf[-1])
    nearness = Nearness(THRESHOLD, rarity, shelf.__getitem__)
    kept = 0
    for number, triples in enumerate(shelf):
        if nearness.near(triples) is None:
            nearness.keep(number, triples)
            kept += 1
    return len(shelf), kept


def datasketch(texts: Iterator[str]) -> tuple[int, int]:
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
    return count, len(kept)


def rensa(texts: Iterator[str]) -> tuple[int, int]:
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
    return count, len(kept)


WAYS: dict[str, Callable[[Iterator[str]], tuple[int, int]]] = {"ours": ours, "datasketch": datasketch, "rensa": rensa}


def main() -> None:
    """Run one way and print what it kept."""
    way, root = sys.argv[1], Path(sys.argv[2])
    count, kept = WAYS[way](inputs(root))
    print(json.dumps({"way": way, "inputs": count, "kept": kept}))


if __name__ == "__main__":
    main()
