"""An exemplar model of 10,000 examples: how long it trains, how large it is, how quick a lookup is.

``python tests/benchmarks/exemplars.py [--examples 10000] [--lookups 1000] [--words 0] [--json]``

The examples are those of the simulated fleet; ``--words`` adds as many words to each question, drawn as words are in
texts: a few often, most rarely.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import measure

from cortex_autolearn.exemplars import open_model
from cortex_autolearn.model import layout
from cortex_autolearn.testing.dice import Dice
from cortex_autolearn.testing.work import MASTERS, compose

BAR = {"lookup_p99_ms": 25, "index_mb": 50, "train_s": 60, "train_peak_mb": 150}
VOCABULARY = 20_000

TRAIN = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from cortex_autolearn.adapters.trainers.exemplar import ExemplarTrainer
from cortex_autolearn.model.training_jobs import DatasetRef, Spec
from cortex_autolearn.testing import FakeClock

root, train, validation = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
dataset = DatasetRef("0" * 12, "dataset", train, validation)
spec = Spec(backend="exemplar", model_id="ft-20261122-001", scope="global", base="claude-haiku-5-5", dataset=dataset)
trainer = ExemplarTrainer(root, FakeClock(datetime(2026, 11, 22, tzinfo=UTC)))
trainer.submit(spec, "token")
job = trainer.poll("token")
assert job.state == "succeeded", job
"""
IMPORT = """
import sys, time
began = time.perf_counter()
import cortex_autolearn.exemplars
print(time.perf_counter() - began, *(name for name in ("sqlite3", "asyncio", "msgspec") if name in sys.modules))
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--lookups", type=int, default=1_000)
    parser.add_argument("--words", type=int, default=0, help="words added to each question")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with measure.workspace(None) as root:
        result = _measured(root, options.examples, options.lookups, Texts(options.words))
    if options.json:
        print(json.dumps(result, indent=1))
        return
    print(
        measure.table(
            ["figure", "measured", "bar"], [[name, value, BAR.get(name, "")] for name, value in result.items()]
        )
    )


class Texts:
    """Work of the simulated fleet, with words added."""

    def __init__(self, words: int) -> None:
        self._dice = Dice("exemplars", words)
        self._words = words
        self._random = random.Random(words)
        self._vocabulary = [f"w{number:x}" for number in range(VOCABULARY)]
        self._weights = list(accumulate(1 / (number + 10) for number in range(VOCABULARY)))

    def draw(self, count: int) -> Iterator[tuple[str, str, str, str]]:
        """Yield masters, task types, questions and answers."""
        for number in range(count):
            master = MASTERS[number % len(MASTERS)]
            work = compose(self._dice, master)
            added = self._random.choices(self._vocabulary, cum_weights=self._weights, k=self._words)
            yield master, work.task_type, " ".join([work.ask, *added]), work.good


def _measured(root: Path, examples: int, lookups: int, texts: Texts) -> dict[str, Any]:
    counts = {"train": examples, "validation": examples // 5}
    _freeze(root / "dataset", counts, texts)
    ran = measure.timed([sys.executable, "-c", TRAIN, str(root), *map(str, counts.values())])
    folder = root / layout.MODELS / "ft-20261122-001"
    manifest = json.loads((folder / "manifest.json").read_bytes())
    opened = time.perf_counter()
    model = open_model(folder)
    opened = time.perf_counter() - opened
    seconds, cpu_seconds = [], []
    for master, task_type, asked, _ in texts.draw(lookups):
        began, began_cpu = time.perf_counter(), time.thread_time()
        model.request(system=f"You are the {master}.", input=asked, master=master, task_type=task_type)
        seconds.append(time.perf_counter() - began)
        cpu_seconds.append(time.thread_time() - began_cpu)
    model.close()
    seconds.sort()
    cpu_seconds.sort()
    imported = subprocess.run([sys.executable, "-c", IMPORT], check=True, capture_output=True, text=True).stdout.split()
    return {
        "examples": examples,
        "lookup_p50_ms": seconds[len(seconds) // 2] * 1e3,
        "lookup_p99_ms": seconds[len(seconds) * 99 // 100] * 1e3,
        "lookup_max_ms": seconds[-1] * 1e3,
        "lookup_p99_cpu_ms": cpu_seconds[len(seconds) * 99 // 100] * 1e3,
        "index_mb": (folder / "index.db").stat().st_size / 1e6,
        "model_mb": sum(path.stat().st_size for path in folder.iterdir()) / 1e6,
        "open_ms": opened * 1e3,
        "import_ms": float(imported[0]) * 1e3,
        "imported": " ".join(imported[1:]),
        "train_s": ran.wall_s,
        "train_cpu_s": ran.cpu_s,
        "train_peak_mb": ran.peak_rss_mb,
        "k": manifest["recipe"]["k"],
        "quality": manifest["metrics"]["quality"],
        "quality_retrieved": manifest["metrics"]["quality_retrieved"],
        "quality_random": manifest["metrics"]["quality_random"],
    }


def _freeze(folder: Path, counts: dict[str, int], texts: Texts) -> None:
    folder.mkdir()
    listed: dict[str, list[dict[str, str]]] = {}
    for part, count in counts.items():
        listed[part] = []
        with (folder / f"{part}.jsonl").open("w", encoding="utf-8") as file:
            for number, (master, task_type, asked, answered) in enumerate(texts.draw(count)):
                messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
                file.write(json.dumps({"system": "S", "messages": messages}) + "\n")
                listed[part].append({"task_id": f"{part}-{number}", "master": master, "task_type": task_type})
    (folder / "manifest.json").write_text(json.dumps({"examples": listed}))


if __name__ == "__main__":
    main()
