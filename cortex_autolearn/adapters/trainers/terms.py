"""The terms of an exemplar training: what stands in its way, and what it adds to the cost of each task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cortex_autolearn.adapters.trainers.dataset import PARTS, DatasetDamagedError, FrozenDataset
from cortex_autolearn.adapters.trainers.recipe import KNOBS, Knobs, cache_minimum, refused_knobs
from cortex_autolearn.exemplars.measure import DEFAULT_K
from cortex_autolearn.exemplars.words import tokens_of
from cortex_autolearn.model.training_jobs import Estimate, Limits, Price, Spec, client_token
from cortex_autolearn.model.training_problems import (
    BaseModelRetired,
    BaseModelRetiring,
    BaseModelUnknown,
    DatasetUnreadable,
    HyperparameterIgnored,
    HyperparameterOutOfRange,
    ModelIdTaken,
    PriceUnknown,
    Problem,
    TooFewRecords,
    TooManyRecords,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cortex_autolearn.adapters.trainers.shelf import Note
    from cortex_autolearn.model.judgement import ModelLife

_MTOK: Final = 1e6
_SECONDS_A_JOB: Final = 1.0
_SECONDS_AN_EXAMPLE: Final = 0.0005
_SECONDS_A_TRIAL: Final = 0.02


def problems(  # noqa: PLR0913 -- what is known, each by its name
    spec: Spec,
    dataset: Callable[[], FrozenDataset],
    *,
    limits: Limits,
    price: Price | None,
    life: Callable[[str], ModelLife] | None,
    taken_by: Note | None,
) -> list[Problem]:
    """Return what stands in the way of a spec.

    Arguments:
        spec: the training.
        dataset: opens the dataset.
        limits: how many examples may be stored.
        price: what the base costs; None where unknown.
        life: tells how long a base is offered; None where nobody can be asked.
        taken_by: the job that made the model of the spec's id, if there is one.

    Raises:
        BoundaryError: the dataset cannot be read just now, or ``life`` does not answer.
    """
    found = [
        *unreadable(spec, dataset),
        *_about_counts(spec, limits),
        *_about_hyperparameters(spec),
        *_about_base(spec.base, life),
    ]
    if _usd(price, 0, 0) is None:
        found.append(PriceUnknown(spec.base, "serving"))
    if taken_by is not None and client_token(taken_by.spec) != client_token(spec):
        found.append(ModelIdTaken(spec.model_id))
    return found


def unreadable(spec: Spec, dataset: Callable[[], FrozenDataset]) -> Iterator[Problem]:
    """Yield what is wrong with the dataset, which is read to its end."""
    try:
        opened = dataset()
        for part in PARTS:
            for _ in opened.examples(part):
                pass
    except DatasetDamagedError as error:
        yield DatasetUnreadable(spec.dataset.dataset_id, error.cause)


def estimate(spec: Spec, dataset: FrozenDataset, price: Price | None) -> Estimate:
    """Return what the examples add to each task; training and keeping the model cost nothing.

    Raises:
        BoundaryError: the dataset cannot be read.
    """
    tokens = [tokens_of(example.input) + tokens_of(example.output) for example in dataset.examples("train")]
    knobs = Knobs.of(spec)
    core = min(knobs.core_tokens, sum(tokens))
    cached = core >= cache_minimum(spec.base)
    mean = sum(tokens) / len(tokens) if tokens else 0.0
    retrieved = int(min(mean * (knobs.k or DEFAULT_K), knobs.token_budget))
    trials = min(spec.dataset.validation, knobs.held_out)
    return Estimate(
        tokens=sum(tokens),
        epochs=0,
        training_usd=0.0,
        storage_usd_per_month=0.0,
        serving_usd_per_hour=0.0,
        added_input_tokens=core + retrieved,
        added_usd_per_task=_usd(price, core if cached else 0, retrieved + (0 if cached else core)),
        seconds=_SECONDS_A_JOB + _SECONDS_AN_EXAMPLE * len(tokens) + _SECONDS_A_TRIAL * trials,
        notes=(
            "Nothing is trained at a provider: the examples are shown with each task.",
            "Tokens are estimated as one for three bytes.",
            f"The core set of {core} tokens is {'read from' if cached else 'too short for'} the prompt cache.",
        ),
    )


def _usd(price: Price | None, cached: int, uncached: int) -> float | None:
    if price is None or price.input is None or price.cache_read is None:
        return None
    return (cached * price.cache_read + uncached * price.input) / _MTOK


def _about_counts(spec: Spec, limits: Limits) -> Iterator[Problem]:
    counts = (
        ("train", spec.dataset.train, limits.min_train, limits.max_train),
        ("validation", spec.dataset.validation, limits.min_validation, limits.max_validation),
    )
    for part, found, least, most in counts:
        if found < least:
            yield TooFewRecords(part, found, least)
        if most is not None and found > most:
            yield TooManyRecords(part, found, most)


def _about_hyperparameters(spec: Spec) -> Iterator[Problem]:
    for name in sorted(spec.hyperparameters.keys() - KNOBS.keys()):
        yield HyperparameterIgnored(name)
    for name, allowed in refused_knobs(spec).items():
        yield HyperparameterOutOfRange(name, spec.hyperparameters[name], allowed)


def _about_base(base: str, ask: Callable[[str], ModelLife] | None) -> Iterator[Problem]:
    if not base.strip():
        yield BaseModelUnknown(base)
        return
    if ask is None:
        return
    life = ask(base)
    match life.state:
        case "retired":
            yield BaseModelRetired(base, life.retires_on)
        case "deprecated":
            yield BaseModelRetiring(base, life.retires_on)
        case "unknown":
            yield BaseModelUnknown(base)
        case "active":
            pass
