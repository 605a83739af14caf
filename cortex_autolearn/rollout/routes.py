"""What the registry holds → ``routes.json``, which every caller's router reads.

Which step is taken when is ``registry``'s and ``decide``'s business; how the document is read, ``router``'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cortex_autolearn.model import routing
from cortex_autolearn.model.routing import Route, Served

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from cortex_autolearn.rollout.registry import Serving


def document(
    servings: Iterable[Serving],
    *,
    models: Mapping[str, Served],
    percentages: Mapping[str, float],
    generated_at: str,
) -> dict[str, Any]:
    """Return the document that says what each master serves from now on.

    Arguments:
        servings: what serves each master.
        models: how each version is called; one that is not there is a base model of its provider's, by that name.
        percentages: of each test that runs, how many of 100 tasks its challenger gets. In a watch the challenger is
            the former champion.
        generated_at: the instant, as text.

    Raises:
        KeyError: a test runs, and its percentage was not given.
    """
    routes = {serving.master: _route(serving, models, percentages) for serving in servings}
    return routing.document(routes, generated_at=generated_at)


def _route(serving: Serving, models: Mapping[str, Served], percentages: Mapping[str, float]) -> Route:
    champion = _served(serving.champion, models)
    # While a challenger is being deployed it cannot answer yet, and a pause gives all tasks to the champion.
    if serving.phase not in {"testing", "watching"} or serving.challenger is None or serving.test_id is None:
        return Route(champion)
    percentage = percentages[serving.test_id]
    return Route(champion, _served(serving.challenger, models), serving.test_id, percentage)


def _served(version: str, models: Mapping[str, Served]) -> Served:
    return models.get(version) or Served(version, version)
