"""Which outcomes become examples, and in what order: clean, select, balance.

Pure: texts in, decisions out. Reading outcomes, keeping their texts somewhere meanwhile and writing what was chosen is
``build``'s business; which texts are nearly alike is told by ``nearness``.

The rules, in the order in which they apply; the first that speaks against an outcome is its reason:

1. Text. An outcome whose text is lost or unreadable, or does not say what was asked, makes no example; neither does one
   whose question or answer is nothing but what was masked, or that is longer than a limit.
2. Held out. What was in a validation split once is never trained on: not the task, and not its input in another task.
3. Duplicates. Of equal normalised inputs (equal as they are, or as they are sent), and of near ones, one stays:
   validation goes before training, the newest before older ones. So no input of the training split is that of a
   validation example, or near to one. Neither is one kept that is so much like so many others that nobody can say in
   time.
4. Share. In the training split no master, and no task type, has more than ``max_share`` of the examples. A master that
   has more loses the oldest of the task types it has most of, and a type those of its masters, until it holds for the
   set as it then is: so what is rare stays. Of g that are left one may always have 1/g, as less could not hold. (Tasks
   without master, or without type, count as one more.) Validation is left as work comes.
5. Maximum. The newest stay.

Then the lines of each split are put in an order that has nothing to do with time: by a hash of seed and task.
"""

from __future__ import annotations

import re
from collections import Counter
from hashlib import blake2b
from math import floor
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from cortex_autolearn.model.training import DatasetSplit, Example, Member
from cortex_autolearn.training.nearness import CROWDED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

NO_TEXT: Final = "Text is lost"
UNREADABLE: Final = "Unreadable"
NO_INPUT: Final = "No input"
ONLY_MASKED: Final = "Nothing but secrets"
TOO_LONG: Final = "Too long"
HELD_OUT: Final = "Was in a validation split"
SAME_AS_VALIDATION: Final = "Same input as a validation example"
NEAR_VALIDATION: Final = "Near to a validation example"
DUPLICATE: Final = "Duplicate"
NEAR_DUPLICATE: Final = "Near duplicate"
TOO_MANY_ALIKE: Final = "Too many alike"
OVER_SHARE: Final = "Over max_share"
OVER_MAXIMUM: Final = "Over the maximum"

REASONS: Final = (
    NO_TEXT,
    UNREADABLE,
    NO_INPUT,
    ONLY_MASKED,
    TOO_LONG,
    HELD_OUT,
    SAME_AS_VALIDATION,
    NEAR_VALIDATION,
    DUPLICATE,
    NEAR_DUPLICATE,
    TOO_MANY_ALIKE,
    OVER_SHARE,
    OVER_MAXIMUM,
)
LEAKS: Final = frozenset({HELD_OUT, SAME_AS_VALIDATION, NEAR_VALIDATION})
"""The reasons that keep validation out of training."""

_SLACK: Final = 1e-9
"""Against the last bit of a product: 0.7 * 10 is not to be 6 when it is rounded down."""
_MASK: Final = re.compile(r"\[REDACTED:[^\]\s]*\]")
_SAYS_SOMETHING: Final = re.compile(r"[^\W_]")


class Bounds(NamedTuple):
    """How much of what a dataset takes: the settings, made narrower by what a backend takes."""

    near_duplicate_threshold: float
    max_share: float
    max_train: int
    max_validation: int
    max_example_chars: int
    max_example_tokens: int
    seed: int


class Candidate(msgspec.Struct, gc=False):
    """An outcome whose text is fit for an example, and all that is decided by.

    ``plain`` and ``masked`` are digests of its normalised input as it is and as it is sent, ``when_us`` is when the
    task was completed, an instant (-1 where nobody knows), ``tokens`` what the example measures.
    """

    task_id: str
    is_validation: bool
    master: str | None
    task_type: str | None
    when_us: int
    plain: bytes
    masked: bytes
    tokens: int


class Dropped(NamedTuple):
    """An outcome that is not in the dataset, why, and the task it yields to, where there is one."""

    task_id: str
    is_validation: bool
    reason: str
    instead: str | None = None


class Selection(NamedTuple):
    """Numbers of the candidates chosen, in the order of their lines, and those that were not."""

    train: list[int]
    validation: list[int]
    dropped: list[Dropped]


class Difference(NamedTuple):
    """Tasks that are in one split only, or have another line in it, and how many are the same."""

    added: list[str]
    removed: list[str]
    changed: list[str]
    same: int


class HeldOut(NamedTuple):
    """What was in a validation split once: tasks, and digests of their normalised inputs."""

    tasks: AbstractSet[str]
    plain: AbstractSet[bytes]
    masked: AbstractSet[bytes]


def refusal(example: Example, tokens: int, bounds: Bounds) -> str | None:
    """Return why a masked text makes no example, or None.

    Arguments:
        example: what would be sent.
        tokens: what it measures.
        bounds: how long it may be.
    """
    if not example.input.strip():
        return NO_INPUT
    if not (_is_telling(example.input) and _is_telling(example.output)):
        return ONLY_MASKED
    length = len(example.system) + len(example.input) + len(example.output)
    if length > bounds.max_example_chars or tokens > bounds.max_example_tokens:
        return TOO_LONG
    return None


def digest_of(normalised: str) -> bytes:
    """Return the digest by which equal inputs are told, of a normalised one."""
    return blake2b(normalised.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def select(
    candidates: Sequence[Candidate],
    near: Callable[[int], int | None],
    held_out: HeldOut,
    bounds: Bounds,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Selection:
    """Choose the examples of both splits.

    Arguments:
        candidates: all that may be chosen, in any order: the same ones give the same selection.
        near: called with the number of each candidate that is no exact duplicate, validation first; returns the
            number of the earlier one it is near to, ``CROWDED``, or None, and then remembers it.
        held_out: what was in a validation split once.
        bounds: the limits.
        progress: called with what is done and what there is to do.
    """
    order = sorted(range(len(candidates)), key=lambda number: _precedence(candidates[number], bounds.seed))
    kept: dict[DatasetSplit, list[int]] = {"train": [], "validation": []}
    dropped: list[Dropped] = []
    first: dict[bytes, int] = {}
    first_plain: dict[bytes, int] = {}  # masking may tell equal inputs apart: a name in capitals tells of a secret
    for done, number in enumerate(order):
        one = candidates[number]
        same = first.get(one.masked, first_plain.get(one.plain))
        if same is None and not one.is_validation and _is_held_out(one, held_out):
            dropped.append(Dropped(one.task_id, one.is_validation, HELD_OUT))
            continue
        first.setdefault(one.masked, number)
        first_plain.setdefault(one.plain, number)
        other = near(number) if same is None else same
        if other is None:
            kept["validation" if one.is_validation else "train"].append(number)
        elif other == CROWDED:
            dropped.append(Dropped(one.task_id, one.is_validation, TOO_MANY_ALIKE))
        else:
            reason = _likeness(one, candidates[other], is_same=same is not None)
            dropped.append(Dropped(one.task_id, one.is_validation, reason, candidates[other].task_id))
        if not done % 1_000:
            progress(done, len(order))
    train, over = balanced(kept["train"], candidates, bounds.max_share, bounds.max_train)
    over += [(number, OVER_MAXIMUM) for number in kept["validation"][bounds.max_validation :]]
    dropped += [Dropped(candidates[number].task_id, candidates[number].is_validation, why) for number, why in over]
    in_line = _line_order(candidates, bounds.seed)
    return Selection(
        sorted(train, key=in_line), sorted(kept["validation"][: bounds.max_validation], key=in_line), dropped
    )


def balanced(
    numbers: Sequence[int], candidates: Sequence[Candidate], max_share: float, maximum: int
) -> tuple[list[int], list[tuple[int, str]]]:
    """Return which of these stay, so that nobody has more than a share, and which do not, with the reason.

    Arguments:
        numbers: of candidates, the one that matters most first.
        candidates: all of them.
        max_share: of one master and of one task type, above 0 and at most 1.
        maximum: how many may stay.

    The cap of a group is ``floor(share * n)``, but at least 1, of the n that are left, or of ``maximum`` if that is
    less. What a group has above it goes, from the end of what it has most of; that makes n smaller, so it is done again
    until nothing changes.
    """
    alive = dict.fromkeys(numbers)
    masters = {number: candidates[number].master for number in numbers}
    types = {number: candidates[number].task_type for number in numbers}
    kinds = [_Groups(masters, types, max_share), _Groups(types, masters, max_share)]
    settled = 0
    while settled < len(kinds):  # what one kind takes away may put the other out of balance
        for kind in kinds:
            gone = kind.excess(maximum, alive)
            for number in gone:
                del alive[number]
            settled = 0 if gone else settled + 1
    stay = list(alive)[:maximum]
    kept = set(stay)
    # Whoever matters less than all that stay would have gone by the maximum, whatever its share.
    full_from = numbers.index(stay[-1]) if len(stay) == maximum else len(numbers)
    over = [
        (number, OVER_SHARE if place < full_from else OVER_MAXIMUM)
        for place, number in enumerate(numbers)
        if number not in kept
    ]
    return stay, over


def difference(before: Sequence[Member], after: Sequence[Member]) -> Difference:
    """Return how one split of a dataset differs from that of another; tasks in the order of their lines."""
    old = {one.task_id: one.digest for one in before}
    new = {one.task_id: one.digest for one in after}
    return Difference(
        added=[task for task in new if task not in old],
        removed=[task for task in old if task not in new],
        changed=[task for task, digest in new.items() if old.get(task, digest) != digest],
        same=sum(old.get(task) == digest for task, digest in new.items()),
    )


def dropped_counts(dropped: Iterable[Dropped]) -> dict[str, int]:
    """Return how many were dropped for each reason, in the order of :data:`REASONS`."""
    counts = Counter(one.reason for one in dropped)
    return {reason: counts[reason] for reason in REASONS if counts[reason]}


def added_up(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Return the sum of counts by name, in the order of the names."""
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(sorted(total.items()))


class _Groups:
    """Examples by one of their properties, each group in the order of what matters.

    Arguments:
        names: what each example's group is called, the example that matters most first.
        others: what its group by the other property is called.
        max_share: of one group.
    """

    def __init__(self, names: Mapping[int, str | None], others: Mapping[int, str | None], max_share: float) -> None:
        self._members: dict[str | None, list[int]] = {}
        for number, name in names.items():
            self._members.setdefault(name, []).append(number)
        self._others = others
        self._max_share = max_share

    def excess(self, maximum: int, alive: Mapping[int, None]) -> list[int]:
        """Return whom each group has above its cap when all are cut to it, and forget them."""
        groups = {name: [one for one in members if one in alive] for name, members in self._members.items()}
        # The other property may have taken the last of a group: it is none to be balanced against any more.
        self._members = {name: members for name, members in groups.items() if members}
        sizes = [len(members) for members in self._members.values()]
        share = max(self._max_share, 1 / max(1, len(sizes)))
        if share >= 1:
            return []
        total = sum(sizes)
        while True:
            cap = max(1, floor(share * min(total, maximum) + _SLACK))
            left = sum(min(size, cap) for size in sizes)
            if left == total:
                break
            total = left
        gone: list[int] = []
        for name, members in self._members.items():
            if len(members) > cap:
                kept = set(self._of_each(members, cap))
                gone += [one for one in members if one not in kept]
                self._members[name] = [one for one in members if one in kept]
        return gone

    def _of_each(self, members: Sequence[int], count: int) -> Iterator[int]:
        """Yield ``count`` of more members: what there is little of by the other property whole, of the rest alike."""
        sizes = Counter(self._others[one] for one in members)
        level, spare, waiting = 0, count, len(sizes)
        for size in sorted(sizes.values()):
            level, spare = divmod(count, waiting)
            if size > level:
                break
            count -= size
            waiting -= 1
        taken: Counter[str | None] = Counter()
        for one in members:
            other = self._others[one]
            if taken[other] == level and spare:
                spare -= 1
            elif taken[other] >= level:
                continue
            taken[other] += 1
            yield one


def _is_telling(text: str) -> bool:
    return _SAYS_SOMETHING.search(_MASK.sub("", text)) is not None


def _is_held_out(one: Candidate, held_out: HeldOut) -> bool:
    return one.task_id in held_out.tasks or one.plain in held_out.plain or one.masked in held_out.masked


def _likeness(one: Candidate, other: Candidate, *, is_same: bool) -> str:
    if one.is_validation == other.is_validation:
        return DUPLICATE if is_same else NEAR_DUPLICATE
    return SAME_AS_VALIDATION if is_same else NEAR_VALIDATION


def _precedence(one: Candidate, seed: int) -> tuple[bool, int, bytes, str]:
    """Return what sorts validation first, then the newest, and equals by chance."""
    return not one.is_validation, -one.when_us, _lot(one.task_id, seed), one.task_id


def _line_order(candidates: Sequence[Candidate], seed: int) -> Callable[[int], tuple[bytes, str]]:
    return lambda number: (_lot(candidates[number].task_id, seed), candidates[number].task_id)


def _lot(task_id: str, seed: int) -> bytes:
    return blake2b(task_id.encode("utf-8", "surrogatepass"), digest_size=8, key=seed.to_bytes(8, "big")).digest()
