"""Where each field of the canonical reading is taken from.

This is the one table that says which of the fleet's many names wins (FORMATS: "A task, as silver holds it"): each row
takes the first listed place that is present and not empty.
"""

from __future__ import annotations

from typing import Final

KNOWN_MASTERS: Final = frozenset(
    {"coordinator", "development", "security", "inventory", "cicd", "infrastructure", "testing"}
)
"""Masters every fleet has; the folders of ``coordination/masters`` add to them."""

ANY_MASTER: Final = ("master", "parent_master", "assigned_master")
"""Fields that name a master and nothing else; the other ones may name a person or a worker as well."""

ROWS: Final = {
    "task_id": ("task_id", "id"),
    "master": (*ANY_MASTER, "assigned_to", "metadata.assigned_to", "original_task.assigned_to", "payload.category"),
    "task_type": ("task_type", "type", "original_task.type", "payload.category", "worker_type"),
    "input": (
        "input",
        "prompt",
        "task_description",
        "context.task_description",
        "description",
        "original_task.description",
        "payload.query",
        "title",
        "task_title",
    ),
    "output": (
        "output",
        "result.answer",
        "result.message",
        "result.summary",
        "results.summary",
        "work_summary",
        "conclusion",
        "answer",
        "result",
        "results",
        "execution.result",
        "output_data",
    ),
    "status": ("status", "completion.status"),
    "quality": ("quality_score", "quality_metrics.quality_score"),
    "created": ("created_at", "metadata.created_at", "original_task.created_at", "task_data.created_at"),
    "started": (
        "started_at",
        "execution.started_at",
        "execution_summary.started_at",
        "metadata.started_at",
        "execution_start",
    ),
    "completed": (
        "completed_at",
        "execution.completed_at",
        "completion.completed_at",
        "completion_time",
        "metadata.completed_at",
        "execution.ended_at",
        "failed_at",
        "execution_end",
    ),
    "seconds": ("duration_seconds", "execution_summary.duration_seconds", "metadata.processing_time_ms"),
    "minutes": (
        "duration_minutes",
        "execution.duration_minutes",
        "execution_time_minutes",
        "completion.duration_minutes",
    ),
    "error": ("error", "execution.error", "failure_reason", "zombie_reason", "kill_reason", "errors"),
    "retries": ("retry_count", "retries", "metrics.retries", "attempts"),
    "model": ("model",),
    "variant": ("variant",),
    "experiment": ("experiment",),
    "fallback_from": ("fallback_from",),
    "cost": ("cost_usd", "cost"),
    "ranked_by": ("updated_at", "ingested_at"),
}
"""Where each row of the canonical table is read from: of several places the first that is present and not empty."""
