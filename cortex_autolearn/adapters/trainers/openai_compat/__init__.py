"""Fine-tuning by any API like OpenAI's: ``/files`` and ``/fine_tuning/jobs``, behind ``ports.Trainer``.

``trainer`` leads a job's life, ``uploads`` looks after the files it learns from, ``sendings`` remembers on disk what
was sent and not answered, ``serving`` has models serve, ``told`` turns the provider's words into ours, ``faults`` knows
what a refusal means, ``terms`` what stands in the way and what it costs; ``wire`` reads answers, ``line`` is the only
door to the package. Importing this package imports nothing of that one (a second, and 60 MB): it is imported with the
first call.

The API knows no idempotency: a job that was asked for twice is two jobs, and paid for twice. So a creation is never
repeated. It is written down before it is sent, and looked for among the provider's jobs, by our metadata or by the
files it learns from, before anything is sent again. What is said here of the API holds for openai 3.54.0 and the
documentation of OpenAI as of 2026-11-22.
"""

from __future__ import annotations

from cortex_autolearn.adapters.trainers.openai_compat.trainer import OpenaiTrainer

__all__ = ["OpenaiTrainer"]
