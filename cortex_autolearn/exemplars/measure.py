"""How many examples to show, and which mix: decided on held-out tasks, without asking a model. Rules only.

What is measured: how alike the answer that the best of the shown examples got is to the answer that the held-out task
got (``words.likeness``, 0 to 1), on average over the held-out tasks. It tells how often the model has an answer of the
right form and substance before its eyes, not how good its own answer will be; that is what the experiment is for.

Of all settings the one with the fewest retrieved examples is taken that is within one standard error of the best (the
rule Breiman and others give in "Classification and Regression Trees", 1984). The core set stays unless the tokens it
costs, spent on more retrieved examples, do measurably better.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Final, NamedTuple

DEFAULT_K: Final = 4
COUNTS: Final = (2, 4, 6, 8)
"""How many retrieved examples are tried."""
MOST: Final = COUNTS[-1]
MIN_HELD_OUT: Final = 20
"""With fewer held-out tasks nothing is concluded, and the defaults stand."""

CACHED_PRICE: Final = 0.1
"""What a token read from the prompt cache costs, as a share of one that is not."""


class Trial(NamedTuple):
    """One held-out task: how alike to its answer the best example is of the first 1, 2, 3, … that are shown.

    ``scoped`` and ``unscoped`` for retrieved examples, ``chance`` for ones drawn at random, ``core`` for the core set.
    """

    scoped: Sequence[float]
    unscoped: Sequence[float]
    chance: Sequence[float]
    core: float


class Setting(NamedTuple):
    """A way to make requests: how many examples, scoped or not, with the core set or without."""

    k: int
    scoped: bool
    core: bool


class Quality(NamedTuple):
    """What a setting reaches: the mean over the held-out tasks, and the mean's standard error."""

    setting: Setting
    mean: float
    standard_error: float


class Finding(NamedTuple):
    """What was decided, and what it rests on.

    ``chosen`` is what the setting reaches; ``retrieved`` what its retrieved examples reach by themselves; ``chance``
    what as many reach that are drawn at random.
    """

    setting: Setting
    chosen: Quality | None
    retrieved: Quality | None
    chance: Quality | None
    tried: tuple[Quality, ...]
    held_out: int


def choose(
    trials: Sequence[Trial], *, example_tokens: float, core_cost: float, counts: Sequence[int] = COUNTS
) -> Finding:
    """Choose a setting.

    Arguments:
        trials: the held-out tasks.
        example_tokens: what a retrieved example takes on average.
        core_cost: what the core set costs a request, in tokens at full price; 0 where there is none.
        counts: how many retrieved examples may be shown.
    """
    has_core = core_cost > 0
    if len(trials) < MIN_HELD_OUT:
        setting = Setting(DEFAULT_K if DEFAULT_K in counts else counts[0], scoped=True, core=has_core)
        return Finding(setting, None, None, None, (), len(trials))
    tried = [
        _quality(trials, Setting(k, scoped, core))
        for core in ((True, False) if has_core else (False,))
        for scoped in (True, False)
        for k in counts
    ]
    chosen = _frugal([quality for quality in tried if quality.setting.core == has_core])
    if has_core:
        chosen = _without_core(trials, chosen, tried, extra=int(core_cost / max(example_tokens, 1.0)))
    alone = chosen.setting._replace(core=False)
    chance = _summed(alone, [_shown(trial, trial.chance, alone) for trial in trials])
    return Finding(chosen.setting, chosen, _quality(trials, alone), chance, tuple(tried), len(trials))


def prefix_best(values: Sequence[float]) -> list[float]:
    """Return the best of the first 1, 2, 3, … values; of :data:`MOST`, however few there are."""
    best, found = 0.0, []
    for number in range(MOST):
        best = max(best, values[number]) if number < len(values) else best
        found.append(best)
    return found


def _frugal(qualities: Sequence[Quality]) -> Quality:
    best = max(qualities, key=lambda quality: quality.mean)
    good = [quality for quality in qualities if quality.mean >= best.mean - best.standard_error]
    fewest = min(quality.setting.k for quality in good)
    return max((quality for quality in good if quality.setting.k == fewest), key=_mean_then_scoped)


def _without_core(trials: Sequence[Trial], chosen: Quality, tried: Sequence[Quality], *, extra: int) -> Quality:
    affordable = [one for one in tried if not one.setting.core and one.setting.k <= chosen.setting.k + extra]
    other = max(affordable, key=_mean_then_scoped)
    differences = [_score(trial, other.setting) - _score(trial, chosen.setting) for trial in trials]
    gain = _summed(other.setting, differences)
    return other if gain.mean > gain.standard_error else chosen


def _quality(trials: Sequence[Trial], setting: Setting) -> Quality:
    return _summed(setting, [_score(trial, setting) for trial in trials])


def _score(trial: Trial, setting: Setting) -> float:
    return _shown(trial, trial.scoped if setting.scoped else trial.unscoped, setting)


def _shown(trial: Trial, retrieved: Sequence[float], setting: Setting) -> float:
    found = retrieved[min(setting.k, MOST) - 1]
    return max(found, trial.core) if setting.core else found


def _summed(setting: Setting, scores: Sequence[float]) -> Quality:
    mean = sum(scores) / len(scores)
    variance = sum((score - mean) ** 2 for score in scores) / max(len(scores) - 1, 1)
    return Quality(setting, mean, sqrt(variance / len(scores)))


def _mean_then_scoped(quality: Quality) -> tuple[float, bool]:
    return quality.mean, quality.setting.scoped
