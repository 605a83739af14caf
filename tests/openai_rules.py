"""What an API like OpenAI's refuses, by its description: fields, their types and limits; and what examples must be."""

from __future__ import annotations

import json
from typing import Any, Final

KEY: Final = "sk-proj-" + "a1B2c3D4" * 4
MIN_EXAMPLES: Final = 10


class ApiError(Exception):
    """A refusal as the API words it."""

    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        kinds = {401: "invalid_request_error", 403: "insufficient_permissions", 429: "requests", 500: "server_error"}
        kind = kinds.get(status, "invalid_request_error")
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


def bad(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    return ApiError(400, message, code=code, param=param)


def known(found: dict[str, Any], allowed: set[str], where: str = "") -> None:
    for name in found:
        if name not in allowed:
            raise bad(f"Unrecognized request argument supplied: {where}{name}", name, "unknown_parameter")


def whole(found: Any, name: str, least: int, most: int) -> None:
    if found == "auto":
        return
    if isinstance(found, bool) or not isinstance(found, int) or not least <= found <= most:
        raise bad(f"Invalid value for '{name}': expected an integer from {least} to {most}", name, "invalid_value")


def text(found: Any, name: str, most: int) -> None:
    if not isinstance(found, str) or not 0 < len(found) <= most:
        raise bad(f"Invalid '{name}': expected a string of at most {most} characters", name, "string_above_max_length")


def metadata(found: Any) -> None:
    if not isinstance(found, dict) or len(found) > 16:
        raise bad("Invalid 'metadata': expected an object of at most 16 keys", "metadata")
    for key, value in found.items():
        text(key, "metadata key", 64)
        text(value, f"metadata.{key}", 512)


def hyperparameters(found: Any) -> None:
    if not isinstance(found, dict):
        raise bad("Invalid type for 'hyperparameters'", "hyperparameters", "invalid_type")
    known(found, {"n_epochs", "batch_size", "learning_rate_multiplier"}, "hyperparameters.")
    if "n_epochs" in found:
        whole(found["n_epochs"], "n_epochs", 1, 50)
    if "batch_size" in found:
        whole(found["batch_size"], "batch_size", 1, 256)
    factor = found.get("learning_rate_multiplier", "auto")
    if factor != "auto" and (isinstance(factor, bool) or not isinstance(factor, int | float) or factor <= 0):
        raise bad("Invalid value for 'learning_rate_multiplier'", "learning_rate_multiplier", "invalid_value")


def job(asked: Any, files: dict[str, dict[str, Any]], models: dict[str, Any]) -> dict[str, Any]:
    """Check the body that creates a job; return its hyperparameters."""
    if not isinstance(asked, dict):
        raise bad("The body is no object")
    fields = {"model", "training_file", "validation_file", "hyperparameters", "suffix", "seed", "metadata", "method"}
    known(asked, fields | {"integrations"})
    named(asked, files, models)
    if "suffix" in asked:
        text(asked["suffix"], "suffix", 64)
    if "seed" in asked:
        whole(asked["seed"], "seed", 0, 2**31 - 1)
    if "metadata" in asked:
        metadata(asked["metadata"])
    used = asked.get("hyperparameters", {})
    if "method" in asked:
        if used:
            raise bad("'hyperparameters' and 'method' exclude each other", "hyperparameters")
        used = supervised(asked["method"])
    hyperparameters(used)
    return dict(used)


def named(asked: dict[str, Any], files: dict[str, dict[str, Any]], models: dict[str, Any]) -> None:
    """Check that what a job names is there."""
    for name in ("model", "training_file"):
        if not isinstance(asked.get(name), str):
            raise bad(f"Missing required parameter: '{name}'", name, "missing_required_parameter")
    if asked["model"] not in models:
        raise bad(f"Model {asked['model']} is not available for fine-tuning", "model", "model_not_available")
    for name in ("training_file", "validation_file"):
        if asked.get(name) is not None and asked[name] not in files:
            raise bad(f"invalid {name}: {asked[name]}", name)


def supervised(method: Any) -> Any:
    """Check the method of a job; return its hyperparameters."""
    if not isinstance(method, dict) or method.get("type") != "supervised":
        raise bad("Invalid value for 'method.type'", "method", "invalid_value")
    known(method, {"type", "supervised"}, "method.")
    known(method.get("supervised", {}), {"hyperparameters"}, "method.supervised.")
    return method.get("supervised", {}).get("hyperparameters", {})


def examples(content: bytes) -> str | None:
    """Return what is wrong with a file of examples; None where nothing is."""
    lines = content.splitlines()
    if len(lines) < MIN_EXAMPLES:
        return f"Training file has {len(lines)} example(s), but must have at least {MIN_EXAMPLES} examples"
    for number, line in enumerate(lines, 1):
        try:
            found = json.loads(line)
            assert set(found) == {"messages"}
            roles = [one["role"] for one in found["messages"]]
            assert roles in (["user", "assistant"], ["system", "user", "assistant"])
            assert all(set(one) == {"role", "content"} and one["content"] for one in found["messages"])
        except (ValueError, AssertionError, KeyError, TypeError):
            return f"Invalid file format. Line {number} is not a chat example"
    return None


def chat(asked: Any) -> None:
    """Check the body of a chat completion, as far as callers here use it."""
    known(asked, {"model", "messages", "max_completion_tokens", "max_tokens", "temperature", "stream", "metadata"})
    if "max_tokens" in asked:
        raise bad("Unsupported parameter: use 'max_completion_tokens' instead", "max_tokens", "unsupported_parameter")
    messages = asked.get("messages")
    if not isinstance(messages, list) or not messages:
        raise bad("Invalid 'messages': empty array", "messages", "empty_array")
    for message in messages:
        known(message, {"role", "content", "name"}, "messages.")
        if message.get("role") not in {"developer", "system", "user", "assistant"}:
            raise bad("Invalid value for 'messages.role'", "messages", "invalid_value")
        if not isinstance(message.get("content"), str):
            raise bad("Invalid type for 'messages.content'", "messages", "invalid_type")
    if "max_completion_tokens" in asked:
        whole(asked["max_completion_tokens"], "max_completion_tokens", 1, 1_000_000)
