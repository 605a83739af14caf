"""How examples, hyperparameters and requests are written for Bedrock, held to its own service model."""

from __future__ import annotations

import json
import re
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from bedrock_rules import breaches, service_model
from hypothesis import given
from hypothesis import strategies as st
from test_trainers import example_of, freeze, freeze_as, spec_of

from cortex_autolearn.adapters.trainers.bedrock import BASES, DEFAULT, bases, terms
from cortex_autolearn.adapters.trainers.bedrock.records import Tally, escape, lines
from cortex_autolearn.adapters.trainers.bedrock.uploads import account_of, place_of
from cortex_autolearn.adapters.trainers.dataset import Example, FrozenDataset
from cortex_autolearn.model import layout, routing
from cortex_autolearn.model.bedrock_policy import BedrockPolicy
from cortex_autolearn.model.training_jobs import job_name
from cortex_autolearn.router import Router

RESERVED = ("User:", "Bot:", "Assistant:", "System:", "<image>", "<video>", "[EOS]")
LLAMA = "meta.llama3-1-8b-instruct-v1:0:128k"
HAIKU = "anthropic.claude-3-haiku-20240307-v1:0:200k"


def example(system: str, asked: str, answered: str) -> Example:
    return Example("t", "m", None, system, asked, answered, b"")


def written(base: str, *examples: Example) -> tuple[list[Any], Tally]:
    tally = Tally()
    return [json.loads(line) for line in lines(examples, BASES[base], tally)], tally


def test_each_base_has_its_own_records() -> None:
    """Nova reads conversations, Llama prompts and completions, Claude 3 Haiku messages."""
    one = example("Be brief.", "What is 2 + 2?", "4")
    assert written(DEFAULT, one)[0] == [
        {
            "schemaVersion": "bedrock-conversation-2024",
            "system": [{"text": "Be brief."}],
            "messages": [
                {"role": "user", "content": [{"text": "What is 2 + 2?"}]},
                {"role": "assistant", "content": [{"text": "4"}]},
            ],
        }
    ]
    assert written(LLAMA, one)[0] == [{"prompt": "Be brief.\n\nWhat is 2 + 2?", "completion": "4"}]
    assert written(HAIKU, one)[0] == [
        {
            "system": "Be brief.",
            "messages": [{"role": "user", "content": "What is 2 + 2?"}, {"role": "assistant", "content": "4"}],
        }
    ]


def test_a_large_dataset_is_not_held_in_memory(tmp_path: Path) -> None:
    """What a training costs is reckoned example by example: a base takes more of them than there is memory."""
    dataset = freeze(tmp_path, train=200)
    texts = [json.dumps(example_of("m", "Bot: why? " * 1_000, "So. " * 2_500)) + "\n" for _ in range(200)]
    freeze_as(tmp_path / dataset.folder, "train", texts)
    opened = FrozenDataset(tmp_path, dataset)
    tracemalloc.start()
    try:
        found = terms.estimate(spec_of(dataset, backend="bedrock", base=DEFAULT), opened, None)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.tokens > 200 * 5_000
    assert any("200000 words that the base reserves" in note for note in found.notes)
    assert peak < sum(map(len, texts)) / 4


def test_what_nova_reserves_is_written_otherwise_and_counted() -> None:
    """Each reserved word gets a space, in every text of an example; the counts say how many and in how many."""
    found, tally = written(
        DEFAULT,
        example("System: be brief", "User: look at <image>\nUSER: and <video>", "Assistant: done [EOS]"),
        example("", "Nothing to see", "Indeed"),
    )
    assert found[0]["system"] == [{"text": "System : be brief"}]
    assert found[0]["messages"][0]["content"] == [{"text": "User : look at < image >\nUSER : and < video >"}]
    assert found[0]["messages"][1]["content"] == [{"text": "Assistant : done [ EOS ]"}]
    assert "system" not in found[1]
    assert (tally.records, tally.escaped_examples, tally.escaped_words) == (2, 1, 7)
    assert tally.note() == "7 words that the base reserves (such as User:) are written with a space in 1 examples"


def test_other_bases_read_them_as_they_are() -> None:
    """Nothing is changed where nothing has to be."""
    found, tally = written(LLAMA, example("", "User: hello", "Bot: hello"))
    assert found == [{"prompt": "User: hello", "completion": "Bot: hello"}]
    assert (tally.escaped_words, tally.note()) == (0, "")


def test_an_example_without_question_or_answer_is_left_out() -> None:
    """It is counted."""
    found, tally = written(DEFAULT, example("s", " \n", "a"), example("s", "q", ""), example("s", "q", "a"))
    assert (len(found), tally.records, tally.blank) == (1, 1, 2)
    assert tally.note() == "2 examples without a question or an answer are left out"


@given(st.lists(st.sampled_from((*RESERVED, "USER:", "Thought:", "<", ">", "[", "]", ":", "user", "x", " ", "\n"))))
def test_no_reserved_word_is_left(parts: list[str]) -> None:
    """Whatever stands beside them, none is left; only blanks are added, and doing it again changes nothing."""
    text = "".join(parts)
    found, count = escape(text)
    assert not [word for word in (*RESERVED, "USER:", "Thought:") if word in found]
    assert re.sub(r"\s", "", found) == re.sub(r"\s", "", text)
    assert escape(found) == (found, 0)
    assert (count == 0) == (found == text)


# --- requests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", BASES.values(), ids=lambda base: base.model_id)
def test_each_base_and_its_values_fit_the_service_model(base: bases.Base) -> None:
    """Every base's id and hyperparameters are what the service takes; its own values are within its own ranges."""
    shape = service_model("bedrock").operation_model("CreateModelCustomizationJob").input_shape
    knobs = bases.values(base, {name: knob.high for name, knob in base.knobs.items()})
    assert {knob.name for knob in base.knobs.values()} == set(knobs)
    assert all(re.fullmatch(r"\d+(\.\d+)?", value) for value in knobs.values())
    assert all(knob.low <= knob.own <= knob.high for knob in base.knobs.values())
    name = job_name("0" * 64)
    uri = f"s3://{'b' * 63}/{'p' * 200}/{name}/{'0' * 64}/ft-20261122-001/train-{'0' * 16}-20000-100000.jsonl"
    request = {
        "jobName": name,
        "customModelName": name,
        "clientRequestToken": name,
        "roleArn": "arn:aws:iam::123456789012:role/path/of/a-role",
        "baseModelIdentifier": base.model_id,
        "customizationType": "FINE_TUNING",
        "hyperParameters": knobs,
        "trainingDataConfig": {"s3Uri": uri},
        "outputDataConfig": {"s3Uri": "s3://bucket/cortex-autolearn/output/x/"},
    }
    assert breaches(shape, request) == []


def test_a_small_number_is_written_out() -> None:
    """The service reads no exponents."""
    found = bases.values(BASES[DEFAULT], {"learning_rate": 1e-6, "n_epochs": 3.0, "warmup_steps": 0})
    assert found == {"epochCount": "3", "learningRate": "0.000001", "learningRateWarmupSteps": "0"}


@pytest.mark.parametrize("asked", [True, "3", 2.5])
def test_what_is_no_number_is_not_guessed(asked: bool | str | float) -> None:  # noqa: FBT001 -- what a setting may hold
    """A value that cannot be meant blocks; it is not put right in silence."""
    from test_trainers import spec_of  # noqa: PLC0415 -- test_trainers imports much

    from cortex_autolearn.model.training_jobs import DatasetRef  # noqa: PLC0415 -- likewise

    spec = spec_of(DatasetRef("a", "b", 1, 1), hyperparameters={"n_epochs": asked})
    (found,) = bases.problems(BASES[DEFAULT], spec)
    assert found.blocks
    assert found.text == f"n_epochs is {asked!r} and must be a whole number, 1 to 5"


def test_the_place_of_the_data_tells_what_a_job_is() -> None:
    """Token, model and counts come back from the place; a place with another name or token is none of ours."""
    token = "ab" * 32
    name = job_name(token)
    uri = f"s3://bucket/a/b/{name}/{token}/ft-20261122-001/train-0123456789abcdef-60-7.jsonl"
    found = place_of(uri, name)
    assert found is not None
    assert found == ("bucket", f"a/b/{name}", token, "ft-20261122-001", 60, 7)
    assert place_of(uri, job_name("cd" * 32)) is None
    assert place_of(uri.replace(token, "cd" * 32), name) is None
    assert place_of("s3://bucket/train.jsonl", name) is None


def test_the_account_is_the_role_s() -> None:
    """Whose bucket it has to be follows from the role; without a role nothing is known."""
    assert account_of("arn:aws:iam::123456789012:role/a") == "123456789012"
    assert account_of("") == ""
    assert BedrockPolicy().role_arn == ""


# --- serving ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_tokens", [None, 500])
@pytest.mark.parametrize("system", ["Be brief.", ""])
def test_a_choice_writes_what_converse_takes(tmp_path: Path, system: str, max_tokens: int | None) -> None:
    """A model behind Bedrock is asked with keyword arguments that fit the runtime's service model, by its deployment."""
    arn = "arn:aws:bedrock:us-east-1:123456789012:custom-model-deployment/0123456789ab"
    served = routing.Served(arn, "ft-20261122-001", routing.BEDROCK)
    document = routing.document({"security-master": routing.Route(served)}, generated_at="2026-11-22T12:00:00Z")
    path = tmp_path / layout.ROUTES
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(document))
    choice = Router(tmp_path).choose("security", "t1")
    found = choice.request(system=system, input="What is 2 + 2?", max_tokens=max_tokens)
    assert breaches(service_model("bedrock-runtime").operation_model("Converse").input_shape, found) == []
    assert found["modelId"] == arn
    assert found["messages"] == [{"role": "user", "content": [{"text": "What is 2 + 2?"}]}]
    assert found.get("system") == ([{"text": system}] if system else None)
    assert found.get("inferenceConfig") == ({"maxTokens": max_tokens} if max_tokens else None)
