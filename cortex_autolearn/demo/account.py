"""What came of what was written: the numbers, whether they add up, and whether they are the right ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from cortex_autolearn.model import layout
from cortex_autolearn.status import rejections

if TYPE_CHECKING:
    from pathlib import Path

    from cortex_autolearn.testing import Expected
    from cortex_autolearn.wiring import App


class Totals(NamedTuple):
    """What came of everything that was written so far."""

    objects: int
    quarantined_objects: int
    quarantined: int
    withdrawn: int
    tasks: int
    final: int
    training: int
    validation: int
    rejected: dict[str, int]
    reasons: dict[str, int]

    @property
    def high_quality(self) -> int:
        """Tasks in the set."""
        return self.training + self.validation

    @property
    def superseded(self) -> int:
        """Records that do not stand for their task."""
        return self.objects - self.quarantined_objects - self.tasks


def totals(app: App) -> Totals:
    """Add up everything that happened on a ROOT so far."""
    sums = {"objects": 0, "quarantined_objects": 0, "quarantined": 0, "withdrawn": 0}
    with app.store.read() as reading:
        seq = 0
        while rows := reading.events_after(seq):
            for _, _, _, body in rows:
                counts = orjson.loads(body)
                for name in sums:
                    sums[name] += counts.get(name, 0)
            seq = rows[-1][0]
        tasks, final, _, _ = reading.task_totals()
        splits = reading.collected_totals()
        return Totals(
            **sums,
            tasks=tasks,
            final=final,
            training=splits.get("training", (0, 0))[0],
            validation=splits.get("validation", (0, 0))[0],
            rejected=rejections(reading, app.settings.collect),
            reasons=reading.quarantine_counts(),
        )


def accounting(totals: Totals) -> str:
    """Return the numbers in lines that add up."""
    stretches = totals.quarantined - totals.quarantined_objects
    lines = [
        f"Objects found: {totals.objects:,}",
        f"  - In silver, one for each task: {totals.tasks:,}",
        f"  - Superseded by another record of their task: {totals.superseded:,}",
        f"  - Quarantined: {totals.quarantined_objects:,}",
        f"Broken stretches, which are no objects, quarantined: {stretches:,}",
        "",
        f"In quarantine: {totals.quarantined:,}",
        *[f"  {reason}: {count:,}" for reason, count in totals.reasons.items()],
        "",
        f"Final tasks: {totals.final:,} of {totals.tasks:,}",
        f"  - High-quality: {totals.high_quality:,} (training {totals.training:,}, validation {totals.validation:,})",
        f"  - Rejected: {sum(totals.rejected.values()):,}",
        *[f"      {reason}: {count:,}" for reason, count in totals.rejected.items()],
    ]
    if totals.withdrawn:
        lines.append(f"Withdrawn after a later record of the task, over time: {totals.withdrawn:,}")
    return "\n".join(lines)


def differences(expected: Expected, totals: Totals, root: Path) -> list[str]:
    """Return where state or files differ from what must have come of the fleet's records."""
    silver = [line["canonical"]["task_id"] for line in _lines(root / layout.SILVER)]
    collected = {split: _collected_ids(root, split) for split in ("training", "validation")}
    wanted = {split: sorted(one for one, of in expected.collected.items() if of == split) for split in collected}
    pairs: list[tuple[str, object, object]] = [
        ("objects", expected.objects, totals.objects),
        ("tasks", expected.tasks, totals.tasks),
        ("superseded", expected.superseded, totals.superseded),
        ("quarantined objects", expected.quarantined_objects, totals.quarantined_objects),
        ("quarantined", expected.quarantined, totals.quarantined),
        ("final tasks", expected.final_tasks, totals.final),
        ("rejected", dict(sorted(expected.rejected.items())), dict(sorted(totals.rejected.items()))),
        ("collected for training", expected.training, totals.training),
        ("collected for validation", expected.validation, totals.validation),
        ("tasks in the silver files", sorted(expected.standing), sorted(silver)),
        ("tasks in the training files", wanted["training"], collected["training"]),
        ("tasks in the validation files", wanted["validation"], collected["validation"]),
    ]
    found = [f"{name}: {_differ(wanted, got)}" for name, wanted, got in pairs if wanted != got]
    return found + unaccounted(totals, root)


def unaccounted(totals: Totals, root: Path) -> list[str]:
    """Return where the numbers do not add up, or the files do not hold what they say."""
    silver, quarantine = len(_lines(root / layout.SILVER)), len(_lines(root / layout.QUARANTINE))
    collected = sum(len(_collected_ids(root, split)) for split in ("training", "validation"))
    checks = (
        ("silver lines", silver, totals.tasks),
        ("quarantine lines", quarantine, totals.quarantined),
        ("lines of high-quality outcomes", collected, totals.high_quality),
        ("final tasks", totals.final, totals.high_quality + sum(totals.rejected.values())),
    )
    return [f"{what}: {found:,}, but by the state {wanted:,}" for what, found, wanted in checks if found != wanted]


def _differ(wanted: object, got: object) -> str:
    if isinstance(wanted, list) and isinstance(got, list):
        missing, extra = sorted(set(wanted) - set(got)), sorted(set(got) - set(wanted))
        return f"{len(missing)} missing {missing[:3]}, {len(extra)} too many {extra[:3]}, {len(got)} lines"
    return f"expected {wanted}, found {got}"


def _collected_ids(root: Path, split: str) -> list[str]:
    return sorted(line["task_id"] for line in _lines(root / layout.OUTCOMES / split))


def _lines(folder: Path) -> list[dict[str, Any]]:
    found = sorted(folder.glob("*.jsonl"))
    return [orjson.loads(line) for path in found for line in path.read_bytes().splitlines()]
