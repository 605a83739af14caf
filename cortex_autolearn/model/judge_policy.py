"""``[judge]``: whether missing quality scores are made by a model, by which one, and for how much money.

Prices stand here with the day they hold from, because a budget is only worth what its prices are: a model without a
price is not asked. All are in USD per million tokens (MTok), as providers publish them.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from cortex_autolearn.model.layout import MASTER_FORM

_DAY = r"\A20[0-9]{2}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])\Z"
_MODEL = r"\A[A-Za-z0-9][A-Za-z0-9._:@/-]{0,127}\Z"
_MASTER = rf"\A{MASTER_FORM}\Z"


class ModelPrice(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a model costs from a day on; of several rows the latest that has begun counts."""

    model: Annotated[
        str,
        Meta(
            pattern=_MODEL,
            description="the model, or the beginning of its dated names",
            extra={"allowed": "the name of a model"},
        ),
    ]
    since: Annotated[
        str, Meta(pattern=_DAY, description="first day (UTC) of the price", extra={"allowed": 'a day, "YYYY-MM-DD"'})
    ]
    input_usd_per_mtok: Annotated[float, Meta(ge=0, le=10_000, description="input tokens")]
    cache_write_usd_per_mtok: Annotated[float, Meta(ge=0, le=10_000, description="tokens written to the cache")]
    cache_read_usd_per_mtok: Annotated[float, Meta(ge=0, le=10_000, description="tokens read from the cache")]
    output_usd_per_mtok: Annotated[float, Meta(ge=0, le=10_000, description="output tokens")]
    batch_factor: Annotated[float, Meta(ge=0, le=1, description="share of the price that a batch costs")] = 0.5
    long_prompt_tokens: Annotated[
        int, Meta(ge=0, le=100_000_000, description="input tokens above which a request is dearer; 0: none are")
    ] = 0
    long_prompt_factor: Annotated[float, Meta(ge=1, le=100, description="how many times dearer it is then")] = 1.0


class MasterRubric(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A master whose work is scored by a rubric of its own."""

    master: Annotated[
        str,
        Meta(
            pattern=_MASTER,
            description="the master, as silver names it",
            extra={"allowed": 'the name of a master, such as "security-master"'},
        ),
    ]
    file: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=4096,
            description="the rubric's text (UTF-8, at most 256 KiB), absolute or relative to the root",
            extra={"allowed": "a path"},
        ),
    ]


class JudgePolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[judge]``: who scores tasks that have no quality score, and for how much.

    The key is no setting: it comes from the environment, or from systemd's credentials.
    """

    enabled: Annotated[bool, Meta(description="have a model score tasks that have no quality score")] = True
    model: Annotated[
        str,
        Meta(pattern=_MODEL, description="the model that scores", extra={"allowed": "the name of a model"}),
    ] = "claude-haiku-5-5"
    daily_usd: Annotated[float, Meta(ge=0, le=1_000_000, description="most that a day's scores may cost (UTC)")] = 0.20
    monthly_usd: Annotated[float, Meta(ge=0, le=1_000_000, description="most that a month's may cost (UTC)")] = 2.0
    batch_min: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="tasks that must wait for a batch, which costs half but takes its time",
            extra={"at_most": "batch_max"},
        ),
    ] = 20
    batch_max: Annotated[int, Meta(ge=1, le=100_000, description="most tasks of one batch")] = 2_000
    concurrency: Annotated[int, Meta(ge=1, le=64, description="single calls under way at once")] = 4
    max_text_chars: Annotated[
        int,
        Meta(ge=200, le=1_000_000, description="characters of a task's input, and of its output, that are judged"),
    ] = 8_000
    max_attempts: Annotated[int, Meta(ge=1, le=20, description="times a task is tried before it is set aside")] = 3
    poll_s: Annotated[float, Meta(ge=1, le=86_400, description="seconds between looks at a batch under way")] = 60.0
    rubrics: Annotated[
        tuple[MasterRubric, ...], Meta(max_length=1_000, description="masters with a rubric of their own")
    ] = ()
    prices: Annotated[
        tuple[ModelPrice, ...], Meta(max_length=1_000, description="what models cost, from which day on")
    ] = (
        ModelPrice(
            model="claude-haiku-5-5",
            since="2026-10-07",
            input_usd_per_mtok=0.10,
            cache_write_usd_per_mtok=0.125,
            cache_read_usd_per_mtok=0.01,
            output_usd_per_mtok=0.50,
            long_prompt_tokens=100_000,
            long_prompt_factor=5.0,
        ),
        ModelPrice(
            model="claude-haiku-4-5",
            since="2025-10-15",
            input_usd_per_mtok=1.0,
            cache_write_usd_per_mtok=1.25,
            cache_read_usd_per_mtok=0.10,
            output_usd_per_mtok=5.0,
        ),
        ModelPrice(
            model="claude-sonnet-5-5",
            since="2026-10-07",
            input_usd_per_mtok=2.0,
            cache_write_usd_per_mtok=2.50,
            cache_read_usd_per_mtok=0.10,
            output_usd_per_mtok=10.0,
        ),
    )
