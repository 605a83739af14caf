"""What a refusal of the provider means, and what a person can do about it.

By OpenAI's documentation of errors: 401 is the key's, 403 a right or a country, 429 either too many requests, which
passes, or a quota that is used up (``insufficient_quota``, ``billing_…``), which a person must mend. An answer in the
400s says that nothing was done. One in the 500s, or none, says nothing: what was asked for may be done all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cortex_autolearn.adapters.trainers.openai_compat.line import CREDENTIAL, KEY_VARIABLE
from cortex_autolearn.model.training_problems import AccessRefused
from cortex_autolearn.ports import BackendError

if TYPE_CHECKING:
    from cortex_autolearn.adapters.trainers.openai_compat.line import AccessError, Fault

_SPENT: Final = frozenset(
    {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "exceeded_quota", "quota_exceeded"}
)
_KEY_HINT: Final = (
    f"Set {KEY_VARIABLE}, or the systemd credential {CREDENTIAL}, to a key that is valid for openai.base_url"
)
_RIGHT_HINT: Final = "Give the key's project the right to files, models and fine-tuning, or use another key"
_SPENT_HINT: Final = "Raise the limit or the credit of the account at the provider, or wait for the next period"
_ADDRESS_HINT: Final = "Check openai.base_url (or OPENAI_BASE_URL): no API for fine-tuning answers there"
_AGAIN_HINT: Final = "It is asked again by itself; if it lasts, check the network and openai.base_url"


def is_unsure(fault: Fault) -> bool:
    """Tell whether what was asked for may have been done all the same."""
    if not fault.sent:
        return False
    return fault.status is None or fault.status < 300 or fault.status in {408, 409} or fault.status >= 500


def may_pass(fault: Fault) -> bool:
    """Tell whether the same request may succeed after a while."""
    if _is_spent(fault):
        return False
    return fault.status is None or fault.status in {408, 409, 429} or fault.status >= 500


def is_never_done(fault: Fault) -> bool:
    """Tell whether the provider does not do such a thing at all, or not for this key: that ends no other business."""
    return fault.status in {403, 404, 405, 501}


def is_missing(fault: Fault) -> bool:
    """Tell whether the API says that there is no such thing; an address that has no API at all says it differently."""
    return fault.status == 404 and fault.is_api


def is_refusal(fault: Fault) -> bool:
    """Tell whether nothing was done, and asking again will not change that."""
    return not may_pass(fault) and not is_unsure(fault)


def error(fault: Fault, operation: str, subject: str) -> BackendError:
    """Return the error that stands for a fault; of what may have been done, nobody says that it was refused."""
    return BackendError(operation, subject, told(fault), hint=hint(fault), retryable=not is_refusal(fault))


def problem(fault: Fault, subject: str) -> AccessRefused | None:
    """Return what a person must mend before a job can be submitted; None where asking again may do."""
    return None if may_pass(fault) else AccessRefused(subject, told(fault), hint(fault))


def no_access(error: AccessError) -> AccessRefused:
    """Return that there is nobody to ask, or nothing to ask with."""
    return AccessRefused(error.subject, error.cause, error.hint)


def hint(fault: Fault) -> str:
    """Return what a person can do about a fault."""
    if _is_spent(fault):
        return _SPENT_HINT
    if may_pass(fault):
        return _AGAIN_HINT
    match fault.status:
        case 401:
            return _KEY_HINT
        case 403:
            return _RIGHT_HINT
        case status if status == 404 or status is None or status < 400:
            return _ADDRESS_HINT
        case _:
            return "See what the provider says about it, and change [training] or the data"


def told(fault: Fault) -> str:
    """Return a fault in words; what a provider says about a key may hold a part of it, and is not repeated."""
    if fault.status is None:
        return f"no answer: {fault.cause}"
    code = f" ({fault.code})" if fault.code else ""
    if fault.status == 401:
        return f"HTTP 401{code}: the key is not accepted: it is wrong, or it has expired"
    return f"HTTP {fault.status}{code}: {fault.cause}"


def _is_spent(fault: Fault) -> bool:
    return fault.status == 402 or fault.code in _SPENT
