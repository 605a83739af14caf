"""Which model serves which master: ``routes.json`` as values. ``rollout`` writes it, ``router`` reads it.

``{"generated_at", "masters": {"security-master": {"champion": {"model", "version", "kind"}, "challenger": {…} | null,
"experiment": "…" | null, "challenger_percentage": 10}}}``; keys that are not known here are passed over.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

from cortex_autolearn.model import layout

Variant = Literal["a", "b"]
"""An arm of an A/B test: ``a`` is the champion, ``b`` the challenger."""

BASE: Final = "base"
"""A model as its provider offers it; ``model`` is the provider's name for it."""
EXEMPLAR: Final = "exemplar"
"""A base model with worked examples, which lie in ``models/<version>``."""
BEDROCK: Final = "bedrock"
"""A model behind Amazon Bedrock; ``model`` is what it is called by."""
OPENAI: Final = "openai"
"""A model behind an API like OpenAI's; likewise."""

MAX_NAME_CHARS: Final = 2_048
"""A provider's name for a model may be this long: an ARN is."""

DEFAULT_VERSION: Final = "v1.0.0"


class Served(NamedTuple):
    """One model as it serves."""

    model: str
    """What its provider calls it."""
    version: str
    """What the fleet calls it: in aliases, tests and records."""
    kind: str = BASE


class Route(NamedTuple):
    """Who serves one master. The challenger serves in an experiment only, and an experiment has a challenger."""

    champion: Served
    challenger: Served | None = None
    experiment: str | None = None
    challenger_percentage: float = 0


DEFAULT_ROUTE: Final = Route(Served(DEFAULT_VERSION, DEFAULT_VERSION, BASE))
"""What serves a master of which nothing is known."""


def is_provider_name(name: str) -> bool:
    """Tell whether a model can be called so: with any other name in it a whole document counts for nobody."""
    return 0 < len(name) <= MAX_NAME_CHARS and name.isprintable()


def document(routes: Mapping[str, Route], *, generated_at: str) -> dict[str, Any]:
    """Return the document of ``routes``, masters by name; :func:`routes_of` reads it back."""
    masters = {
        name: {
            "champion": route.champion._asdict(),
            "challenger": None if route.challenger is None else route.challenger._asdict(),
            "experiment": route.experiment,
            "challenger_percentage": route.challenger_percentage,
        }
        for name, route in sorted(routes.items())
    }
    return {"generated_at": generated_at, "masters": masters}


def routes_of(document: object) -> dict[str, Route]:
    """Read a decoded document, by normalised master.

    Raises:
        ValueError: anything in it is not as said above. A document counts whole or not at all.
    """
    routes = {}
    for written, entry in _object("masters", _object("the document", document).get("masters")).items():
        name = layout.master_name(written)
        if name is None or name in routes:
            raise ValueError(f"master {written!r} {'cannot be one' if name is None else 'stands twice'}")
        routes[name] = _route(f"masters.{written}", _object(f"masters.{written}", entry))
    return routes


def _route(place: str, entry: Mapping[str, object]) -> Route:
    champion = _serving(f"{place}.champion", entry.get("champion"))
    if entry.get("challenger") is None or entry.get("experiment") is None:
        return Route(champion)
    experiment = entry["experiment"]
    if not isinstance(experiment, str) or not layout.is_safe_name(experiment):
        raise ValueError(f"{place}.experiment is no name of a test")
    percentage = entry.get("challenger_percentage")
    if isinstance(percentage, bool) or not isinstance(percentage, int | float):
        raise ValueError(f"{place}.challenger_percentage is no number")
    if not (math.isfinite(percentage) and 0 <= percentage <= 100):
        raise ValueError(f"{place}.challenger_percentage is not within 0 and 100")
    return Route(champion, _serving(f"{place}.challenger", entry["challenger"]), experiment, percentage)


def _serving(place: str, entry: object) -> Served:
    found = _object(place, entry)
    model, version, kind = found.get("model"), found.get("version"), found.get("kind", BASE)
    if not isinstance(version, str) or not layout.is_safe_name(version):
        raise ValueError(f"{place}.version is no name of a model")
    if not isinstance(model, str) or not is_provider_name(model):
        raise ValueError(f"{place}.model is no name that a provider gives")
    if not isinstance(kind, str) or not layout.is_safe_name(kind):
        raise ValueError(f"{place}.kind is no word")
    return Served(model, version, kind)


def _object(place: str, value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ValueError(f"{place} is no object")
    return value
