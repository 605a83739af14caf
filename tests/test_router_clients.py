"""What a choice asks for is what the clients take: checked by the providers' own packages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import botocore.session
import openai
import pytest
from anthropic import Anthropic
from anthropic_api import AnthropicApi
from anthropic_rules import KEY as ANTHROPIC_KEY
from botocore.validate import ParamValidator
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from openai_api import BASE, OpenaiApi
from openai_rules import KEY
from test_router import put

from cortex_autolearn.model.routing import Route, Served
from cortex_autolearn.router import Router

ASKED: list[dict[str, Any]] = [
    {"system": "s", "input": "i"},
    {"system": "s", "input": "i", "max_tokens": 100},
    {"system": "", "input": "i", "task_type": "scan"},
    {"system": "s \ud800", "input": "report-\udcff.txt"},
]


def request(root: Path, kind: str, asked: dict[str, Any], model: str) -> dict[str, Any]:
    put(root, {"a-master": Route(Served(model, "v", kind))})
    return Router(root).choose("a", "t").request(**asked)


@pytest.mark.parametrize("asked", ASKED)
def test_messages_takes_it(tmp_path: Path, asked: dict[str, Any]) -> None:
    """The anthropic package's client sends it, and a service as strict as the real one answers it."""
    made = request(tmp_path, "base", asked, "claude-haiku-5-5")
    with AnthropicApi() as api, Anthropic(api_key=ANTHROPIC_KEY, base_url=api.url, max_retries=0) as client:
        assert client.messages.create(**made).stop_reason == "end_turn"


@pytest.mark.parametrize("asked", ASKED)
def test_converse_takes_it(tmp_path: Path, asked: dict[str, Any]) -> None:
    """Every argument is one of ``converse``, of the type, length and range that botocore's service model gives."""
    arn = "arn:aws:bedrock:us-east-1:123456789012:custom-model-deployment/abcdefghijkl"
    made = request(tmp_path, "bedrock", asked, arn)
    model = botocore.session.get_session().get_service_model("bedrock-runtime")
    shape = model.operation_model("Converse").input_shape
    assert shape is not None
    report = ParamValidator().validate(made, shape)
    assert not report.has_errors(), report.generate_report()
    assert ("system" in made, "inferenceConfig" in made) == (bool(asked["system"]), "max_tokens" in asked)


@pytest.mark.parametrize("asked", ASKED)
def test_chat_takes_it(tmp_path: Path, asked: dict[str, Any]) -> None:
    """The openai package's client sends it, its types have all of it, and a strict service answers it."""
    with OpenaiApi().serving() as api, openai.OpenAI(api_key=KEY, base_url=api.url, max_retries=0) as client:
        made = request(tmp_path, "openai", asked, BASE)
        assert made.keys() <= CompletionCreateParamsNonStreaming.__annotations__.keys()
        answer = client.chat.completions.create(**made)
        assert answer.choices[0].message.content == "done"
        assert ("max_completion_tokens" in made) is ("max_tokens" in asked)
