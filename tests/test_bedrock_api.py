"""The loopback service is as strict as the service model: what breaks a rule is refused, and told of."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from bedrock_rules import breaches, service_model

UTC_NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def request_of(**changes: Any) -> dict[str, Any]:
    return {
        "jobName": "cortex-0123456789ab",
        "customModelName": "cortex-0123456789ab",
        "clientRequestToken": "cortex-0123456789ab",
        "roleArn": "arn:aws:iam::123456789012:role/a",
        "baseModelIdentifier": "amazon.nova-micro-v1:0:128k",
        "trainingDataConfig": {"s3Uri": "s3://bucket/a/train.jsonl"},
        "outputDataConfig": {"s3Uri": "s3://bucket/a/"},
        "hyperParameters": {"epochCount": "3"},
    } | changes


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, ""),
        ({"jobName": "has_underscores"}, "does not match"),
        ({"jobName": "x" * 64}, "64 is more than 63"),
        ({"jobName": ""}, "0 is less than 1"),
        ({"customModelName": "ends-with--two"}, "does not match"),
        ({"customizationType": "FINETUNING"}, "is none of"),
        ({"roleArn": "arn:aws:iam::12:role/a"}, "does not match"),
        ({"hyperParameters": {"epochCount": 3}}, "int is no string"),
        ({"trainingDataConfig": {"s3Uri": "bucket/a"}}, "does not match"),
        ({"trainingDataConfig": {"uri": "s3://bucket/a"}}, ".uri is unknown"),
        ({"validationDataConfig": {}}, ".validators is missing"),
        ({"validationDataConfig": {"validators": [{"s3Uri": "s3://bucket/a"}] * 11}}, "11 is more than 10"),
        ({"colour": "red"}, ".colour is unknown"),
    ],
)
def test_a_request_is_held_to_the_model(changes: dict[str, Any], told: str) -> None:
    """Required members, types, lengths, patterns and enums, also those that botocore itself lets pass."""
    shape = service_model("bedrock").operation_model("CreateModelCustomizationJob").input_shape
    found = breaches(shape, request_of(**changes))
    assert ([one for one in found if told in one] != []) == bool(told), found
    assert found == [] or told


def test_a_request_without_what_is_required() -> None:
    """Each member that is missing is named."""
    shape = service_model("bedrock").operation_model("CreateModelCustomizationJob").input_shape
    assert len(breaches(shape, {})) == 6


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, ""),
        ({"status": "Running"}, "is none of"),
        ({"creationTime": "2026-11-22T12:00:00Z"}, "str is no timestamp"),
        ({"jobArn": "arn:aws:bedrock:us-east-1:1:job/a"}, "does not match"),
    ],
)
def test_an_answer_is_held_to_the_model(changes: dict[str, Any], told: str) -> None:
    """What the service says is checked as strictly as what it hears."""
    answer = {
        "jobArn": "arn:aws:bedrock:us-east-1:123456789012:model-customization-job/amazon.nova-micro-v1:0:128k/0123456789ab",
        "jobName": "cortex-0123456789ab",
        "outputModelName": "cortex-0123456789ab",
        "roleArn": "arn:aws:iam::123456789012:role/a",
        "creationTime": UTC_NOON,
        "baseModelArn": "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-micro-v1:0:128k",
        "trainingDataConfig": {"s3Uri": "s3://bucket/a"},
        "validationDataConfig": {"validators": []},
        "outputDataConfig": {"s3Uri": "s3://bucket/a"},
        "status": "InProgress",
    } | changes
    shape = service_model("bedrock").operation_model("GetModelCustomizationJob").output_shape
    found = breaches(shape, answer)
    assert ([one for one in found if told in one] != []) == bool(told), found
    assert found == [] or told
