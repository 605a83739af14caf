"""Task id → variant of an A/B test: the hash that Cortex's shell computes, on the same bytes.

The shell says ``printf '%s' "$task_id" | md5sum | cut -c1-8`` and takes that number modulo 100. Which tests there are,
and which model a variant names, is ``rollout``'s and ``router``'s. Not the split of the training data
(``collect.split``), which takes another hash so that the two are independent.
"""

from __future__ import annotations

import re
from hashlib import md5
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cortex_autolearn.model.routing import Variant

BUCKETS: Final = 100
"""A bucket is one percent of all tasks."""

# All lone surrogates but those that stand for a raw byte (U+DC80 … U+DCFF).
_NO_BYTE: Final = re.compile("[\ud800-\udc7f\udd00-\udfff]")


def bucket(task_id: str) -> int:
    """Return the bucket of a task, 0 … 99: ``int(md5(task_id).hexdigest()[:8], 16) % 100`` (FORMATS: "A/B test")."""
    return int.from_bytes(md5(id_bytes(task_id), usedforsecurity=False).digest()[:4], "big") % BUCKETS


def variant(task_id: str, percent_a: float) -> Variant:
    """Return the arm of a task in a test that gives ``percent_a`` of 100 to ``a``."""
    return arm(bucket(task_id), percent_a)


def arm(number: int, percent_a: float) -> Variant:
    """Return the arm of the bucket ``number``, 0 … 99, in a test that gives ``percent_a`` of 100 to ``a``."""
    return "a" if number < percent_a else "b"


def id_bytes(task_id: str) -> bytes:
    r"""Return the bytes a shell holds when it has this task id.

    That is UTF-8. An id that came from an argument, a file's name or the environment carries a byte that is no UTF-8 as
    one of U+DC80 … U+DCFF (PEP 383): it becomes that byte again. Any other half of a surrogate pair can only come
    from JSON, where ``jq`` reads it as U+FFFD or refuses the object.
    """
    try:
        return task_id.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return _NO_BYTE.sub("\ufffd", task_id).encode("utf-8", "surrogateescape")
