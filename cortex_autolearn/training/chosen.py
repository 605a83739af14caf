"""What was chosen for a dataset: its lines, what the manifest tells of them, and the digest that names it.

Nothing is decided here (``dataset`` does) and nothing written (``frozen`` does).
"""

from __future__ import annotations

from collections import Counter
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import msgspec

from cortex_autolearn.model.training import DATASET_SPLITS, DatasetSplit, Member, Validated
from cortex_autolearn.redact import VERSION
from cortex_autolearn.training import dataset, frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cortex_autolearn.training.dataset import Candidate, Selection
    from cortex_autolearn.training.gather import Gathered

_FORMAT: Final = 1
"""Changes when the same choice gets another digest."""

_encode: Final = msgspec.json.Encoder().encode


class Chosen:
    """A selection with its lines, and what follows from the two."""

    def __init__(self, gathered: Gathered, selection: Selection) -> None:
        self.gathered = gathered
        self.numbers: dict[DatasetSplit, list[int]] = {"train": selection.train, "validation": selection.validation}
        self.all_dropped = sorted(gathered.dropped + selection.dropped)
        self.dropped = dataset.dropped_counts(self.all_dropped)
        self.files: dict[DatasetSplit, frozen.FileFacts] = {}

    def candidates(self, split: DatasetSplit, lines: list[int] | None = None) -> list[Candidate]:
        """Return the candidates of a split, or of some of its lines."""
        numbers = self.numbers[split] if lines is None else [self.numbers[split][line] for line in lines]
        return [self.gathered.candidates[number] for number in numbers]

    def lines(self, split: DatasetSplit) -> Iterator[bytes]:
        """Yield the lines of a split."""
        return map(self.gathered.line, self.numbers[split])

    def members(self, split: DatasetSplit) -> Iterator[Member]:
        """Yield what the manifest tells of each line."""
        for number in self.numbers[split]:
            one = self.gathered.candidates[number]
            yield Member(one.task_id, one.master, one.task_type, sha256(self.gathered.line(number)).hexdigest())

    def digest(self, scope: str, configuration: dict[str, Any]) -> str:
        """Return the digest of all that the dataset is, and note that of each file."""
        whose = sha256()
        for split in DATASET_SPLITS:
            content, length = sha256(), 0
            for number in self.numbers[split]:
                one, line = self.gathered.candidates[number], self.gathered.line(number)
                content.update(line)
                length += len(line)
                whose.update(_encode((split, one.task_id, one.master, one.task_type)))
            self.files[split] = frozen.FileFacts(length, content.hexdigest())
        identity = (
            _FORMAT,
            scope,
            [self.files[split].sha256 for split in DATASET_SPLITS],
            whose.hexdigest(),
            sorted(configuration.items()),
            VERSION,
        )
        return sha256(_encode(identity)).hexdigest()

    def by(self, split: DatasetSplit, name: str) -> dict[str, int]:
        """Return how many examples there are by ``master`` or ``task_type``, the most first."""
        counts = Counter(getattr(one, name) or "null" for one in self.candidates(split))
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def tokens(self, split: DatasetSplit) -> int:
        """Return the tokens of a split."""
        return sum(one.tokens for one in self.candidates(split))

    @property
    def redactions(self) -> dict[str, int]:
        """How much each rule masked in the examples chosen."""
        masked = self.gathered.redactions
        return dataset.added_up(
            masked[number] for split in DATASET_SPLITS for number in self.numbers[split] if number in masked
        )

    @property
    def leakage(self) -> dict[str, int]:
        """What was taken out of training because of validation, and what is left of it."""
        return {**{reason: count for reason, count in self.dropped.items() if reason in dataset.LEAKS}, "remaining": 0}

    def validated(self) -> list[Validated]:
        """Return what is held out from now on."""
        return [Validated(one.task_id, one.plain, one.masked) for one in self.candidates("validation")]
