"""The assignment: which arm a task is in, the same as Cortex's shell says of the same bytes."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import slow

from cortex_autolearn.assignment import arm, bucket, id_bytes, variant
from cortex_autolearn.collect.split import split_of

SHELL = """
for task_id in "$@"; do
  hash=$(printf '%s' "$task_id" | md5sum)
  echo $((16#${hash:0:8} % 100))
done
"""


def odd_ids(count: int, seed: int) -> list[str]:
    """Return ids as tasks have them and as nobody would expect them, as Python has them of the shell."""
    dice = random.Random(seed)
    return [os.fsdecode(_odd_id(dice)) for _ in range(count)]


def _odd_id(dice: random.Random) -> bytes:
    number = b"%06d" % dice.randrange(10**6)
    points = [dice.randrange(1, 0xD800), dice.randrange(0xE000, 0x11000), dice.randrange(0x10000, 0x110000)]
    plain = b"task-" + number
    return dice.choice(
        [
            plain,
            plain,
            f"security-{dice.choice('äöüß€😀漢字')}-".encode() + number,
            "".join(map(chr, points)).encode() + number,
            bytes(dice.choices(range(1, 256), k=dice.randrange(1, 40))),
            b"\xed\xa0\x80%b\xf0\x9f\x98" % number,  # half a surrogate pair, and three quarters of a character
            b"line\nline%b\n" % number,
            dice.choice([b"-n", b"-e x", b"%s", b"\\x41", b"\\", b"*", b"$HOME", b"`id`", b" ", b"'\""]) + number,
            plain if dice.random() < 0.9 else b"long" * 2_000 + number,
        ]
    )


@pytest.mark.parametrize(
    ("task_id", "number"), [("task-1", 73), ("task-2", 70), ("é", 19), ("a b", 85), ("\udcff", 40), ("ft", 72)]
)
def test_known_buckets(task_id: str, number: int) -> None:
    """The bucket of an id is the same in every version of this package."""
    assert bucket(task_id) == number


@given(st.text(min_size=1))
def test_bucket_is_the_formula(task_id: str) -> None:
    """For every id that UTF-8 can hold, the bucket is the first eight hexadecimal digits of its MD5, modulo 100."""
    assert bucket(task_id) == int(hashlib.md5(task_id.encode(), usedforsecurity=False).hexdigest()[:8], 16) % 100


@given(st.binary(min_size=1))
def test_every_byte_counts_as_it_is(raw: bytes) -> None:
    """An id of any bytes, as an argument or a file name hands it over, is hashed as these bytes."""
    assert id_bytes(raw.decode("utf-8", "surrogateescape")) == raw


@given(st.text(st.characters(codec=None), min_size=1))
def test_no_text_is_refused(task_id: str) -> None:
    """Every text has a bucket, halves of surrogate pairs included."""
    assert 0 <= bucket(task_id) < 100


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_half_a_surrogate_pair_is_what_jq_reads() -> None:
    """An id with half a surrogate pair, which only JSON can hold, has the bucket of what jq makes of it."""
    read = subprocess.run(["jq", "-j", ".task_id"], input=b'{"task_id":"\\ude00x"}', capture_output=True, check=True)
    assert bucket("\ude00x") == bucket(read.stdout.decode())


def test_two_thousand_ids_agree_with_the_shell() -> None:
    """A loop in bash, md5sum for each, gives every id the bucket that we give it."""
    ids = odd_ids(2_000, seed=1)
    told = subprocess.run(["bash", "-c", SHELL, "bash", *ids], capture_output=True, check=True)
    assert [int(line) for line in told.stdout.split()] == [bucket(one) for one in ids]


@slow
def test_hundred_thousand_ids_agree_with_md5sum(tmp_path: Path) -> None:
    """md5sum, on 100,000 files that hold one id each, gives every id the bucket that we give it."""
    ids = odd_ids(100_000, seed=2)
    names = [f"{number:06d}" for number in range(len(ids))]
    for name, one in zip(names, ids, strict=True):
        (tmp_path / name).write_bytes(os.fsencode(one))
    told = subprocess.run(
        ["xargs", "-0", "md5sum"], input="\0".join(names).encode(), capture_output=True, check=True, cwd=tmp_path
    )
    found = {line[34:].decode(): int(line[:8], 16) % 100 for line in told.stdout.splitlines()}
    assert [found[name] for name in names] == [bucket(one) for one in ids]


@pytest.mark.parametrize(
    ("number", "percent_a", "expected"),
    [(0, 0, "b"), (0, 1, "a"), (89, 90, "a"), (90, 90, "b"), (99, 100, "a"), (97, 97.5, "a"), (98, 97.5, "b")],
)
def test_arm_of_a_bucket(number: int, percent_a: float, expected: str) -> None:
    """Buckets below the champion's percentage are the champion's, all others the challenger's."""
    assert arm(number, percent_a) == expected


def test_shares_are_as_said_and_independent_of_the_split() -> None:
    """Of 50,000 tasks 10 % are the challenger's, among those for training as among those for validation."""
    arms: Counter[tuple[str, str]] = Counter()
    for number in range(50_000):
        arms[split_of(f"task-{number}"), variant(f"task-{number}", 90)] += 1
    for split in ("training", "validation"):
        share = arms[split, "b"] / (arms[split, "a"] + arms[split, "b"])
        assert 0.09 < share < 0.11
