"""Training or validation: decided by the task's id, so that it is the same for ever.

Not by MD5, which assigns tasks to the arms of an A/B test: the two must be independent.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cortex_autolearn.model.records import Split


def split_of(task_id: str, training_percent: int = 80) -> Split:
    """Return the split of a task.

    ``int(sha256(task_id).hexdigest()[:8], 16) % 100``, below ``training_percent`` for training (FORMATS:
    "High-quality outcome").
    """
    digest = sha256(task_id.encode("utf-8", "surrogatepass")).digest()
    return "training" if int.from_bytes(digest[:4], "big") % 100 < training_percent else "validation"
