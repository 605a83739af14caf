"""What the building of datasets asks of the state: where outcomes stand, which datasets there are, what is held out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cortex_autolearn.model.training import DatasetRow, OutcomePlace, Validated

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

_COLUMNS: Final = ", ".join(DatasetRow._fields)
_PLACES: Final = "SELECT task_id, split, day, position, length, collected_us FROM outcomes"


class DatasetTables:
    """Questions and changes about datasets; one connection, inside whatever transaction it is in."""

    connection: sqlite3.Connection

    def outcome_places(self) -> Iterator[OutcomePlace]:
        """Yield where every collected outcome stands, file by file; those whose text is lost have length 0."""
        rows = self.connection.execute(f"{_PLACES} ORDER BY split, day, position, task_id")
        return map(OutcomePlace._make, rows)

    def datasets(self) -> list[DatasetRow]:
        """Return all datasets, the oldest first."""
        rows = self.connection.execute(f"SELECT {_COLUMNS} FROM datasets ORDER BY number")
        return list(map(DatasetRow._make, rows))

    def dataset(self, dataset_id: str) -> DatasetRow | None:
        """Return one dataset."""
        row = self.connection.execute(f"SELECT {_COLUMNS} FROM datasets WHERE dataset_id = ?", (dataset_id,)).fetchone()
        return None if row is None else DatasetRow(*row)

    def latest_dataset(self, scope: str) -> DatasetRow | None:
        """Return the dataset of a scope that was built last."""
        row = self.connection.execute(
            f"SELECT {_COLUMNS} FROM datasets WHERE scope = ? ORDER BY number DESC LIMIT 1",
            (scope,),
        ).fetchone()
        return None if row is None else DatasetRow(*row)

    def begun_dataset(self) -> str | None:
        """Return the dataset whose files were begun and not yet noted as built."""
        row = self.connection.execute("SELECT value FROM meta WHERE key = 'begun_dataset'").fetchone()
        return None if row is None else str(row[0])

    def begin_dataset(self, dataset_id: str | None) -> None:
        """Note that the files of a dataset are about to be written, or that none are."""
        self.connection.execute("DELETE FROM meta WHERE key = 'begun_dataset'")
        if dataset_id is not None:
            self.connection.execute("INSERT INTO meta (key, value) VALUES ('begun_dataset', ?)", (dataset_id,))

    def add_dataset(self, row: DatasetRow) -> None:
        """Note that a dataset was built."""
        self.connection.execute(f"INSERT INTO datasets ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def spare_dataset(self, scope: str, dataset_id: str) -> str | None:
        """Note the dataset of a scope that was built last for nothing; return the one before, if none trained on it."""
        row = self.connection.execute(
            "SELECT value FROM meta WHERE key = 'spare_dataset:' || :scope AND value <> :spare "
            "AND value NOT IN (SELECT dataset_id FROM training_jobs)",
            {"scope": scope, "spare": dataset_id},
        ).fetchone()
        self.connection.execute(
            "INSERT OR REPLACE INTO meta (key, value) VALUES ('spare_dataset:' || ?, ?)", (scope, dataset_id)
        )
        return None if row is None else str(row[0])

    def keep_dataset(self, scope: str, dataset_id: str) -> None:
        """Note that a dataset of a scope is to stay, though it was built for nothing."""
        self.connection.execute("DELETE FROM meta WHERE key = 'spare_dataset:' || ? AND value = ?", (scope, dataset_id))

    def validated(self) -> Iterator[Validated]:
        """Yield all that was in the validation split of any dataset."""
        return map(Validated._make, self.connection.execute("SELECT task_id, plain, masked FROM validated"))

    def add_validated(self, rows: Sequence[Validated], dataset_id: str) -> None:
        """Note what is in the validation split of a dataset; what stood in one before, asking the same, is known."""
        self.connection.executemany(
            "INSERT OR IGNORE INTO validated (task_id, plain, masked, dataset_id) VALUES (?, ?, ?, ?)",
            ((*row, dataset_id) for row in rows),
        )
