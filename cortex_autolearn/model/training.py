"""What datasets are made of, and the rows of the state about them.

How examples are chosen is ``training.dataset``'s business, how a frozen one is read ``training.frozen``'s; what
trainers are asked is in ``training_jobs``.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import msgspec

DatasetSplit = Literal["train", "validation"]
DATASET_SPLITS: Final[tuple[DatasetSplit, ...]] = ("train", "validation")
"""The two files of a dataset. (The collector calls its splits ``training`` and ``validation``.)"""


class Example(msgspec.Struct, frozen=True, gc=False):
    """One example of a frozen dataset; what no provider may see stands beside what it gets."""

    task_id: str
    master: str | None
    task_type: str | None
    system: str
    input: str
    output: str


class Member(msgspec.Struct, frozen=True, gc=False):
    """What the manifest tells of one line: whose it is, and the SHA-256 of its bytes."""

    task_id: str
    master: str | None
    task_type: str | None
    digest: str


class OutcomePlace(NamedTuple):
    """Where the line of a high-quality outcome stands, and when it was collected (an instant)."""

    task_id: str
    split: str
    day: int
    position: int
    length: int
    collected_us: int


class DatasetRow(NamedTuple):
    """A dataset that was built.

    Arguments:
        dataset_id: twelve hexadecimal digits of the digest of all that it is.
        scope: ``global`` or a master.
        parent: the dataset of the same scope that was built before it, None for the first.
        created_us: when it was first built, an instant.
        covers_us: the instant up to which collected outcomes went into it.
        train: how many training examples it has.
        validation: how many validation examples it has.
        tokens: tokens of the training split, estimated.
        sha256: the whole digest.
    """

    dataset_id: str
    scope: str
    parent: str | None
    created_us: int
    covers_us: int
    train: int
    validation: int
    tokens: int
    sha256: str


class Validated(NamedTuple):
    """An example that was in a validation split: its task, and digests of its normalised input, plain and masked."""

    task_id: str
    plain: bytes
    masked: bytes
