"""Amazon Bedrock as a trainer, behind ``ports.Trainer``.

``trainer`` says what becomes of each call, ``terms`` what stands in the way of a training and what it costs, ``bases``
what can be trained, ``records`` how examples are written, ``uploads`` where they lie in S3, ``jobs`` and
``deployments`` what the service has; ``faults`` knows what a refusal means and ``aws`` is the only door to boto3, which
is imported with the first call and called in the threads of ``pool``. What is said here of the API holds for the
service model of botocore 1.44.5 and for the user guide as of 2026-11-22.
"""

from __future__ import annotations

from cortex_autolearn.adapters.trainers.bedrock.aws import CREDENTIAL, Aws
from cortex_autolearn.adapters.trainers.bedrock.bases import BASES, DEFAULT
from cortex_autolearn.adapters.trainers.bedrock.trainer import BedrockTrainer

__all__ = ["BASES", "CREDENTIAL", "DEFAULT", "Aws", "BedrockTrainer"]
