"""``[bedrock]``: where Amazon Bedrock trains, from which bucket, and as whom. Credentials stand in no settings."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

_REGION: Final = r"\A[a-z]{2}(?:-[a-z]+){1,3}-[0-9]{1,2}\Z"
_BUCKET: Final = r"\A(?:[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])?\Z"
_PREFIX: Final = r"\A[A-Za-z0-9!_*'().-]+(?:/[A-Za-z0-9!_*'().-]+)*\Z"
_ROLE: Final = r"\A(?:arn:aws(?:-[a-z-]+)?:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+)?\Z"


class BedrockPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[bedrock]``: what the backend "bedrock" needs to know about the account it works in."""

    region: Annotated[
        str,
        Meta(
            pattern=_REGION,
            description="where models are trained and served; the bucket has to be there as well",
            extra={"allowed": 'an AWS region, such as "us-east-1"'},
        ),
    ] = "us-east-1"
    bucket: Annotated[
        str,
        Meta(
            pattern=_BUCKET,
            description="S3 bucket that training data goes to, owned by the role's account",
            extra={"allowed": "the name of an S3 bucket"},
        ),
    ] = ""
    prefix: Annotated[
        str,
        Meta(
            pattern=_PREFIX,
            max_length=200,
            description="what all keys in the bucket begin with",
            extra={"allowed": 'a path without a slash at its ends, such as "cortex-autolearn"'},
        ),
    ] = "cortex-autolearn"
    role_arn: Annotated[
        str,
        Meta(
            pattern=_ROLE,
            max_length=2048,
            description="role that Bedrock takes on to read the data and write what it measured",
            extra={"allowed": "the ARN of an IAM role"},
        ),
    ] = ""
    keep_rejected: Annotated[
        bool,
        Meta(description="keep the custom models of challengers that lost their tests; else they are deleted"),
    ] = False
