"""What one run of scoring did."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from cortex_autolearn.model.judging import MICRO_USD

DISABLED: Final = "judge.enabled is false"
NO_KEY: Final = "there is no key"
BUDGET: Final = "a budget is reached"
BUSY: Final = "the provider is busy or does not answer"
TOO_DEAR: Final = "what waits may cost more than a whole budget"
UNDER_WAY: Final = "what is under way may take the rest of a budget"
UNSURE: Final = "a batch may have been taken, and is looked for"


@dataclass
class Tally:
    """What one run did, in tasks; ``cost`` in millionths of a US dollar. ``held`` says why no more was sent."""

    chosen: int = 0
    sent: int = 0
    batches: int = 0
    scored: int = 0
    retried: int = 0
    set_aside: int = 0
    moved: int = 0
    dropped: int = 0
    waiting: int = 0
    in_batches: int = 0
    cost: int = 0
    held: str = ""
    redactions: Counter[str] = field(default_factory=Counter)

    def as_dict(self) -> dict[str, Any]:
        """Return the tally as it is recorded and printed."""
        counts = {name: value for name, value in vars(self).items() if name not in {"cost", "redactions"}}
        return counts | {"cost_usd": self.cost / MICRO_USD, "redactions": dict(self.redactions.most_common())}
