"""The terms of a fine-tuning: what stands in its way, and what it costs. Nothing is spent or sent in finding out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cortex_autolearn.adapters.trainers import terms
from cortex_autolearn.adapters.trainers.openai_compat import faults
from cortex_autolearn.adapters.trainers.openai_compat.line import AccessError, Fault, Line
from cortex_autolearn.exemplars.words import tokens_of
from cortex_autolearn.model.training_jobs import Estimate, Hyperparameter, Limits, Price, Spec
from cortex_autolearn.model.training_problems import (
    BaseModelRetired,
    BaseModelRetiring,
    BaseModelUnknown,
    BaseModelUnset,
    HyperparameterIgnored,
    HyperparameterOutOfRange,
    PriceUnknown,
    Problem,
    TooFewRecords,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cortex_autolearn.adapters.trainers.dataset import FrozenDataset

LIMITS: Final = Limits(min_train=10)
"""Fewer than ten examples are refused by the provider."""

# The ranges of OpenAI's description of its API.
_WHOLE: Final = {"n_epochs": (1, 50), "batch_size": (1, 256), "seed": (0, 2**31 - 1)}
_FACTOR: Final = "learning_rate_multiplier"
_MTOK: Final = 1e6


def problems(
    spec: Spec, dataset: Callable[[], FrozenDataset], line: Line, *, price: Price | None, today: str
) -> list[Problem]:
    """Return what stands in the way of a spec.

    Arguments:
        spec: the training.
        dataset: opens the dataset.
        line: to the provider, of whom only questions are asked.
        price: what the base costs; None where unknown.
        today: YYYY-MM-DD, UTC.

    Raises:
        BoundaryError: the dataset cannot be read just now, or the provider does not answer.
    """
    found: list[Problem] = [*terms.unreadable(spec, dataset)]
    if spec.dataset.train < LIMITS.min_train:
        found.append(TooFewRecords("train", spec.dataset.train, LIMITS.min_train))
    found += _about_hyperparameters(spec)
    if not spec.base:
        found.append(BaseModelUnset())
    elif price is None or price.training is None:
        found.append(PriceUnknown(spec.base, "training"))
    try:
        found += _about_base(spec.base, line, today) if spec.base else ()
        found += _about_rights(line)
    except AccessError as error:
        found.append(faults.no_access(error))
    except Fault as fault:
        problem = faults.problem(fault, line.address)
        if problem is None:
            raise faults.error(fault, "ask the provider about", spec.base) from None
        found.append(problem)
    return found


def estimate(spec: Spec, dataset: FrozenDataset, price: Price | None) -> Estimate:
    """Return what a training costs.

    Raises:
        BoundaryError: the dataset cannot be read.
    """
    tokens = sum(
        sum(map(tokens_of, (example.system, example.input, example.output))) for example in dataset.examples("train")
    )
    asked = spec.hyperparameters.get("n_epochs")
    epochs = asked if isinstance(asked, int) and not isinstance(asked, bool) and asked > 0 else 3
    usd = None if price is None or price.training is None else tokens * epochs * price.training / _MTOK
    return Estimate(
        tokens=tokens,
        epochs=epochs,
        training_usd=usd,
        storage_usd_per_month=None if price is None else price.storage_per_month,
        serving_usd_per_hour=None if price is None else price.serving_per_hour,
        added_usd_per_task=0.0,
        notes=(
            "The provider charges for each token and epoch; what it counted is told when the job has ended.",
            "Tokens are estimated as one for three bytes, which is more than most texts have.",
        ),
    )


def hyperparameters(spec: Spec) -> dict[str, Hyperparameter]:
    """Return those that the provider is asked for; ``seed`` stands elsewhere in the request."""
    known = ("n_epochs", "batch_size", _FACTOR)
    return {name: value for name, value in spec.hyperparameters.items() if name in known}


def _about_hyperparameters(spec: Spec) -> Iterator[Problem]:
    for name, asked in sorted(spec.hyperparameters.items()):
        if name in _WHOLE:
            least, most = _WHOLE[name]
            if isinstance(asked, bool) or not isinstance(asked, int) or not least <= asked <= most:
                yield HyperparameterOutOfRange(name, asked, f"a whole number from {least} to {most}")
        elif name == _FACTOR:
            if isinstance(asked, bool | str) or asked <= 0:
                yield HyperparameterOutOfRange(name, asked, "a number above 0")
        else:
            yield HyperparameterIgnored(name)


def _about_base(base: str, line: Line, today: str) -> Iterator[Problem]:
    try:
        model = line.model(base)
    except Fault as fault:
        if fault.status != 404:
            raise
        # A 404 may be about the model, or about the address: who has a list of models is an API.
        known = [one.id for one in line.models()]
        if base not in known:
            yield BaseModelUnknown(base)
        return
    if model.shutdown_date:
        is_over = model.shutdown_date[:10] <= today
        yield (BaseModelRetired if is_over else BaseModelRetiring)(base, model.shutdown_date[:10])


def _about_rights(line: Line) -> Iterator[Problem]:
    """Ask for one file and one job, which a key without the rights may not."""
    for what, ask in (("files", line.uploads), ("fine-tuning", line.jobs)):
        try:
            ask(limit=1)
        except Fault as fault:
            problem = faults.problem(fault, f"{what} at {line.address}")
            if problem is None:
                raise
            yield problem
            if fault.status == 401:
                return
