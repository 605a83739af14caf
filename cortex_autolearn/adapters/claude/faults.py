"""What a refusal of the provider means, and what a person can do about it.

By the API's documentation of errors: 401 ``authentication_error``, 402 ``billing_error`` and 403 ``permission_error``
are the account's; so are a 400 and a 429 about spending, which may carry a code. 429 ``rate_limit_error`` has
``retry-after``, 529 ``overloaded_error`` mostly not. 413 ``request_too_large`` is about bytes; too many tokens are a
400. An error answer is charged with nothing; a connection that breaks after a request was sent may have been, and so
may a request that somebody in between (a gateway, a proxy) gave up.
"""

from __future__ import annotations

from typing import Final

from cortex_autolearn.adapters.claude.line import KEY_HINT, Fault
from cortex_autolearn.model.judgement import Refusal
from cortex_autolearn.ports import BoundaryError, JudgeAuthError, JudgeBusyError, JudgeMissingError, JudgeUnsureError

_ACCOUNT: Final = frozenset({401, 402, 403})
_STATUS: Final = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
}
"""What an error is by which an ask of a batch was refused: there it has no status."""
_SPENT: Final = frozenset({"contract_spend_limit_reached", "enforced_spend_limit_reached", "organization_on_hold"})
# A limit that the account's owner set is a 400 like any other and has no code; only the wording tells it from a
# request that is wrong. Where the words change, the asks are refused one by one, and nothing worse.
_SPENT_WORDS: Final = ("usage limits", "credit balance")

_HINTS: Final = {
    401: KEY_HINT,
    402: "Check the billing of the account at platform.claude.com",
    403: "Give the key's workspace the right to the model and to batches, or use another key",
}
_SPENT_HINT: Final = "Raise the spending limit or the credit of the account at platform.claude.com, or wait for its end"

# What Python's ssl says of a certificate whose issuer, name or dates are wrong.
_UNTRUSTED: Final = "CERTIFICATE_VERIFY_FAILED"
_UNTRUSTED_HINT: Final = (
    "Check the clock of this machine; where a proxy signs for the provider, set SSL_CERT_FILE to a file with its "
    "authority's certificate"
)


def about_account(fault: Fault) -> bool:
    """Tell whether every request would be refused until a person acts."""
    said = fault.cause.lower()
    spent = fault.code in _SPENT or (fault.status == 400 and any(words in said for words in _SPENT_WORDS))
    return spent or fault.status in _ACCOUNT


def about_all(kind: str, message: str) -> bool:
    """Tell whether the error of one ask of a batch is none of that ask's: the account's, or that of the model."""
    return kind == "not_found_error" or about_account(Fault(message, status=_STATUS.get(kind), kind=kind))


def may_pass(fault: Fault) -> bool:
    """Tell whether the same request may succeed after a while."""
    if about_account(fault):
        return False
    return fault.status is None or fault.status in {408, 409, 429} or fault.status >= 500


def may_be_charged(fault: Fault) -> bool:
    """Tell whether the request may have been done, and charged, though no answer to it came."""
    if not fault.sent or fault.status is None:
        return fault.sent
    # Too busy is said before anything is done. Any other failure counts as free on the provider's own word alone.
    return fault.status >= 500 and fault.status not in {503, 529} and fault.kind != "api_error"


def refusal(key: str, fault: Fault) -> Refusal | None:
    """Return the refusal of one ask; None where the fault concerns them all."""
    if fault.status == 413:
        return Refusal(key, "too_large", f"HTTP 413: {fault.cause}", None, fault.request_id, retryable=False)
    if fault.status in {400, 422} and not about_account(fault):
        return Refusal(key, "errored", f"HTTP {fault.status}: {fault.cause}", None, fault.request_id, retryable=False)
    return None


def error(fault: Fault, operation: str, subject: str) -> BoundaryError:
    """Return the error that stands for a fault of a request that can be made again."""
    cause = _told(fault)
    if about_account(fault):
        hint = _HINTS.get(fault.status or 0, _SPENT_HINT)
        return JudgeAuthError(operation, subject, cause, hint=hint)
    if may_pass(fault):
        if _UNTRUSTED in cause:
            return JudgeBusyError(operation, subject, cause, retry_after_s=None, hint=_UNTRUSTED_HINT)
        return JudgeBusyError(operation, subject, cause, retry_after_s=fault.retry_after_s)
    if fault.status == 404 and fault.kind == "not_found_error":  # else it is the word of a proxy in between
        hint = "Check the name of the model (judge.model), the key's workspace and ANTHROPIC_BASE_URL"
        return JudgeMissingError(operation, subject, cause, hint=hint)
    hint = "Check ANTHROPIC_BASE_URL if it is set; else report this with the log lines around it"
    return BoundaryError(operation, subject, cause, hint=hint, retryable=False)


def submit_error(fault: Fault, subject: str) -> BoundaryError:
    """Return the error that stands for a fault of a request that must not be made twice."""
    operation = "submit a batch"
    # A limit, or an overload, is found out before anything is done; of other failures nobody knows when they came.
    unsure = fault.status is None or fault.status == 408 or fault.status >= 500
    if fault.sent and unsure and fault.status not in {503, 529}:
        return JudgeUnsureError(operation, subject, _told(fault))
    return error(fault, operation, subject)


def unreadable(operation: str, subject: str, problem: Exception | str, *, retryable: bool = False) -> BoundaryError:
    """Return the error for an answer that is not what the API documents."""
    hint = "Check what answers at this address; report this with the log lines around it if it is the provider"
    cause = f"the answer cannot be read: {problem}"
    return BoundaryError(operation, subject, cause, hint=hint, retryable=retryable)


def _told(fault: Fault) -> str:
    where = "no answer" if fault.status is None else f"HTTP {fault.status}"
    told = f"{where}: {fault.cause}"
    return f"{told} (request {fault.request_id})" if fault.request_id else told
