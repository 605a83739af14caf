"""The words of the simulated fleet: what its masters are asked, what they answer and what goes wrong.

The sentences of each trade are in ``trades``; here one set of values fills the slots of a task's question and of its
answer, so that the two belong together. The services, packages and advisories are invented.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cortex_autolearn.testing.dice import Dice
from cortex_autolearn.testing.trades import TRADES


@dataclass(frozen=True, slots=True)
class Brief:
    """One piece of work, in words."""

    task_type: str
    title: str
    ask: str
    good: str
    """A thorough answer."""
    poor: str
    """What a careless worker hands in."""
    trouble: str
    """The error, should it fail."""


_SLOTS: Final[Mapping[str, tuple[str, ...]]] = {
    "service": (
        "billing-api", "ledger", "mailroom", "search-index", "image-resizer", "gatekeeper", "session-store", "notifier",
        "catalog-web", "price-engine", "invoice-worker", "webhook-relay", "audit-trail", "report-builder", "flag-board",
        "rate-limiter", "token-broker", "media-cache", "order-intake", "shipping-quotes",
    ),
    "part": (
        "retry loop", "pagination cursor", "upload handler", "cache warmer", "CSV importer", "login form",
        "password reset", "audit hook", "queue consumer", "health probe", "search filter", "currency converter",
        "template renderer", "webhook signer", "nightly sweep", "session refresh",
    ),
    "package": (
        "yamlet", "cryptoshim", "logweave", "httpnest", "tinyqueue", "formwright", "pdfsmith", "imgpress", "authlatch",
        "cronberry", "sqlbraid", "mailthread", "zipfold", "gridpaper",
    ),
    "file": (
        "src/limits.py", "src/http/client.ts", "lib/session.go", "app/models/order.rb", "internal/queue/worker.go",
        "src/views/cart.tsx", "scripts/rotate.sh", "src/parse/dates.py", "lib/money.ts", "cmd/sync/main.go",
    ),
    "environment": ("staging", "production", "the canary ring", "preview", "the load-test bed"),
    "cluster": ("north-1", "north-2", "harbour-3", "lab-7", "edge-paris", "edge-são-paulo", "core-4"),
    "team": ("payments", "growth", "platform", "data", "support tools", "mobile", "Zürich on-call"),
    "level": ("low", "medium", "high", "critical"),
}  # fmt: skip

MASTERS = tuple(TRADES)
"""The masters whose work is known here."""

_CLOSINGS = (
    "Nothing else was touched.",
    "Left open: whether {team} wants the same for {environment}.",
    "Evidence is attached as {serial}.log.",
    "Next look in {n} days.",
    "",
    "",
)
_POOR = (
    "Had a look at {service}; it is probably the {part}, but this was not verified.",
    "It should work now. Please try {service} again and report back.",
    "Several things could be wrong with the {part}. Restarting usually helps.",
    "Could not reproduce it in {environment}, therefore closing the task.",
    "See the earlier answer; the situation of {service} is similar.",
)
_TROUBLE = (
    "worker lost its connection to {cluster} after {m} s",
    "{package} {old} could not be installed: checksum differs",
    "tests of {service} failed: {n} of {m}",
    "token budget used up before the {part} was reached",
    "permission denied while writing {file}",
    "merge conflict in {file} (pull request #{pr})",
)


def compose(dice: Dice, master: str) -> Brief:
    """Return a piece of work for ``master``, one of :data:`MASTERS`."""
    trade = dice.pick(TRADES[master])
    slots: dict[str, object] = {slot: dice.pick(words) for slot, words in _SLOTS.items()}
    major, minor = dice.between(0, 9), dice.between(0, 30)
    slots |= {
        "old": f"{major}.{minor}.{dice.between(0, 9)}",
        "new": f"{major}.{minor + dice.between(1, 4)}.0",
        "serial": dice.between(1000, 9999),
        "pr": dice.between(100, 2999),
        "n": dice.between(2, 12),
        "m": dice.between(20, 90),
        "slow": dice.between(200, 4000),
        "pct": dice.between(60, 97),
    }
    turn = dice.between(0, len(trade.asks) - 1)
    answer = (trade.findings[turn % len(trade.findings)], trade.remedies[turn % len(trade.remedies)])
    sentences = (*answer, dice.pick(_CLOSINGS))
    joint = dice.pick((" ", " ", "\n", "\n- "))
    return Brief(
        task_type=trade.task_type,
        title=f"{trade.task_type.replace('-', ' ').capitalize()}: {slots['service']}",
        ask=trade.asks[turn].format_map(slots),
        good=joint.join(sentence for sentence in sentences if sentence).format_map(slots),
        poor=dice.pick(_POOR).format_map(slots),
        trouble=dice.pick(_TROUBLE).format_map(slots),
    )
