"""What stands in the way of a training, as values: found by ``preflight``, before anything is spent or sent.

Each says what is the matter (``text``, a sentence without a full stop), what a person can do about it (``remedy``,
empty where there is nothing to do) and whether a job must not be submitted while it stands (``blocks``). They survive a
round through JSON, as the state keeps them.
"""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct

from cortex_autolearn.model.training_jobs import Hyperparameter


class BaseModelUnset(Struct, frozen=True, tag=True):
    """No base is set, and the backend has none of its own."""

    blocks: ClassVar[bool] = True
    text: ClassVar[str] = "no base is set, and this backend has none of its own"
    remedy: ClassVar[str] = "Set training.base_model to one that the provider fine-tunes"


class BaseModelUnknown(Struct, frozen=True, tag=True):
    """The provider has no such base, or does not fine-tune it (in this region, for this account)."""

    blocks: ClassVar[bool] = True
    base: str
    known: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What is the matter."""
        return f"the base {self.base!r} is not among those that can be trained"

    @property
    def remedy(self) -> str:
        """What a person can do about it."""
        return f"Set training.base_model{_to_one_of(self.known)}"


class BaseModelRetired(Struct, frozen=True, tag=True):
    """The base takes no more trainings: legacy or ended. ``since`` is YYYY-MM-DD, None where unknown."""

    blocks: ClassVar[bool] = True
    base: str
    since: str | None = None
    instead: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What is the matter."""
        return f"the base {self.base} takes no more trainings{f' since {self.since}' if self.since else ''}"

    @property
    def remedy(self) -> str:
        """What a person can do about it."""
        return f"Set training.base_model{_to_one_of(self.instead)}"


class BaseModelRetiring(Struct, frozen=True, tag=True):
    """The base still works, and is announced to end. ``retires_on`` is YYYY-MM-DD, None where unknown."""

    blocks: ClassVar[bool] = False
    base: str
    retires_on: str | None = None

    @property
    def text(self) -> str:
        """What is the matter."""
        return f"the base {self.base} ends{f' on {self.retires_on}' if self.retires_on else ', its date unknown'}"

    @property
    def remedy(self) -> str:
        """What a person can do about it."""
        return "Plan for another training.base_model"


class TooFewRecords(Struct, frozen=True, tag=True):
    """A split has fewer examples than the backend asks for."""

    blocks: ClassVar[bool] = True
    split: str
    found: int
    needed: int

    @property
    def text(self) -> str:
        """What is the matter."""
        return f"the {self.split} split has {self.found} examples and needs {self.needed}"

    @property
    def remedy(self) -> str:
        """What a person can do about it."""
        return "Wait for more outcomes, or choose a backend that needs fewer"


class TooManyRecords(Struct, frozen=True, tag=True):
    """A split has more examples than the backend takes."""

    blocks: ClassVar[bool] = True
    split: str
    found: int
    allowed: int

    @property
    def text(self) -> str:
        """What is the matter."""
        return f"the {self.split} split has {self.found} examples and may have {self.allowed}"

    @property
    def remedy(self) -> str:
        """What a person can do about it."""
        return "Build the dataset for this backend: it cuts to the backend's limits"


class ExampleTooLong(Struct, frozen=True, tag=True):
    """An example is longer than the base takes. ``line`` counts from 1 in the split's file; sizes in characters."""

    blocks: ClassVar[bool] = True
    split: str
    line: int
    found: int
    allowed: int

    @property
    def text(self) -> str:
        """What is the matter."""
        return f"example {self.line} of the {self.split} split has {self.found} characters and may have {self.allowed}"

    @property
    def remedy(self) -> str:
        """What a person can do about it."""
        return "Build the dataset for this backend: it leaves out what is too long"


class HyperparameterOutOfRange(Struct, frozen=True, tag=True):
    """A hyperparameter cannot be used, and nothing is put in its place. ``allowed`` is a phrase: "1 to 5"."""

    blocks: ClassVar[bool] = True
    name: str
    asked: Hyperparameter
    allowed: str

    @property
    def text(self) -> str:
        """What is the matter."""
        return f"{self.name} is {self.asked!r} and must be {self.allowed}"

    @property
    def remedy(self) -> str:
        """What a person can do about it."""
        return f"Change {self.name} in the settings"


class HyperparameterAdjusted(Struct, frozen=True, tag=True):
    """Where the asked value is out of the base's range, the base's own is used, and this says so."""

    blocks: ClassVar[bool] = False
    remedy: ClassVar[str] = ""
    name: str
    asked: Hyperparameter
    used: Hyperparameter
    allowed: str

    @property
    def text(self) -> str:
        """What is the matter."""
        return f"{self.name} is {self.used!r} instead of {self.asked!r}: this base takes {self.allowed}"


class HyperparameterIgnored(Struct, frozen=True, tag=True):
    """The backend knows no such hyperparameter."""

    blocks: ClassVar[bool] = False
    remedy: ClassVar[str] = ""
    name: str

    @property
    def text(self) -> str:
        """What is the matter."""
        return f"{self.name} means nothing to this backend"


class PriceUnknown(Struct, frozen=True, tag=True):
    """The cost of ``what`` ("training", "storage", "serving") cannot be told; whoever keeps a budget decides."""

    blocks: ClassVar[bool] = False
    base: str
    what: str

    @property
    def text(self) -> str:
        """What is the matter."""
        return f"the price of {self.what} with {self.base} is unknown"

    @property
    def remedy(self) -> str:
        """What a person can do about it."""
        return f"Add the prices of {self.base} to the settings"


class DatasetUnreadable(Struct, frozen=True, tag=True):
    """The dataset is not there, or not as its manifest says."""

    blocks: ClassVar[bool] = True
    dataset_id: str
    cause: str

    @property
    def text(self) -> str:
        """What is the matter."""
        return f"the dataset {self.dataset_id} cannot be used: {self.cause}"

    @property
    def remedy(self) -> str:
        """What a person can do about it."""
        return "Build the dataset again"


class ModelIdTaken(Struct, frozen=True, tag=True):
    """Another job made a model of this id."""

    blocks: ClassVar[bool] = True
    model_id: str

    @property
    def text(self) -> str:
        """What is the matter."""
        return f"a model {self.model_id} made by another job is there already"

    @property
    def remedy(self) -> str:
        """What a person can do about it."""
        return "Submit under the next free id"


class AccessRefused(Struct, frozen=True, tag=True):
    """The provider does not let us: credentials, role, region, bucket, quota. ``remedy`` is the backend's own."""

    blocks: ClassVar[bool] = True
    subject: str
    cause: str
    remedy: str

    @property
    def text(self) -> str:
        """What is the matter."""
        return f"{self.subject}: {self.cause}"


class ServingUnsupported(Struct, frozen=True, tag=True):
    """The model could be trained, and not be served the way this backend serves; ``needs`` names what it takes."""

    blocks: ClassVar[bool] = True
    base: str
    needs: str

    @property
    def text(self) -> str:
        """What is the matter."""
        return f"a model made from {self.base} can only be served with {self.needs}"

    @property
    def remedy(self) -> str:
        """What a person can do about it."""
        return "Choose a base that is served on demand"


Problem = (
    BaseModelUnset
    | BaseModelUnknown
    | BaseModelRetired
    | BaseModelRetiring
    | TooFewRecords
    | TooManyRecords
    | ExampleTooLong
    | HyperparameterOutOfRange
    | HyperparameterAdjusted
    | HyperparameterIgnored
    | PriceUnknown
    | DatasetUnreadable
    | ModelIdTaken
    | AccessRefused
    | ServingUnsupported
)
"""Something that stands, or may stand, in the way of a job."""


def _to_one_of(bases: tuple[str, ...]) -> str:
    return f" to one of: {', '.join(bases)}" if bases else " to a current one"
