"""What a fault of AWS means for a training, and what a person can do about it.

Nobody is let in, or something is not there: before a job that is a problem (``problem``); while one is under way an
error, which ends nothing: it is asked again until somebody has mended it. Only a request that is wrong in itself stays
wrong. Rights, roles and names that are taken count as what may pass, as changes to them take a while to arrive, and a
job that waits for them should not be given up.
"""

from __future__ import annotations

from typing import Final

from cortex_autolearn.adapters import extras
from cortex_autolearn.adapters.trainers.bedrock.aws import CREDENTIAL, Fault, Kind
from cortex_autolearn.model.training_problems import AccessRefused
from cortex_autolearn.ports import BoundaryError

INSTALL: Final = extras.remedy("bedrock")
_CREDENTIALS: Final = (
    "Give the daemon credentials that have not expired: a role of the machine, AWS_PROFILE, the variables "
    f"AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the systemd credential {CREDENTIAL}; AWS refuses them as well "
    "where bedrock.region is not enabled for the account, or this machine's clock is wrong"
)
_RIGHTS: Final = "Give these credentials the rights that the README lists under Amazon Bedrock"
_ROLE: Final = (
    "See that bedrock.role_arn exists, trusts bedrock.amazonaws.com, may read and write below "
    "the prefix in the bucket, and that these credentials have iam:PassRole for it"
)
_QUOTA: Final = (
    "Wait until jobs or models of this account have ended, delete custom models that nobody needs, or have the quota "
    "raised in Service Quotas; it is tried again by itself"
)
_REGION: Final = (
    "Set bedrock.region to a region that is enabled for this account and has the base, and the bucket there"
)
_AWAY: Final = "Wait: it is asked again by itself; check the network and the AWS status page if it lasts"

_HINTS: Final[dict[Kind, str]] = {
    "absent": INSTALL,
    "credentials": _CREDENTIALS,
    "denied": _RIGHTS,
    "missing": "See whether it was removed; the names are in bedrock.* of the settings",
    "conflict": "Something of this name is there already: look at it in the AWS console",
    "quota": _QUOTA,
    "busy": "Wait: AWS takes fewer requests just now; it is asked again by itself",
    "region": _REGION,
    "invalid": "Report this with the log lines around it if the settings are right",
    "away": _AWAY,
}
_MAY_PASS: Final[frozenset[Kind]] = frozenset({"credentials", "denied", "conflict", "quota", "busy", "region", "away"})
_SUBJECTS: Final[dict[Kind, str]] = {"credentials": "the AWS credentials", "absent": "boto3"}
EVERYWHERE: Final = frozenset(_SUBJECTS.values())
"""What a problem is about that no other call would get around."""
_ROLE_WORDS: Final = ("assume", "passrole", "iam role", "role arn", "provided role")


def error(fault: Fault, operation: str, subject: str) -> BoundaryError:
    """Return the error that stands for a fault of an operation on something."""
    about_role = is_about_role(fault)
    hint = _ROLE if about_role else _HINTS[fault.kind]
    return BoundaryError(operation, subject, fault.cause, hint=hint, retryable=about_role or fault.kind in _MAY_PASS)


def problem(fault: Fault, subject: str) -> AccessRefused | None:
    """Return what a person has to do before a job can be submitted; None where there is nothing but to ask again."""
    if fault.kind in {"away", "busy"}:
        return None
    return AccessRefused(_SUBJECTS.get(fault.kind, subject), fault.cause, _HINTS[fault.kind])


def is_about_role(fault: Fault) -> bool:
    """Tell whether a request was refused over the role that Bedrock is to take on: the service calls that invalid."""
    said = fault.cause.lower()
    return fault.kind in {"invalid", "denied"} and any(words in said for words in _ROLE_WORDS)
