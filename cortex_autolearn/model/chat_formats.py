"""Training examples in the formats that others take. Rules only: one line in, one line out.

``claude`` is how a dataset stands on disk: ``{"system", "messages": [user, assistant]}``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec


class _Message(msgspec.Struct, gc=False):
    role: str
    content: str


class _Example(msgspec.Struct, gc=False):
    messages: list[_Message]
    system: str = ""


_decode: Final = msgspec.json.Decoder(_Example).decode
_encode: Final = msgspec.json.Encoder().encode


def convert(line: bytes, name: str) -> bytes:
    """Return an example's line, line feed included, in the format of a name of :data:`FORMATS`.

    Raises:
        msgspec.DecodeError: ``line`` is no example.
    """
    return _encode(_CONVERTERS[name](_decode(line))) + b"\n"


def _claude(example: _Example) -> dict[str, Any]:
    return {"system": example.system, "messages": example.messages}


def _bedrock_conversation(example: _Example) -> dict[str, Any]:
    messages = [{"role": one.role, "content": [{"text": one.content}]} for one in example.messages]
    system = {"system": [{"text": example.system}]} if example.system else {}
    return {"schemaVersion": "bedrock-conversation-2024", **system, "messages": messages}


def _openai(example: _Example) -> dict[str, Any]:
    system = [_Message("system", example.system)] if example.system else []
    return {"messages": [*system, *example.messages]}


def _prompt_completion(example: _Example) -> dict[str, Any]:
    *asked, answered = example.messages
    parts = [example.system, *(one.content for one in asked)]
    return {"prompt": "\n\n".join(part for part in parts if part), "completion": answered.content}


_CONVERTERS: Final[dict[str, Callable[[_Example], dict[str, Any]]]] = {
    "claude": _claude,
    "bedrock-conversation": _bedrock_conversation,
    "openai": _openai,
    "prompt-completion": _prompt_completion,
}

FORMATS: Final = tuple(_CONVERTERS)
