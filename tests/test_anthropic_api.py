"""The loopback service is as strict as the API is documented to be: what it lets pass would pass there."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from anthropic_api import AnthropicApi
from anthropic_rules import KEY, VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADERS = {"x-api-key": KEY, "anthropic-version": VERSION, "content-type": "application/json"}
SCHEMA = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}
GOOD: dict[str, Any] = {
    "model": "claude-haiku-5-5",
    "max_tokens": 100,
    "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
    "messages": [{"role": "user", "content": "u"}],
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
}


@pytest.fixture(scope="module")
def api() -> Iterator[AnthropicApi]:
    with AnthropicApi() as running:
        yield running


def call(
    api: AnthropicApi, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    address = urlsplit(api.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)
    try:
        sent = body if isinstance(body, bytes | None) else json.dumps(body)
        connection.request(method, path, sent, HEADERS if headers is None else headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
        assert response.headers["request-id"].startswith("req_")
        if response.status >= 400:
            assert answer["request_id"] == response.headers["request-id"]
        return response.status, answer
    finally:
        connection.close()


def refusal(api: AnthropicApi, body: Any) -> tuple[int, str, str]:
    status, answer = call(api, "POST", "/v1/messages", body)
    return status, answer["error"]["type"], answer["error"]["message"]


def with_schema(**changed: Any) -> dict[str, Any]:
    schema = {name: value for name, value in (SCHEMA | changed).items() if value is not None}
    return {"output_config": {"format": {"type": "json_schema", "schema": schema}}}


def test_a_documented_request_is_answered(api: AnthropicApi) -> None:
    """A message of the documented shape, its usage with the cache broken down."""
    status, answer = call(api, "POST", "/v1/messages", GOOD)
    assert status == 200
    assert (answer["type"], answer["role"], answer["stop_reason"]) == ("message", "assistant", "end_turn")
    assert set(answer["usage"]["cache_creation"]) == {"ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"temperature": 1}, "temperature"),
        ({"top_p": 0.99}, "top_p"),
        ({"top_k": 1}, "top_k"),
        ({"prompt": "x"}, "prompt: Extra inputs"),
        ({"output_format": {}}, "output_format: Extra inputs"),
        ({"max_tokens": None}, "max_tokens: Input"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 128_001}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"messages": []}, "at least one message"),
        ({"messages": [{"role": "system", "content": "x"}]}, "role"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "first message"),
        ({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "{"}]}, "prefill"),
        ({"messages": [{"role": "user"}]}, "Field required"),
        ({"messages": [{"role": "user", "content": ""}]}, "non-empty"),
        ({"messages": [{"role": "user", "content": "x", "cache_control": {"type": "ephemeral"}}]}, "nothing else"),
        ({"system": [{"type": "text", "text": ""}]}, "non-empty"),
        ({"system": [{"type": "text", "text": "x", "cache_control": {"type": "forever"}}]}, "ephemeral"),
        ({"system": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "2h"}}]}, "ttl"),
        ({"system": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}] * 5}, "maximum of 4"),
        ({"system": [{"type": "text", "text": "x", "cached": True}]}, "cached: Extra"),
        ({"output_config": {"effort": "tiny"}}, "effort"),
        ({"output_config": {"schema": {}}}, "output_config"),
        ({"output_config": {"format": {"type": "json", "schema": SCHEMA}}}, "json_schema"),
        (with_schema(additionalProperties=None), "additionalProperties"),
        (with_schema(properties={"a": {"type": "integer", "minimum": 1}}), "'minimum' is not supported"),
        (with_schema(properties={"a": {"type": "number", "multipleOf": 0.5}}), "'multipleOf' is not supported"),
        (with_schema(properties={"a": {"type": "string", "maxLength": 9}}), "'maxLength' is not supported"),
        (with_schema(properties={"a": {"enum": [{}]}}), "enum"),
        (with_schema(properties={"a": {}}), "must have a 'type'"),
        (with_schema(required=["b"]), "no property"),
        ({"model": "claude-haiku-4-5"}, "effort"),
    ],
)
def test_what_the_api_refuses_is_refused(api: AnthropicApi, changed: dict[str, Any], words: str) -> None:
    """Each deviation is a 400 that names it."""
    status, kind, message = refusal(api, GOOD | changed)
    assert (status, kind) == (400, "invalid_request_error")
    assert words in message


@pytest.mark.parametrize("name", ["model", "max_tokens", "messages"])
def test_what_is_required_is_required(api: AnthropicApi, name: str) -> None:
    """Nothing has a default that the API has not."""
    assert refusal(api, {key: value for key, value in GOOD.items() if key != name})[2] == f"{name}: Field required"


@pytest.mark.parametrize("model", ["claude-none-1", "claude-3-haiku-20240307", "", None])
def test_models_that_are_not_there_are_not_found(api: AnthropicApi, model: object) -> None:
    """Unknown and retired ones alike."""
    assert refusal(api, GOOD | {"model": model})[:2] == (404, "not_found_error")


def test_json_and_headers_are_checked(api: AnthropicApi) -> None:
    """No key, a wrong one, no version, an old one, no JSON, another type: each has its documented error."""
    cases: list[tuple[dict[str, str], int, str]] = [
        ({"x-api-key": ""}, 401, "authentication_error"),
        ({"x-api-key": "sk-wrong"}, 401, "authentication_error"),
        ({"anthropic-version": ""}, 400, "invalid_request_error"),
        ({"anthropic-version": "2023-06-01"}, 400, "invalid_request_error"),
        ({"content-type": "text/plain"}, 400, "invalid_request_error"),
    ]
    for changed, status, kind in cases:
        got, answer = call(api, "POST", "/v1/messages", GOOD, HEADERS | changed)
        assert (got, answer["error"]["type"]) == (status, kind)
    bearer = {"authorization": f"Bearer {KEY}", "anthropic-version": VERSION, "content-type": "application/json"}
    assert call(api, "POST", "/v1/messages", GOOD, bearer)[0] == 200
    assert refusal(api, b"{")[:2] == (400, "invalid_request_error")
    assert refusal(api, b"[]")[:2] == (400, "invalid_request_error")


@pytest.mark.parametrize(
    ("requests", "words"),
    [
        ([], "1 to 100000"),
        ([{"custom_id": "a"}], "params"),
        ([{"custom_id": "a", "params": GOOD, "more": 1}], "more"),
        ([{"custom_id": "a b", "params": GOOD}], "custom_id"),
        ([{"custom_id": "a" * 65, "params": GOOD}], "custom_id"),
        ([{"custom_id": 1, "params": GOOD}], "custom_id"),
        ([{"custom_id": "a", "params": GOOD}] * 2, "Duplicate"),
        ([{"custom_id": "a", "params": []}], "dictionary"),
    ],
)
def test_malformed_batches_are_refused(api: AnthropicApi, requests: Any, words: str) -> None:
    """Ids, their number, and the shape of each request are looked at before anything is taken."""
    status, answer = call(api, "POST", "/v1/messages/batches", {"requests": requests})
    assert (status, answer["error"]["type"]) == (400, "invalid_request_error")
    assert words in answer["error"]["message"]


def test_the_parameters_of_a_batch_are_looked_at_while_it_is_processed(api: AnthropicApi) -> None:
    """A request that is wrong in itself is taken with the others, and errored, uncharged, in the end."""
    wrong = GOOD | {"temperature": 1}
    body = {"requests": [{"custom_id": "good", "params": GOOD}, {"custom_id": "wrong", "params": wrong}]}
    status, batch = call(api, "POST", "/v1/messages/batches", body)
    assert status == 200
    assert batch["results_url"] is None
    _, ended = call(api, "GET", f"/v1/messages/batches/{batch['id']}")
    assert ended["request_counts"] == {"processing": 0, "succeeded": 1, "errored": 1, "canceled": 0, "expired": 0}
    assert "wrong" not in api.paid()


def test_the_list_of_batches_has_pages_both_ways() -> None:
    """``after_id`` goes to older ones, ``before_id`` back to newer; a limit beyond 1,000 is refused."""
    with AnthropicApi() as api:
        body = {"requests": [{"custom_id": "a", "params": GOOD}]}
        ids = [call(api, "POST", "/v1/messages/batches", body)[1]["id"] for _ in range(5)][::-1]
        path = "/v1/messages/batches?limit=2"
        _, first = call(api, "GET", path)
        _, second = call(api, "GET", f"{path}&after_id={first['last_id']}")
        _, third = call(api, "GET", f"{path}&after_id={second['last_id']}")
        _, back = call(api, "GET", f"{path}&before_id={third['first_id']}")
        told = [[each["id"] for each in page["data"]] for page in (first, second, third, back)]
        assert told == [ids[:2], ids[2:4], ids[4:], ids[2:4]]
        assert [page["has_more"] for page in (first, second, third)] == [True, True, False]
        assert call(api, "GET", "/v1/messages/batches?limit=1001")[0] == 400
        assert call(api, "GET", "/v1/elsewhere")[0] == 404
