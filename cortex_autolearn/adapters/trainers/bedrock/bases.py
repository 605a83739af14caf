"""The bases that can be trained in Bedrock: their records, their hyperparameters, their limits, how they are served.

From the provider's user guide (model customization, read on 2026-11-22). The service has the last word: ``preflight``
asks it where a base is in its life, and a job that is beyond an account's quota is refused there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from cortex_autolearn.model.training_jobs import Limits
from cortex_autolearn.model.training_problems import (
    HyperparameterAdjusted,
    HyperparameterIgnored,
    HyperparameterOutOfRange,
    Problem,
)

if TYPE_CHECKING:
    from cortex_autolearn.model.training_jobs import Hyperparameter, Spec

DEFAULT: Final = "amazon.nova-micro-v1:0:128k"
EPOCHS: Final = "n_epochs"


class Knob(NamedTuple):
    """A hyperparameter of a base: its name there, its range, the base's own value, whether it is a whole number."""

    name: str
    low: float
    high: float
    own: float
    is_whole: bool = True

    @property
    def allowed(self) -> str:
        """The range as a phrase."""
        low, high = _text(self.low), _text(self.high)
        return low if low == high else f"{low} to {high}"


class Base(NamedTuple):
    """A base that can be trained.

    Arguments:
        model_id: the provider's id, with the context length that is trained.
        form: how an example is written, by a name of ``model.chat_formats``.
        knobs: its hyperparameters, by our names.
        limits: how many examples, and how long ones. The service limits training and validation together.
        regions: where it is trained.
        is_on_demand: whether a model made from it is served by a deployment that costs nothing while it waits.
        has_reserved_words: whether some words make its training fail; see ``records``.
    """

    model_id: str
    form: str
    knobs: Mapping[str, Knob]
    limits: Limits
    regions: tuple[str, ...]
    is_on_demand: bool = False
    has_reserved_words: bool = False

    @property
    def own_epochs(self) -> int:
        """How often it goes over the examples where nobody asks for another number."""
        return int(self.knobs[EPOCHS].own)


# An example may be so long that it fits the tokens allowed even at three characters a token.
_CHARS_PER_TOKEN: Final = 3

_NOVA: Final = {
    EPOCHS: Knob("epochCount", 1, 5, 2),
    "learning_rate": Knob("learningRate", 1e-6, 1e-4, 1e-5, is_whole=False),
    "warmup_steps": Knob("learningRateWarmupSteps", 0, 100, 10),
}
_LLAMA: Final = {
    EPOCHS: Knob("epochCount", 1, 10, 5),
    "batch_size": Knob("batchSize", 1, 1, 1),
    "learning_rate": Knob("learningRate", 5e-6, 0.1, 1e-4, is_whole=False),
}
_HAIKU: Final = {
    EPOCHS: Knob("epochCount", 1, 10, 2),
    "batch_size": Knob("batchSize", 4, 256, 32),
    "learning_rate_multiplier": Knob("learningRateMultiplier", 0.1, 2, 1, is_whole=False),
}

_NOVA_LIMITS: Final = Limits(
    min_train=8,
    max_train=19_000,
    min_validation=8,
    max_validation=1_000,
    max_example_chars=32_000 * _CHARS_PER_TOKEN,
)
_LLAMA_LIMITS: Final = Limits(
    min_train=1, max_train=9_000, min_validation=1, max_validation=1_000, max_example_chars=16_000 * _CHARS_PER_TOKEN
)
_HAIKU_LIMITS: Final = Limits(
    min_train=32, max_train=9_000, min_validation=32, max_validation=1_000, max_example_chars=32_000 * _CHARS_PER_TOKEN
)


def _nova(model_id: str) -> Base:
    return Base(
        model_id,
        "bedrock-conversation",
        _NOVA,
        _NOVA_LIMITS,
        ("us-east-1",),
        is_on_demand=True,
        has_reserved_words=True,
    )


def _llama(model_id: str) -> Base:
    return Base(model_id, "prompt-completion", _LLAMA, _LLAMA_LIMITS, ("us-west-2",))


BASES: Final[Mapping[str, Base]] = {
    base.model_id: base
    for base in (
        _nova(DEFAULT),
        _nova("amazon.nova-lite-v1:0:300k"),
        _nova("amazon.nova-pro-v1:0:300k"),
        _llama("meta.llama3-1-8b-instruct-v1:0:128k"),
        _llama("meta.llama3-1-70b-instruct-v1:0:128k"),
        _llama("meta.llama3-2-1b-instruct-v1:0:128k"),
        _llama("meta.llama3-2-3b-instruct-v1:0:128k"),
        _llama("meta.llama3-3-70b-instruct-v1:0:128k"),
        Base("anthropic.claude-3-haiku-20240307-v1:0:200k", "claude", _HAIKU, _HAIKU_LIMITS, ("us-west-2",)),
    )
}
"""By their ids, the default first."""


def values(base: Base, asked: Mapping[str, Hyperparameter]) -> dict[str, str]:
    """Return the hyperparameters as the service takes them: its names, and texts."""
    sent = {}
    for name, knob in base.knobs.items():
        if name in asked:
            value = asked[name]
            sent[knob.name] = _text(value if _is_right(knob, value) else knob.own)
    return sent


def problems(base: Base, spec: Spec) -> list[Problem]:
    """Return what becomes of the hyperparameters of a spec, where that is not what was asked."""
    found: list[Problem] = []
    for name, asked in sorted(spec.hyperparameters.items()):
        knob = base.knobs.get(name)
        if knob is None:
            found.append(HyperparameterIgnored(name))
        elif isinstance(asked, bool | str) or (knob.is_whole and asked != int(asked)):
            number = "a whole number" if knob.is_whole else "a number"
            found.append(HyperparameterOutOfRange(name, asked, f"{number}, {knob.allowed}"))
        elif not _is_right(knob, asked):
            used = int(knob.own) if knob.is_whole else knob.own
            found.append(HyperparameterAdjusted(name, asked, used, knob.allowed))
    return found


def epochs(base: Base, spec: Spec) -> int:
    """Return how often a training goes over the examples."""
    asked = spec.hyperparameters.get(EPOCHS, base.own_epochs)
    return int(asked) if _is_right(base.knobs[EPOCHS], asked) else base.own_epochs


def _is_right(knob: Knob, asked: Hyperparameter) -> bool:
    if isinstance(asked, bool | str) or (knob.is_whole and asked != int(asked)):
        return False
    return knob.low <= asked <= knob.high


def _text(value: Hyperparameter) -> str:
    """Write a number as the service reads it: without an exponent."""
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.12f}".rstrip("0")
    return str(int(value))
