"""What to have judged, and whose score counts.

A task is judged when a score is all that it lacks: one that fails the quality rule for another reason is not worth the
money. While an A/B test of a master runs, all of its completed tasks are judged, in both arms and by the same rubric:
with scores for some of them only, the comparison would be biased.
"""

from __future__ import annotations

from hashlib import sha256
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import msgspec

from cortex_autolearn.collect import gate
from cortex_autolearn.model.judging import Quality
from cortex_autolearn.model.records import COMPLETED

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from cortex_autolearn.collect.outcome import Texts
    from cortex_autolearn.model.judging import Candidate
    from cortex_autolearn.model.ledger import Ungated
    from cortex_autolearn.model.policy import GatePolicy

NOT_TESTED: Final[Mapping[str, int]] = MappingProxyType({})
"""The masters under test while there is no test."""

_BEST: Final = 5
_decode_text = msgspec.json.Decoder(str | None).decode


def lacks_only_a_score(task: Candidate | Ungated, policy: GatePolicy) -> bool:
    """Tell whether a final task has no score, neither its own nor a person's, and passes the rule but for that."""
    return task.quality is None and gate.verdict(task._replace(quality=_BEST), policy) is gate.KEPT


def wanted(task: Candidate, policy: GatePolicy, under_test: Mapping[str, int] = NOT_TESTED) -> bool:
    """Tell whether a final task is to be judged.

    Arguments:
        task: its ``quality`` is a person's score or its own.
        policy: the ``[collect]`` section.
        under_test: the masters of which an A/B test runs, and since when: older tasks are none of it.
    """
    since_us = under_test.get(task.master or "")
    if task.status == COMPLETED and since_us is not None and (task.created_us or 0) >= since_us:
        return True
    return lacks_only_a_score(task, policy)


def stands_for(label: float | None, own: float | None, judged: float | None) -> Quality | None:
    """Return the score that counts where it is not the task's own: a person's comes first, a judge's last."""
    if label is not None:
        return Quality(label, "person")
    if own is None and judged is not None:
        return Quality(judged, "judge")
    return None


def rules(policy: GatePolicy, under_test: Collection[str]) -> str:
    """Return a short text that changes when :func:`wanted` may answer otherwise for a task it was asked about."""
    limits = (policy.min_duration_s, policy.max_duration_s, policy.min_output_chars, sorted(under_test))
    return sha256(msgspec.json.encode(limits)).hexdigest()[:12]


def digest(texts: Texts) -> bytes:
    """Return a digest of what is judged: what was asked and what was answered, however JSON writes it."""
    whole = sha256()
    for part in (texts.asked, texts.answered):
        whole.update(sha256((_decode_text(part) or "").encode("utf-8", "surrogatepass")).digest())
    return whole.digest()[:16]
