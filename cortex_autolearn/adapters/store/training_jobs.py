"""What the training job asks of the state: what there is to learn from, which trainings there were, and the models."""

from __future__ import annotations

from array import array
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from cortex_autolearn.model.training_jobs import Estimate, Metric, ModelRef, RemoteJob, Spec
from cortex_autolearn.model.trainings import Model, Training

if TYPE_CHECKING:
    import sqlite3

_TRAINING: Final = ", ".join(Training._fields)
_ALL_BUT_ID: Final = ", ".join(f"{name} = excluded.{name}" for name in Training._fields[1:])
_MODEL: Final = "model_id, kind, base, artefact, scope, dataset_id, backend, metrics, made_us"


class TrainingJobTables:
    """Questions and changes about trainings and models; one connection, inside whatever transaction it is in."""

    connection: sqlite3.Connection

    def training_counts(self) -> dict[str | None, int]:
        """Return how many training examples of each master were collected."""
        return {master: len(times) for master, times in self.training_times().items()}

    def training_times(self) -> dict[str | None, array[int]]:
        """Return of each master when its training examples were collected, in microseconds since 1970, in any order."""
        rows = self.connection.execute(
            "SELECT (SELECT t.master FROM tasks AS t WHERE t.task_id = o.task_id "
            "ORDER BY t.final DESC, t.rank_us DESC, t.origin LIMIT 1), o.collected_us "
            "FROM outcomes AS o WHERE o.split = 'training'"
        )
        times: defaultdict[str | None, array[int]] = defaultdict(partial(array, "q"))
        for master, collected_us in rows:
            times[master].append(collected_us)
        return dict(times)

    def trainings(self, scope: str | None = None) -> list[Training]:
        """Return the trainings of a scope, or all, the oldest first."""
        rows = self.connection.execute(
            f"SELECT {_TRAINING} FROM training_jobs WHERE :scope IS NULL OR scope = :scope ORDER BY asked_us, model_id",
            {"scope": scope},
        )
        return [_training(row) for row in rows]

    def training(self, model_id: str) -> Training | None:
        """Return the training that makes, or made, a model."""
        row = self.connection.execute(
            f"SELECT {_TRAINING} FROM training_jobs WHERE model_id = ?", (model_id,)
        ).fetchone()
        return None if row is None else _training(row)

    def active_trainings(self) -> list[Training]:
        """Return the trainings that have not ended, the oldest first."""
        rows = self.connection.execute(
            f"SELECT {_TRAINING} FROM training_jobs WHERE ended_us IS NULL ORDER BY asked_us, model_id"
        )
        return [_training(row) for row in rows]

    def trainings_to_tend(self, polled_before_us: int, now_us: int) -> int:
        """Return how many trainings have not ended and were not looked at between an instant and now.

        A look in the future was taken before the clock was set back.
        """
        row = self.connection.execute(
            "SELECT count(*) FROM training_jobs WHERE ended_us IS NULL "
            "AND coalesce(polled_us, 0) NOT BETWEEN :before + 1 AND :now",
            {"before": polled_before_us, "now": now_us},
        ).fetchone()
        return int(row[0])

    def put_training(self, training: Training) -> None:
        """Add a training, or store how it stands now."""
        # Not INSERT OR REPLACE: that would put another active training of the scope out of the way.
        self.connection.execute(
            f"INSERT INTO training_jobs ({_TRAINING}) VALUES ({', '.join('?' * len(Training._fields))}) "
            f"ON CONFLICT (model_id) DO UPDATE SET {_ALL_BUT_ID}",
            training._replace(
                spec=_text(training.spec),  # type: ignore[arg-type]  # as the columns hold it
                estimate=_text(training.estimate),  # type: ignore[arg-type]
                seen=None if training.seen is None else _text(training.seen),  # type: ignore[arg-type]
            ),
        )

    def put_model(self, model: Model) -> None:
        """Add a model; one that is known stays as it is."""
        ref = model.ref
        self.connection.execute(
            f"INSERT INTO models ({_MODEL}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (model_id) DO NOTHING",
            (
                ref.model_id,
                ref.kind,
                ref.base,
                ref.artefact,
                model.scope,
                model.dataset_id,
                model.backend,
                _text(model.metrics),
                model.made_us,
            ),
        )

    def models(self) -> list[Model]:
        """Return all models, the oldest first."""
        rows = self.connection.execute(f"SELECT {_MODEL} FROM models ORDER BY made_us, model_id")
        return [_model(row) for row in rows]

    def model(self, model_id: str) -> Model | None:
        """Return a model."""
        row = self.connection.execute(f"SELECT {_MODEL} FROM models WHERE model_id = ?", (model_id,)).fetchone()
        return None if row is None else _model(row)

    def model_numbers(self, begin: str) -> list[str]:
        """Return the model ids that were given and begin so, whatever became of them."""
        rows = self.connection.execute(
            "SELECT model_id FROM training_jobs WHERE model_id GLOB :ids "
            "UNION SELECT model_id FROM models WHERE model_id GLOB :ids",
            {"ids": f"{begin}*"},
        )
        return [row[0] for row in rows]


def _training(row: tuple[Any, ...]) -> Training:
    found = Training._make(row)
    return found._replace(
        spec=msgspec.json.decode(row[4], type=Spec),
        estimate=msgspec.json.decode(row[5], type=Estimate),
        seen=None if row[10] is None else msgspec.json.decode(row[10], type=RemoteJob),
    )


def _model(row: tuple[Any, ...]) -> Model:
    model_id, kind, base, artefact, scope, dataset_id, backend, metrics, made_us = row
    ref = ModelRef(model_id=model_id, kind=kind, base=base, artefact=artefact)
    return Model(ref, scope, dataset_id, backend, msgspec.json.decode(metrics, type=dict[str, Metric]), made_us)


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()
