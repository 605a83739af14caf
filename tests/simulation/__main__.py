"""The command line: one world with ``--seed``, many with ``--seeds``; the exit code tells whether all held."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

from .driver import Outcome, replay, simulate

if TYPE_CHECKING:
    from collections.abc import Iterator

_COUNT_EVERY: Final = 200
"""After so many worlds a long run tells what happened so far."""


def main() -> int:
    """Simulate worlds."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--seed", type=int, help="repeat this world")
    which.add_argument("--seeds", help="simulate the worlds A-B, both included")
    parser.add_argument("--jobs", type=int, default=1, help="processes at once")
    parser.add_argument("--verbose", action="store_true", help="tell of every step")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    given = parser.parse_args()
    first, _, last = (given.seeds or f"{given.seed}-{given.seed}").partition("-")
    seeds = range(int(first), int(last or first) + 1)
    return _report(seeds, _outcomes(seeds, given.jobs, is_verbose=given.verbose), as_json=given.json)


def _outcomes(seeds: range, jobs: int, *, is_verbose: bool) -> Iterator[Outcome]:
    if jobs == 1:
        for seed in seeds:
            yield simulate(seed, print if is_verbose else lambda _: None)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(simulate, seeds, chunksize=8)


def _report(seeds: range, outcomes: Iterator[Outcome], *, as_json: bool) -> int:
    began, said, counted = time.monotonic(), time.monotonic(), 0
    happened: Counter[str] = Counter()
    broken: dict[int, str] = {}
    for done, outcome in enumerate(outcomes, 1):
        happened.update(outcome.happened)
        if outcome.broken:
            broken[outcome.seed] = outcome.broken
            print(
                f"seed {outcome.seed}: {outcome.broken}\n    replay: {replay(outcome.seed)}",
                file=sys.stderr,
                flush=True,
            )
            if len(seeds) == 1:
                print(outcome.trace, file=sys.stderr, flush=True)
        if time.monotonic() - said >= 30 and not as_json:
            said = time.monotonic()
            rate = done / (said - began)
            print(f"{done} of {len(seeds)} worlds, {len(broken)} broken, {rate:.1f} a second", flush=True)
            if done - counted >= _COUNT_EVERY:
                counted = done
                print(_counts(happened), flush=True)
    if as_json:
        print(json.dumps({"worlds": len(seeds), "broken": broken, "happened": happened}))
    else:
        used = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        took = f"{time.monotonic() - began:.0f} s, {used / len(seeds):.2f} CPU s each"
        print(f"{len(seeds)} worlds in {took}, {len(broken)} broken: {sorted(broken)}")
        print(_counts(happened))
    return 1 if broken else 0


def _counts(happened: Counter[str]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in sorted(happened.items()))


if __name__ == "__main__":
    sys.exit(main())
