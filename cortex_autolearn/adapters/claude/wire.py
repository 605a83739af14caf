"""The request that asks for a judgement.

Facts of the API that shape it:

- Structured output is ``output_config.format``. Its schemas know ``enum`` of numbers, and require
  ``additionalProperties: false``; ``minimum``, ``maximum``, ``multipleOf`` and lengths of texts are refused (the
  package's ``transform_schema`` moves them to the description). So scales are enums, and ``answers`` checks everything
  again: a gateway, or a model cut short, is bound by no schema.
- ``temperature``, ``top_p`` and ``top_k`` are refused with any value: none is sent.
- Current models think before they answer, unasked; what they think counts as output and toward ``max_tokens``.
  ``effort`` says how much; older models (of the Haiku line those before 5.5) refuse it, and the models API says which.
- ``cache_control`` on the system text keeps it for five minutes; a batch takes longer, so there it is an hour. Below
  512 tokens (4,096 on Haiku 4.5) nothing is kept, and no error says so.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from cortex_autolearn.model.judgement import MAX_OUTPUT_TOKENS, Ask

Effort = Literal["low", "medium", "high"]

HEAD: Final = b'{"requests":['
TAIL: Final = b"]}"

_SCALE: Final = (1, 2, 3, 4, 5)
_HALVES: Final = (1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5)
_CRITERIA: Final = {
    "task_success": "Did it do what the task asked for?",
    "correctness": "Is what it says and does right?",
    "completeness": "Is everything there that the task needs?",
    "clarity": "Can whoever asked use it as it stands?",
}

SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    # The reason stands first: what is written before a number can still move it.
    "properties": {
        "rationale": {"type": "string", "description": "One sentence: what decided the scores."},
        **{name: {"enum": list(_SCALE), "description": text} for name, text in _CRITERIA.items()},
        "overall": {"enum": list(_HALVES), "description": "The score of the work as a whole."},
    },
    "required": ["rationale", *_CRITERIA, "overall"],
    "additionalProperties": False,
}

_encode: Final = msgspec.json.Encoder().encode


def request(ask: Ask, model: str, effort: Effort | None, *, batched: bool) -> dict[str, Any]:
    """Return the parameters that put one question."""
    output: dict[str, Any] = {"format": {"type": "json_schema", "schema": SCHEMA}}
    if effort is not None:
        output["effort"] = effort
    kept = {"type": "ephemeral", "ttl": "1h"} if batched else {"type": "ephemeral"}
    # An empty text is refused, and so is keeping one.
    system = {"system": [{"type": "text", "text": ask.system, "cache_control": kept}]} if ask.system else {}
    return {
        "model": model,
        "max_tokens": MAX_OUTPUT_TOKENS,
        **system,
        "messages": [{"role": "user", "content": ask.user}],
        "output_config": output,
    }


def single(ask: Ask, model: str, effort: Effort | None) -> bytes:
    """Return the body of one question.

    Raises:
        ValueError: its text is no Unicode that can be sent.
    """
    return _encode(request(ask, model, effort, batched=False))


def item(ask: Ask, model: str, effort: Effort | None) -> bytes:
    """Return a question as it stands in a batch.

    Raises:
        ValueError: its text is no Unicode that can be sent.
    """
    return _encode({"custom_id": ask.key, "params": request(ask, model, effort, batched=True)})
