"""Freezes what was chosen: one folder, and one transaction after it.

What is begun is noted before the first byte is written, and the transaction comes last: the row, what is now held out
for ever, and the event. A kill between them leaves a folder that the next build takes or clears away.

What a dataset is called follows from what it is: the same outcomes and settings give the same id, and nothing is
written twice. Which outcomes are in it is ``build``'s business, what its files hold ``frozen``'s.
"""

from __future__ import annotations

from operator import eq
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cortex_autolearn.model import instants, layout
from cortex_autolearn.model.training import DATASET_SPLITS, DatasetRow
from cortex_autolearn.model.training_jobs import DatasetRef
from cortex_autolearn.model.version import VERSION as PACKAGE_VERSION
from cortex_autolearn.ports import BoundaryError
from cortex_autolearn.redact import VERSION
from cortex_autolearn.training import frozen

if TYPE_CHECKING:
    from cortex_autolearn.ports import Clock, Files
    from cortex_autolearn.training.chosen import Chosen
    from cortex_autolearn.training.needs import DatasetStore

_ID_DIGITS: Final = 12


class Built(NamedTuple):
    """A dataset as it was built; ``created`` is False where it was there already; ``is_full``: no more may be in it."""

    row: DatasetRow
    created: bool
    dropped: dict[str, int]
    redactions: dict[str, int]
    covers_us: int
    is_full: bool

    @property
    def ref(self) -> DatasetRef:
        """What a trainer is given."""
        row = self.row
        return DatasetRef(row.dataset_id, layout.dataset_folder(row.dataset_id), row.train, row.validation)

    def as_dict(self) -> dict[str, Any]:
        """Return it as it is printed."""
        row = self.row
        return {
            "dataset_id": row.dataset_id,
            "path": layout.dataset_folder(row.dataset_id),
            "train": row.train,
            "validation": row.validation,
            "dropped": self.dropped,
            "redactions": self.redactions,
            "scope": row.scope,
            "parent": row.parent,
            "tokens": row.tokens,
            "created": self.created,
        }


class Freezer:
    """Keeps the datasets below one ROOT. Its callers keep a second build out.

    Arguments:
        store: the state.
        files: the tree below ROOT.
        clock: tells the time.
    """

    def __init__(self, store: DatasetStore, files: Files, clock: Clock) -> None:
        self._store = store
        self._files = files
        self._clock = clock

    def freeze(self, scope: str, chosen: Chosen, configuration: dict[str, Any], max_train: int) -> Built:
        """Write the dataset that was chosen, unless it stands there already.

        Arguments:
            scope: ``global`` or a master.
            chosen: what is to be in it.
            configuration: what it was chosen by; with ``chosen`` it makes the id.
            max_train: as many training examples may be in it.

        Raises:
            BoundaryError: a file or the state refused.
        """
        digest = chosen.digest(scope, configuration)
        dataset_id = digest[:_ID_DIGITS]
        now_us = instants.to_us(self._clock.now())
        # What was collected while the clock was ahead must not cover all that is still to come.
        covers_us = min(chosen.gathered.covers_us, now_us)
        with self._store.read() as reading:
            known = reading.dataset(dataset_id)
            before = reading.latest_dataset(scope)
        row = known or DatasetRow(
            dataset_id=dataset_id,
            scope=scope,
            parent=None if before is None else before.dataset_id,
            created_us=now_us,
            covers_us=covers_us,
            train=len(chosen.numbers["train"]),
            validation=len(chosen.numbers["validation"]),
            tokens=chosen.tokens("train"),
            sha256=digest,
        )
        assert row.sha256 == digest, "two datasets of one id"
        if known is None or not self._is_whole(dataset_id, chosen):
            self._write(row, configuration, chosen)
            self._record(row, chosen, is_new=known is None)
        is_full = row.train >= max_train
        return Built(row, known is None, chosen.dropped, chosen.redactions, covers_us, is_full)

    def clear_unfinished(self) -> None:
        """Remove what a killed build left: the files it had begun, if no row tells of them or they are not whole."""
        self._store.flush_events()
        with self._store.read() as reading:
            begun = reading.begun_dataset()
            known = begun is not None and reading.dataset(begun) is not None
        if begun is None:
            return
        if not (known and self._files.size(layout.dataset_file(begun, frozen.MANIFEST))):
            self.remove(begun)
        with self._store.write() as transaction:
            transaction.begin_dataset(None)

    def remove(self, dataset_id: str) -> None:
        """Remove a dataset's folder."""
        # The manifest goes first, so that the rest is not taken for a dataset.
        self._files.remove(layout.dataset_file(dataset_id, frozen.MANIFEST))
        self._files.remove_folder(layout.dataset_folder(dataset_id))

    def _is_whole(self, dataset_id: str, chosen: Chosen) -> bool:
        """Tell whether a dataset stands as it was frozen, with the manifest's word on whose each line is."""
        try:
            found = frozen.open_dataset(self._files, dataset_id)
            return found.is_whole() and all(
                len(found.manifest.examples[split]) == len(chosen.numbers[split])
                and all(map(eq, found.manifest.examples[split], chosen.members(split)))
                for split in DATASET_SPLITS
            )
        except BoundaryError:
            return False

    def _write(self, row: DatasetRow, configuration: dict[str, Any], chosen: Chosen) -> None:
        with self._store.write() as transaction:
            transaction.begin_dataset(row.dataset_id)
        self.remove(row.dataset_id)  # what is there is not as it was frozen
        manifest = frozen.Manifest(
            dataset_id=row.dataset_id,
            sha256=row.sha256,
            scope=row.scope,
            parent=row.parent,
            created_at=instants.us_to_text(row.created_us) or "",
            package_version=PACKAGE_VERSION,
            configuration=configuration,
            redaction_version=VERSION,
            counts={split: len(chosen.numbers[split]) for split in DATASET_SPLITS},
            by_master={split: chosen.by(split, "master") for split in DATASET_SPLITS},
            by_task_type={split: chosen.by(split, "task_type") for split in DATASET_SPLITS},
            tokens={split: chosen.tokens(split) for split in DATASET_SPLITS},
            files=chosen.files,
            considered=chosen.gathered.considered,
            dropped=chosen.dropped,
            redactions=chosen.redactions,
            leakage=chosen.leakage,
        )
        lines = {split: chosen.lines(split) for split in DATASET_SPLITS}
        members = {split: chosen.members(split) for split in DATASET_SPLITS}
        frozen.write(self._files, manifest, lines, members, chosen.all_dropped)

    def _record(self, row: DatasetRow, chosen: Chosen, *, is_new: bool) -> None:
        """Note the dataset, what it holds out for ever, and the event, in one transaction."""
        with self._store.write() as transaction:
            transaction.begin_dataset(None)
            if not is_new:
                return
            transaction.add_dataset(row)
            transaction.add_validated(chosen.validated(), row.dataset_id)
            transaction.event(
                "dataset_created",
                dataset_id=row.dataset_id,
                scope=row.scope,
                parent=row.parent,
                path=layout.dataset_folder(row.dataset_id),
                train=row.train,
                validation=row.validation,
                tokens=row.tokens,
                dropped=chosen.dropped,
                redactions=chosen.redactions,
            )
