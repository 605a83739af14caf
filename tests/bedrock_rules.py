"""What the service model that botocore ships says of a request or an answer: required, types, enums, patterns, lengths.

botocore itself checks only a part of that, and nothing of an answer.
"""

from __future__ import annotations

import re
from datetime import datetime
from functools import cache
from typing import Any
from urllib.parse import unquote

from botocore.loaders import Loader
from botocore.model import OperationModel, ServiceModel, Shape

# botocore has no types: a shape's members come as they are.
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "long": (int,),
    "float": (float, int),
    "double": (float, int),
    "timestamp": (datetime,),
    "structure": (dict,),
    "map": (dict,),
    "list": (list, tuple),
}


@cache
def service_model(name: str) -> ServiceModel:
    return ServiceModel(Loader().load_service_model(name, "service-2"), name)


def breaches(shape: Shape | None, value: Any, place: str = "") -> list[str]:
    """Return all that is wrong with a value, by the shape it should have."""
    if shape is None:
        return [f"{place or 'it'} is not empty"] if value else []
    kinds = _TYPES[shape.type_name]
    is_right = isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
    if not is_right:
        return [f"{place}: {type(value).__name__} is no {shape.type_name}"]
    found = _of_metadata(shape, value, place)
    if shape.type_name == "structure":
        found += _of_members(shape, value, place)
    elif shape.type_name == "list":
        for number, one in enumerate(value):
            found += breaches(shape.member, one, f"{place}[{number}]")
    elif shape.type_name == "map":
        for name, one in value.items():
            found += breaches(shape.key, name, f"{place} key") + breaches(shape.value, one, f"{place}[{name}]")
    return found


def _of_members(shape: Shape, value: Any, place: str) -> list[str]:
    found = [f"{place}.{name} is missing" for name in shape.required_members if name not in value]
    for name, one in value.items():
        if name in shape.members:
            found += breaches(shape.members[name], one, f"{place}.{name}")
        else:
            found.append(f"{place}.{name} is unknown")
    if shape.metadata.get("union") and len(value) != 1:
        found.append(f"{place} is a union of one")
    return found


def _of_metadata(shape: Shape, value: Any, place: str) -> list[str]:
    found = []
    rules = shape.metadata
    size: float = 0
    if isinstance(value, int | float):
        size = value
    elif not isinstance(value, datetime):
        size = len(value)
    if "min" in rules and size < rules["min"]:
        found.append(f"{place}: {size} is less than {rules['min']}")
    if "max" in rules and size > rules["max"]:
        found.append(f"{place}: {size} is more than {rules['max']}")
    if "enum" in rules and value not in rules["enum"]:
        found.append(f"{place}: {value!r} is none of {rules['enum']}")
    if "pattern" in rules and re.fullmatch(rules["pattern"], value) is None:
        found.append(f"{place}: {value!r} does not match {rules['pattern']}")
    return found


def matched(operation: OperationModel, method: str, path: str) -> dict[str, str] | None:
    """Return the parameters in a path that an operation answers; None where it is another's."""
    pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", operation.http["requestUri"])
    found = re.fullmatch(pattern, path) if operation.http["method"] == method else None
    return None if found is None else {name: unquote(value) for name, value in found.groupdict().items()}
