"""What a world is like: everything that its seed decides before the first step."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from cortex_autolearn.model.judge_policy import JudgePolicy, ModelPrice
from cortex_autolearn.model.rollout_policy import RolloutPolicy
from cortex_autolearn.model.training_policy import DatasetPolicy, TrainingPolicy
from cortex_autolearn.settings import Settings
from cortex_autolearn.testing import MASTERS
from cortex_autolearn.testing.dice import Dice

FAULTS: Final = (
    "kill",
    "disk error",
    "database full",
    "judge outage",
    "trainer outage",
    "training fails",
    "deployment fails",
    "silence",
    "burst",
    "drift",
    "clock forwards",
    "clock back",
    "duplicate",
    "late record",
    "corrupt record",
    "torn record",
    "correction",
    "restart",
    "person",
    "removed file",
)
"""What goes wrong in some world or other; counted as it happens."""

USUAL_VERSION: Final = "v1.0.0"
_PRICE: Final = ModelPrice(
    model="claude-haiku-5-5",
    since="2025-01-01",
    input_usd_per_mtok=0.10,
    cache_write_usd_per_mtok=0.125,
    cache_read_usd_per_mtok=0.01,
    output_usd_per_mtok=0.50,
)
_FIRST_DAY: Final = datetime(2025, 11, 24, tzinfo=UTC)


@dataclass(frozen=True)
class Skill:
    """How a model does: shares of its tasks, its mean score."""

    completes: float
    quality: float
    hangs: float = 0.0


USUAL: Final = Skill(0.72, 4.05)
SKILLS: Final = (
    (Skill(0.99, 4.75), 5.0),
    (Skill(0.2, 2.4), 2.0),
    (USUAL, 1.0),
    (Skill(0.0, 3.0), 1.0),
    (Skill(0.98, 4.7, hangs=0.3), 1.0),
)
"""Of trained models, with how often each comes."""


@dataclass(frozen=True)
class World:
    """A world.

    Arguments:
        seed: the number that makes it.
        steps: how many steps are taken.
        pace: how many tasks a step brings, about.
        masters: who works.
        champions: who serves a master before rollout knows it, where that is not the usual version.
        settings: the configuration.
        backend: ``scripted`` or ``exemplar``.
        begins: its first instant.
        rates: how likely each fault is in a step, or for a record.
        routes_tasks: whether the callers do what their routes say.
        notes_choice: how many records tell of the choice.
        judged: how many records come without a score.
        training_usd: what a training costs.
    """

    seed: int
    steps: int
    pace: int
    masters: tuple[str, ...]
    champions: dict[str, str]
    settings: Settings
    backend: str
    begins: datetime
    rates: dict[str, float]
    routes_tasks: bool
    notes_choice: float
    judged: float
    training_usd: float

    @classmethod
    def of(cls, seed: int) -> World:
        """Return the world of a seed."""
        dice = Dice(seed, "world")
        size = dice.weighted((("small", 5.0), ("usual", 4.0), ("large", 1.0)))
        steps = {"small": (7, 11), "usual": (11, 17), "large": (22, 30)}[size]
        masters = tuple(sorted({dice.pick(MASTERS) for _ in range(dice.between(1, 2 if size == "small" else 3))}))
        return cls(
            seed=seed,
            steps=dice.between(*steps),
            pace=dice.between(28, 50),
            masters=masters,
            champions={one: "v2.3.1" for one in masters if dice.chance(0.2)},
            settings=_settings(dice),
            backend="exemplar" if dice.chance(0.08) else "scripted",
            begins=_FIRST_DAY + timedelta(hours=dice.between(0, 23), days=dice.between(0, 8)),
            rates=_rates(dice),
            routes_tasks=not dice.chance(0.06),
            notes_choice=dice.pick((1.0, 1.0, 0.9, 0.5)),
            judged=dice.pick((0.0, 0.1, 0.3)),
            training_usd=dice.pick((1.0, 1.4)),
        )

    def skill(self, version: str, *, drifted: bool) -> Skill:
        """Return how a model does, which its name decides; after a drift good models are good no more."""
        if version in {USUAL_VERSION, *self.champions.values()}:
            return USUAL
        skill = Dice(self.seed, "skill", version).weighted(SKILLS)
        return Skill(0.25, 2.5) if drifted and skill.completes > USUAL.completes else skill


def _rates(dice: Dice) -> dict[str, float]:
    """Return how often what goes wrong; in every world another mixture, and in some nothing at all."""
    usual = {
        "kill": 0.3,
        "disk error": 0.2,
        "database full": 0.05,
        "judge outage": 0.3,
        "trainer outage": 0.2,
        "training fails": 0.25,
        "deployment fails": 0.1,
        "silence": 0.06,
        "burst": 0.08,
        "drift": 0.06,
        "clock forwards": 0.05,
        "clock back": 0.05,
        "duplicate": 0.03,
        "late record": 0.04,
        "corrupt record": 0.03,
        "torn record": 0.01,
        "correction": 0.03,
        "restart": 0.15,
        "person": 0.12,
        "removed file": 0.06,
    }
    assert usual.keys() == set(FAULTS)
    is_calm = dice.chance(0.05)
    return {
        name: 0.0 if is_calm or dice.chance(0.35) else rate * dice.pick((1.0, 1.0, 1.6)) for name, rate in usual.items()
    }


def _settings(dice: Dice) -> Settings:
    """Return a configuration under which a few hundred tasks go through the whole loop."""
    settings = Settings(
        rollout=RolloutPolicy(
            min_tasks=dice.between(8, 16),
            maturation_s=dice.pick((900, 1_800, 3_600)),
            challenger_percentage=dice.pick((50, 50, 30)),
            promotion_evidence=dice.pick((5.0, 10.0, 20.0)),
            rollback_evidence=dice.pick((5.0, 10.0, 20.0)),
            watch_evidence=dice.pick((5.0, 10.0)),
            breaker_failures=dice.between(4, 6),
            max_challenger_tasks=dice.pick((60, 120, 400)),
            max_days=dice.pick((1.0, 6.0, 20.0)),
            history_tasks=200,
            watch_percentage=dice.pick((20, 50)),
            watch_tasks=dice.pick((30, 60)),
            watch_days=dice.pick((2.0, 10.0)),
        ),
        judge=JudgePolicy(
            enabled=dice.chance(0.7),
            daily_usd=dice.pick((0.02, 0.05, 0.2)),
            monthly_usd=dice.pick((0.1, 0.3, 1.0)),
            batch_min=dice.pick((4, 20)),
            batch_max=dice.pick((6, 2_000)),
            max_attempts=dice.between(1, 3),
            prices=(_PRICE,),
        ),
        dataset=DatasetPolicy(max_share=1.0),
    )
    training = TrainingPolicy(
        min_examples=dice.between(12, 30),
        scope=dice.pick(("global", "global", "master")),
        budget_usd=dice.pick((1.5, 5.0)),
        budget_month_usd=dice.pick((3.0, 6.0, 100.0)),
        deadline_s=dice.pick((7_200, 86_400)),
    )
    return msgspec.structs.replace(settings, training=training)
