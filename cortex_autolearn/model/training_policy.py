"""``[training]`` and ``[dataset]``: when a fine-tuning is due, what it is made of, and what it costs.

How settings are declared and read is told in ``policy``. Prices are dated, and what is not known stays unknown: a price
that is left out is None everywhere, never nothing.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from cortex_autolearn.model.layout import MASTER_FORM
from cortex_autolearn.model.training_jobs import Price

DEFAULT_SYSTEM_PROMPT: Final = (
    "You are the {master} of the Cortex fleet. Read the task you are given, carry it out completely, and answer with "
    "the result and the reasons another master needs to build on it. Say plainly what you could not do or verify."
)

DEFAULT_BASE: Final = "claude-haiku-5-5"
"""The smallest current Claude."""
_OWN_BASES: Final = {"bedrock": "amazon.nova-micro-v1:0:128k", "openai_compat": ""}
"""The bases of backends that train others, where none is set; which one an API like OpenAI's has, nobody knows."""

_MASTER: Final = rf"\A(?:master|{MASTER_FORM})\Z"  # the first is that of a task without one
_BASE: Final = r"\A[A-Za-z0-9][A-Za-z0-9._:@/-]{0,255}\Z"
_BASE_OR_NONE: Final = r"\A(?:[A-Za-z0-9][A-Za-z0-9._:@/-]{0,255})?\Z"
_DAY: Final = r"\A20[0-9]{2}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])\Z"

_Usd = Annotated[float, Meta(ge=0, le=1_000_000)]


class BasePrice(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a base costs from a day on; of several rows of one base the latest counts. Left out: unknown."""

    base: Annotated[
        str,
        Meta(
            pattern=_BASE,
            description="the base model, by its provider's id",
            extra={"allowed": "the id of a model"},
        ),
    ]
    as_of: Annotated[
        str,
        Meta(pattern=_DAY, description="day on which the price was read", extra={"allowed": 'a day, "YYYY-MM-DD"'}),
    ]
    training_usd_per_mtok: Annotated[_Usd | None, Meta(description="training, per million tokens and epoch")] = None
    input_usd_per_mtok: Annotated[_Usd | None, Meta(description="input, per million tokens")] = None
    cache_write_usd_per_mtok: Annotated[_Usd | None, Meta(description="input written to the cache")] = None
    cache_read_usd_per_mtok: Annotated[_Usd | None, Meta(description="input read from the cache")] = None
    output_usd_per_mtok: Annotated[_Usd | None, Meta(description="output, per million tokens")] = None
    storage_usd_per_month: Annotated[_Usd | None, Meta(description="keeping one model for a month")] = None
    serving_usd_per_hour: Annotated[_Usd | None, Meta(description="an endpoint that stands and waits")] = None


class TrainingPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[training]``: when a fine-tuning is due, and what it is made of and costs."""

    min_examples: Annotated[
        int, Meta(ge=1, le=100_000_000, description="training examples needed before a fine-tuning is triggered")
    ] = 1000
    system_prompt: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=20_000,
            description="system prompt of every example; {master} becomes the master's name",
        ),
    ] = DEFAULT_SYSTEM_PROMPT
    scope: Annotated[
        Literal["global", "master"],
        Meta(description="one model for all masters, or one for each master that has enough examples"),
    ] = "global"
    backend: Annotated[
        Literal["exemplar", "export", "bedrock", "openai_compat"],
        Meta(
            description="who trains: a current Claude with worked examples, files for whoever trains elsewhere, "
            "Amazon Bedrock, or an API like OpenAI's"
        ),
    ] = "exemplar"
    base_model: Annotated[
        str,
        Meta(
            pattern=_BASE_OR_NONE,
            description="the base model, by its provider's id; empty for the backend's own: claude-haiku-5-5, "
            "for bedrock amazon.nova-micro-v1:0:128k; openai_compat has none",
            extra={"allowed": 'the id of a model, or ""'},
        ),
    ] = ""
    epochs: Annotated[int, Meta(ge=1, le=100, description="passes over the examples, where the backend has them")] = 3
    batch_size: Annotated[
        int, Meta(ge=1, le=4096, description="examples a step learns from, where the backend has steps")
    ] = 32
    poll_s: Annotated[int, Meta(ge=1, le=86_400, description="seconds between looks at a training under way")] = 300
    deadline_s: Annotated[
        int,
        Meta(ge=60, le=31_536_000, description="seconds a training may take before it is cancelled and reported"),
    ] = 86_400
    budget_usd: Annotated[float, Meta(ge=0, le=10_000_000, description="most that one training may cost, in USD")] = (
        50.0
    )
    budget_month_usd: Annotated[
        float, Meta(ge=0, le=10_000_000, description="most that trainings may cost in a calendar month (UTC), in USD")
    ] = 100.0
    prices: Annotated[tuple[BasePrice, ...], Meta(max_length=1_000, description="what bases cost, as of which day")] = (
        BasePrice(
            base="claude-haiku-5-5",
            as_of="2026-11-22",
            input_usd_per_mtok=0.10,
            cache_write_usd_per_mtok=0.125,
            cache_read_usd_per_mtok=0.01,
            output_usd_per_mtok=0.50,
        ),
        BasePrice(
            base="claude-haiku-4-5",
            as_of="2026-11-22",
            input_usd_per_mtok=1.0,
            cache_write_usd_per_mtok=1.25,
            cache_read_usd_per_mtok=0.10,
            output_usd_per_mtok=5.0,
        ),
    )

    @property
    def base(self) -> str:
        """The base that is trained: the one that is set, else the backend's own; empty where it has none."""
        return self.base_model or _OWN_BASES.get(self.backend, DEFAULT_BASE)


class MasterPrompt(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A master whose examples have a system prompt of their own."""

    master: Annotated[
        str,
        Meta(
            pattern=_MASTER,
            description="the master, as silver names it",
            extra={"allowed": 'the name of a master, such as "security-master"'},
        ),
    ]
    prompt: Annotated[
        str,
        Meta(min_length=1, max_length=20_000, description="its system prompt; {master} becomes the master's name"),
    ]


class DatasetPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[dataset]``: which of the collected outcomes become examples."""

    near_duplicate_threshold: Annotated[
        float,
        Meta(
            ge=0.5,
            le=1,
            description="likeness of two inputs (shared word triples over all of theirs) from which one is left out",
        ),
    ] = 0.8
    max_share: Annotated[
        float,
        Meta(ge=0.01, le=1, description="largest share of one master, and of one task type, in the training split"),
    ] = 0.8
    max_train: Annotated[int, Meta(ge=1, le=1_000_000, description="most training examples; the newest are kept")] = (
        100_000
    )
    max_validation: Annotated[
        int, Meta(ge=1, le=1_000_000, description="most validation examples; the newest are kept")
    ] = 25_000
    max_example_chars: Annotated[
        int, Meta(ge=100, le=10_000_000, description="characters above which an example is too long")
    ] = 100_000
    max_example_tokens: Annotated[
        int, Meta(ge=50, le=10_000_000, description="tokens (estimated) above which an example is too long")
    ] = 32_000
    seed: Annotated[
        int, Meta(ge=0, le=2**31 - 1, description="decides the order of the examples, and between equals")
    ] = 0
    system_prompts: Annotated[
        tuple[MasterPrompt, ...], Meta(max_length=1_000, description="masters with a system prompt of their own")
    ] = ()


def price_table(policy: TrainingPolicy) -> dict[str, Price]:
    """Return for each base its latest price."""
    latest = sorted(policy.prices, key=lambda row: row.as_of)
    return {
        row.base: Price(
            base=row.base,
            as_of=row.as_of,
            training=row.training_usd_per_mtok,
            input=row.input_usd_per_mtok,
            cache_write=row.cache_write_usd_per_mtok,
            cache_read=row.cache_read_usd_per_mtok,
            output=row.output_usd_per_mtok,
            storage_per_month=row.storage_usd_per_month,
            serving_per_hour=row.serving_usd_per_hour,
        )
        for row in latest
    }


def system_prompt_of(master: str | None, training: TrainingPolicy, dataset: DatasetPolicy) -> str:
    """Return the system prompt of a master's examples; a task without a master is ``master``'s."""
    own = {row.master: row.prompt for row in dataset.system_prompts}
    name = master or "master"
    return own.get(name, training.system_prompt).replace("{master}", name)
