"""Claude as the judge, behind ``ports.Judge``.

``judge`` asks, ``wire`` and ``bodies`` write requests, ``answers`` reads what comes back, ``faults`` knows what a
refusal means and ``patience`` when to ask again; ``line`` is the only door to the anthropic package. Importing this
package imports nothing of all that: a judge is made when somebody asks one, and imports anthropic (about a second
and 55 MB) with its first call. What is said here of the
API holds for its version 2026-10-21, by the documentation at platform.claude.com as of 2026-11-22 and by anthropic
2.12.0.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from cortex_autolearn.adapters.claude.key import api_key, base_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cortex_autolearn.ports import Judge

__all__ = ["api_key", "base_url", "open_judge"]


def open_judge(environ: Mapping[str, str]) -> Judge:
    """Return Claude as the judge, with the key and the address that the environment names; asks nobody yet.

    Raises:
        BoundaryError: the environment names no address.
    """
    from cortex_autolearn.adapters.claude.judge import ClaudeJudge  # noqa: PLC0415 - needs asyncio; most commands do not

    return ClaudeJudge(partial(api_key, environ), base_url(environ))
