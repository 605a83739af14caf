"""Which model serves one task: what ``router`` answers and ``record`` takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from cortex_autolearn.model.routing import BASE, Variant


class Renderer(Protocol):
    """Writes the request to a chosen model; ``router`` has the real one."""

    def render(
        self, choice: Choice, *, system: str, text: str, task_type: str | None, max_tokens: int | None
    ) -> dict[str, Any]:
        """Return the keyword arguments for the client of the model's provider."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The model that serves a task, and why it is that one."""

    model: str
    """What the provider calls it."""
    version: str
    """What the fleet calls it: the ``model`` of a task's record."""
    variant: Variant = "a"
    """The arm the task is assigned to; ``a``, the champion, where there is no experiment."""
    experiment: str | None = None
    """The A/B test that the task is part of."""
    challenger_percentage: float = 0
    """Of 100 tasks of this master as many go to the challenger."""
    fallback: Choice | None = None
    """The champion, for a caller whose call to the challenger failed; None where this is the champion."""
    kind: str = BASE
    """How the model is called: ``base``, ``exemplar``, ``bedrock`` or ``openai``."""
    master: str = ""
    """The master, ``<name>-master``; as it was given where it cannot be one."""
    renderer: Renderer | None = field(default=None, repr=False, compare=False)

    def request(
        self,
        *,
        system: str,
        input: str,  # noqa: A002 -- the field's name in the record
        task_type: str | None = None,
        max_tokens: int | None = None,
    ) -> dict[str, Any]:
        """Return the keyword arguments for the provider's client, with examples where the model brings some.

        Halves of surrogate pairs, which a name of a file may hold and no client can send, become question marks.

        Arguments:
            system: the system prompt.
            input: what the task asks.
            task_type: what kind of task it is; helps to find the examples that fit.
            max_tokens: how long the answer may be, in tokens; None for the model's own limit.

        Returns:
            for ``base`` and ``exemplar`` what Anthropic's ``messages.create`` takes, for ``bedrock`` what the
            ``converse`` of boto3's client ``bedrock-runtime`` takes, for ``openai`` what the openai package's
            ``chat.completions.create`` takes. :attr:`kind` tells which client that is, and nothing else has to be
            known.

        Raises:
            ValueError: ``input`` is empty, and a model with examples has nothing to look for; or the choice was made by
                hand, without what writes requests.
            BoundaryError: the model's examples cannot be read, or this version does not know its kind.
        """
        if self.renderer is None:
            raise ValueError("this Choice did not come from a Router, which knows how to write its request")
        system, text = _sendable(system), _sendable(input)
        return self.renderer.render(self, system=system, text=text, task_type=task_type, max_tokens=max_tokens)


def _sendable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
