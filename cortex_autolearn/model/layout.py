"""Where files live below ROOT, and which names may become part of a path.

All paths are text, relative to ROOT and written with ``/``; ``adapters.tree`` turns them into real ones. The shapes
of the files themselves are described by the modules that write them.
"""

from __future__ import annotations

import re
from typing import Final

COORDINATION: Final = "coordination"
BRONZE: Final = "coordination/medallion/bronze/raw-tasks"
SILVER: Final = "coordination/medallion/silver/processed-tasks"
QUARANTINE: Final = "coordination/medallion/silver/quarantine"
ANALYTICS: Final = "coordination/medallion/gold/analytics"
REPORTS: Final = "coordination/medallion/gold/reports"
KPIS: Final = "coordination/medallion/gold/kpis"
TRAINING_VIEW: Final = "coordination/medallion/gold/training"
MASTERS: Final = "coordination/masters"
AB_TESTS: Final = "coordination/ab-tests"
AB_RESULTS: Final = "coordination/ab-tests/results"
RESULTS_SUFFIX: Final = "-results.jsonl"
LOG: Final = "coordination/logs/auto-learning-daemon.log"
EVENTS: Final = "coordination/logs/auto-learning-events.jsonl"
AUTOLEARN: Final = "llm-mesh/auto-learning"
OUTCOMES: Final = "llm-mesh/auto-learning/hq-outcomes"
DATASETS: Final = "llm-mesh/auto-learning/datasets"
DATASET_LOCK: Final = "llm-mesh/auto-learning/.dataset.lock"
MODELS: Final = "llm-mesh/auto-learning/models"
ROUTES: Final = "llm-mesh/auto-learning/routes.json"
STATE: Final = "llm-mesh/auto-learning/state.db"
FINE_TUNE_TRIGGER: Final = "llm-mesh/auto-learning/.fine_tune_trigger"
WRITER_LOCK: Final = "llm-mesh/auto-learning/.writer.lock"
DAEMON_LOCK: Final = "llm-mesh/auto-learning/.daemon.lock"
CONFIG: Final = "cortex-autolearn.toml"

OWN_SILVER_SUFFIX: Final = ".autolearn.jsonl"

MASTER_FORM: Final = r"[a-z0-9][a-z0-9._-]{0,120}-master"
"""What :func:`master_name` makes, as a pattern: settings that name a master otherwise would never meet one."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class UnsafeNameError(ValueError):
    """A name that was to become part of a path and may not: it is refused, never escaped."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(
            f"{kind} {name!r} cannot be part of a path: use 1 to 128 letters, digits, dots, dashes and underscores, "
            "starting with a letter or digit"
        )
        self.kind = kind
        self.name = name


def is_safe_name(name: str) -> bool:
    """Tell whether ``name`` (a master, model or test) may become one component of a path."""
    return _NAME.fullmatch(name) is not None


def safe_name(kind: str, name: str) -> str:
    """Return ``name`` unchanged, or raise :class:`UnsafeNameError` naming its ``kind``."""
    if not is_safe_name(name):
        raise UnsafeNameError(kind, name)
    return name


def master_name(text: str | None) -> str | None:
    """Normalise a master's name to ``<name>-master``; None where the text cannot be one."""
    if text is None:
        return None
    name = text.strip().lower().removesuffix("-master").removesuffix("-agent")
    full = f"{name}-master"
    return full if is_safe_name(name) and is_safe_name(full) else None


def day_text(day: int) -> str:
    """Write a day, the number YYYYMMDD, with all its eight digits."""
    return f"{day:08d}"


def silver_file(day: int) -> str:
    """Our own silver file of a day (the number YYYYMMDD, as in all of these)."""
    return f"{SILVER}/{day:08d}{OWN_SILVER_SUFFIX}"


def quarantine_file(day: int) -> str:
    """What could not become silver, by the day of the run."""
    return f"{QUARANTINE}/{day:08d}.jsonl"


def outcomes_file(split: str, day: int) -> str:
    """High-quality outcomes of a silver day; ``split`` is ``training`` or ``validation``."""
    return f"{OUTCOMES}/{split}/{day:08d}.jsonl"


def training_view_file(split: str, day: int) -> str:
    """Gold's training-ready chat examples: one for every line of :func:`outcomes_file` that tells what was asked."""
    return f"{TRAINING_VIEW}/{split}/{day:08d}.jsonl"


def dataset_folder(dataset_id: str) -> str:
    """The folder of a frozen dataset; :func:`dataset_file` is what stands in it."""
    return f"{DATASETS}/{safe_name('dataset', dataset_id)}"


def dataset_file(dataset_id: str, name: str) -> str:
    """A file of a frozen dataset: ``train.jsonl``, ``validation.jsonl`` or ``manifest.json``."""
    return f"{dataset_folder(dataset_id)}/{name}"


def test_file(test_id: str) -> str:
    """The file of an A/B test; :func:`results_file` is where Cortex's shell appends its outcomes."""
    return f"{AB_TESTS}/{safe_name('test', test_id)}.json"


def results_file(test_id: str) -> str:
    """Outcomes of an A/B test, as Cortex's shell records them."""
    return f"{AB_RESULTS}/{safe_name('test', test_id)}{RESULTS_SUFFIX}"


def aliases_file(master: str) -> str:
    """Which versions are champion, challenger and shadow of a master; its folder is its name without ``-master``."""
    return f"{MASTERS}/{safe_name('master', master.removesuffix('-master'))}/versions/aliases.json"


def day_of_file(relative: str) -> int:
    """Return the day of a file of ours that is named by its day: silver, quarantine, outcomes, training view."""
    return int(relative.rsplit("/", 1)[1][:8])


def analytics_file(day: int) -> str:
    """Gold's daily analytics."""
    return f"{ANALYTICS}/daily-{day:08d}.json"


def report_file(master: str | None, day: int) -> str:
    """Gold's report of one master and day; ``master`` as in the canonical reading, None for tasks without one."""
    return f"{REPORTS}/{'null' if master is None else safe_name('master', master)}-{day:08d}.json"


def kpis_file(start: int, end: int) -> str:
    """Gold's KPIs over a range of days, both ends included."""
    return f"{KPIS}/kpis-{start:08d}-to-{end:08d}.json"
