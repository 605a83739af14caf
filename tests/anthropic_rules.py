"""What the API behind ``anthropic_api`` accepts, knows and answers: its models, its checks of requests, its judgements.

By the documentation of API version 2026-10-21, as of 2026-11-22. Where that is silent the stricter reading is taken.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Final, NamedTuple

import msgspec

VERSION: Final = "2026-10-21"
KEY: Final = "sk-ant-api03-loopback-0123456789"
MAX_MESSAGE_BYTES: Final = 32_000_000
MAX_BATCH_BYTES: Final = 256_000_000
MAX_BATCH_REQUESTS: Final = 100_000

_CUSTOM_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}\Z")
_FIELDS: Final = frozenset(
    "model messages max_tokens system metadata stop_sequences stream thinking tool_choice tools service_tier "
    "output_config cache_control container inference_geo speed diagnostics".split()
)
_SCHEMA_KEYS: Final = frozenset(
    "type properties required additionalProperties enum const anyOf allOf $ref $defs description title items minItems "
    "format".split()
)
_MARKER: Final = re.compile(r"\[\[(\w+)(?: ([^\]]*))?\]\]")


class ApiError(Exception):
    """An error answer: its status and the parts of its body."""

    def __init__(self, status: int, kind: str, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message
        self.code = code

    def body(self, request_id: str) -> dict[str, Any]:
        error: dict[str, Any] = {"type": self.kind, "message": self.message}
        if self.code is not None:
            error["details"] = {"error_code": self.code}
        return {"type": "error", "error": error, "request_id": request_id}


class Model(NamedTuple):
    id: str
    lifecycle: str = "active"
    retires_at: str | None = None
    effort: bool = True
    structured: bool = True
    least_cached: int = 512
    alias: str = ""


MODELS: Final = (
    Model("claude-haiku-5-5"),
    Model("claude-opus-5-5"),
    Model("claude-haiku-4-5-20251001", effort=False, least_cached=4_096, alias="claude-haiku-4-5"),
    Model("claude-sonnet-4-5-20250929", "deprecated", "2026-11-30T00:00:00Z", False, True, 1_024, "claude-sonnet-4-5"),
    Model("claude-3-haiku-20240307", "retired", "2026-09-10T00:00:00Z", False, False, 2_048),
)


def model(name: object) -> Model:
    for each in MODELS:
        if name in {each.id, each.alias} and name:
            return each
    raise ApiError(404, "not_found_error", f"model: {name}")


def model_info(each: Model) -> dict[str, Any]:
    def can(yes: bool) -> dict[str, bool]:
        return {"supported": yes}

    effort = {level: can(each.effort) for level in ("low", "medium", "high", "xhigh", "max")}
    return {
        "type": "model",
        "id": each.id,
        "display_name": each.id.replace("-", " ").title(),
        "created_at": "2026-10-07T00:00:00Z",
        "lifecycle": each.lifecycle,
        "deprecated_at": None if each.lifecycle == "active" else "2026-03-10T00:00:00Z",
        "retires_at": each.retires_at,
        "line": each.id.split("-")[1],
        "max_input_tokens": 1_000_000,
        "max_tokens": 128_000,
        "capabilities": {
            "batch": can(each.lifecycle != "retired"),
            "structured_outputs": can(each.structured),
            "effort": {"supported": each.effort, **effort},
        },
    }


# -------------------------------------------------------------------------------------------------------------- checks


def invalid(message: str) -> ApiError:
    return ApiError(400, "invalid_request_error", message)


def check_message(params: Any) -> Model:  # noqa: C901 - one branch a rule
    """Refuse what the Messages API refuses; return the model."""
    if not isinstance(params, dict):
        raise invalid("Input should be a valid dictionary")
    for gone in ("temperature", "top_p", "top_k"):
        if gone in params:
            raise invalid(f"{gone}: this parameter is not supported in API version {VERSION}")
    for name in params:
        if name not in _FIELDS:
            raise invalid(f"{name}: Extra inputs are not permitted")
    for name in ("model", "max_tokens", "messages"):
        if name not in params:
            raise invalid(f"{name}: Field required")
    found = model(params["model"])
    if found.lifecycle == "retired":
        raise ApiError(404, "not_found_error", f"model: {params['model']}")
    tokens = params["max_tokens"]
    if type(tokens) is not int or not 1 <= tokens <= 128_000:
        raise invalid("max_tokens: Input should be between 1 and 128000")
    if params.get("stream") not in {None, False}:
        raise invalid("stream: not supported here")
    _check_marks(params)
    _check_output(params.get("output_config"), found)
    return found


def _check_marks(params: dict[str, Any]) -> None:
    marks = [_check_cache(params["cache_control"], "cache_control")] if "cache_control" in params else []
    marks += _check_blocks(params.get("system", ""), "system", may_be_empty=True)
    marks += _check_turns(params["messages"])
    if sum(marks) > 4:
        raise invalid("A maximum of 4 blocks with cache_control may be provided")


def _check_turns(turns: Any) -> list[int]:
    if not isinstance(turns, list) or not turns:
        raise invalid("messages: at least one message is required")
    marks = []
    for number, turn in enumerate(turns):
        where = f"messages.{number}"
        if not isinstance(turn, dict) or set(turn) != {"role", "content"}:
            raise invalid(f"{where}: Field required: role and content, and nothing else")
        if turn["role"] not in {"user", "assistant"}:
            raise invalid(f"{where}.role: Input should be 'user' or 'assistant'")
        marks += _check_blocks(turn["content"], f"{where}.content", may_be_empty=False)
    if turns[0]["role"] != "user":
        raise invalid("messages: first message must use the user role")
    if turns[-1]["role"] != "user":
        raise invalid("This model does not support assistant message prefill")
    return marks


def _check_blocks(content: Any, where: str, *, may_be_empty: bool) -> list[int]:
    if isinstance(content, str):
        if not content.strip() and not may_be_empty:
            raise invalid(f"{where}: text content blocks must be non-empty")
        return []
    if not isinstance(content, list) or not content:
        raise invalid(f"{where}: Input should be a valid list")
    marks = []
    for number, block in enumerate(content):
        at = f"{where}.{number}"
        if not isinstance(block, dict) or block.get("type") != "text" or not isinstance(block.get("text"), str):
            raise invalid(f"{at}: Input should be a text block")
        if unknown := set(block) - {"type", "text", "cache_control"}:
            raise invalid(f"{at}.{min(unknown)}: Extra inputs are not permitted")
        if not block["text"].strip():
            raise invalid(f"{at}.text: text content blocks must be non-empty")
        if "cache_control" in block:
            marks.append(_check_cache(block["cache_control"], f"{at}.cache_control"))
    return marks


def _check_cache(control: Any, where: str) -> int:
    if control is None:
        return 0
    if not isinstance(control, dict) or control.get("type") != "ephemeral" or set(control) - {"type", "ttl"}:
        raise invalid(f"{where}: Input should be {{'type': 'ephemeral'}}")
    if control.get("ttl", "5m") not in {"5m", "1h"}:
        raise invalid(f"{where}.ttl: Input should be '5m' or '1h'")
    return 1


def _check_output(output: Any, found: Model) -> None:
    if output is None:
        return
    if not isinstance(output, dict) or set(output) - {"effort", "format"}:
        raise invalid("output_config: Extra inputs are not permitted")
    if output.get("effort") is not None:
        if not found.effort:
            raise invalid("This model does not support the effort parameter.")
        if output["effort"] not in {"low", "medium", "high", "xhigh", "max"}:
            raise invalid("output_config.effort: Input should be 'low', 'medium', 'high', 'xhigh' or 'max'")
    form = output.get("format")
    if form is not None:
        if not found.structured:
            raise invalid("This model does not support structured outputs.")
        if not isinstance(form, dict) or set(form) != {"type", "schema"} or form["type"] != "json_schema":
            raise invalid("output_config.format: Input should be of type 'json_schema'")
        check_schema(form["schema"], "output_config.format.schema")


def check_schema(schema: Any, where: str) -> None:  # noqa: C901, PLR0912 - one branch a rule
    """Refuse keywords that structured outputs do not know."""
    if not isinstance(schema, dict):
        raise invalid(f"{where}: Input should be a valid dictionary")
    for name in schema:
        if name not in _SCHEMA_KEYS:
            raise invalid(f"{where}: For '{schema.get('type')}' type, property '{name}' is not supported")
    if not schema.keys() & {"type", "enum", "const", "anyOf", "allOf", "$ref"}:
        raise invalid(f"{where}: Schema must have a 'type'")
    if "enum" in schema:
        values = schema["enum"]
        if not isinstance(values, list) or not values or any(isinstance(each, dict | list) for each in values):
            raise invalid(f"{where}.enum: Input should be a list of strings, numbers, booleans or null")
    if schema.get("minItems", 0) not in {0, 1}:
        raise invalid(f"{where}.minItems: only 0 and 1 are supported")
    if schema.get("type") == "object":
        if schema.get("additionalProperties") is not False:
            raise invalid(f"{where}: For 'object' type, 'additionalProperties' must be explicitly set to false")
        properties = schema.get("properties", {})
        if set(schema.get("required", [])) - set(properties):
            raise invalid(f"{where}.required: names what is no property")
        for name, each in properties.items():
            check_schema(each, f"{where}.properties.{name}")
    for each in [*schema.get("anyOf", []), *schema.get("allOf", []), *schema.get("$defs", {}).values()]:
        check_schema(each, where)
    if "items" in schema:
        check_schema(schema["items"], f"{where}.items")


class Request(msgspec.Struct, forbid_unknown_fields=True):
    """One request of a batch: its parameters as they came, for a hundred thousand of them stay in memory."""

    custom_id: str
    params: msgspec.Raw
    result: dict[str, Any] = {}

    def params_read(self) -> Any:
        return json.loads(bytes(self.params))


class _Requests(msgspec.Struct, forbid_unknown_fields=True):
    requests: list[Request]


def check_batch(body: bytes) -> list[Request]:
    """Refuse what the Message Batches API refuses at once; the parameters are looked at while it is processed."""
    try:
        requests = msgspec.json.decode(body, type=_Requests).requests
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise invalid(f"requests: {error}") from None
    if not 1 <= len(requests) <= MAX_BATCH_REQUESTS:
        raise invalid(f"requests: List should have 1 to {MAX_BATCH_REQUESTS} items")
    seen = set()
    for number, each in enumerate(requests):
        name = each.custom_id
        if _CUSTOM_ID.match(name) is None:
            raise invalid(f"requests.{number}.custom_id: String should match pattern '^[a-zA-Z0-9_-]{{1,64}}$'")
        if name in seen:
            raise invalid(f"requests.{number}.custom_id: Duplicate custom_id '{name}'")
        if bytes(each.params)[:1] != b"{":
            raise invalid(f"requests.{number}.params: Input should be a valid dictionary")
        seen.add(name)
    return requests


# ------------------------------------------------------------------------------------------------------------- answers


def asked_text(params: dict[str, Any]) -> str:
    """Return what the user says in the end."""
    content = params["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(block["text"] for block in content)


def system_text(params: dict[str, Any]) -> str:
    system = params.get("system", "")
    return system if isinstance(system, str) else "".join(block["text"] for block in system)


def marker(text: str) -> tuple[str, str]:
    """Return the first ``[[word argument]]`` of a text: how a test orders an answer, or a fault of one item."""
    found = _MARKER.search(text)
    return (found[1], found[2] or "") if found else ("", "")


def judgement(text: str) -> dict[str, Any]:
    """Return what the scripted judge thinks of a text: ``[[score 4.5]]`` in it says so, else its digest does."""
    word, argument = marker(text)
    overall = float(argument) if word == "score" else 1 + hashlib.sha256(text.encode()).digest()[0] % 9 / 2
    mark = max(1, min(5, int(overall)))
    return {
        "rationale": f"Scripted: {overall:g}.",
        "task_success": mark,
        "correctness": mark,
        "completeness": mark,
        "clarity": 6 - mark,
        "overall": overall,
    }


def content_for(text: str) -> tuple[str, str]:  # noqa: PLR0911 - one return an order
    """Return the stop reason and the text of an answer."""
    word, argument = marker(text)
    written = json.dumps(judgement(text))
    match word:
        case "refusal":
            return "refusal", ""
        case "max_tokens":
            return "max_tokens", written[: len(written) // 2]
        case "stop":
            return argument, written
        case "say":
            return "end_turn", argument.replace("(", "[").replace(")", "]")
        case "change":
            return "end_turn", json.dumps(judgement(text) | json.loads("{" + argument + "}"))
        case "without":
            return "end_turn", json.dumps({name: value for name, value in judgement(text).items() if name != argument})
        case "twice":
            return "end_turn", written.replace("}", ', "overall": 5}')
        case _:
            return "end_turn", written
