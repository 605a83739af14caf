"""What people do beside the daemon: they decide, and they damage files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from cortex_autolearn.model import layout

from .looking import State

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cortex_autolearn.testing.dice import Dice

    from .system import System

_BY: Final[dict[str, Any]] = {"by": "somebody", "why": "a whim"}


def name_champions(root: Path, champions: Mapping[str, str]) -> None:
    """Write down who serves some masters, as Cortex does."""
    for master, version in champions.items():
        path = root / layout.aliases_file(master)
        path.parent.mkdir(parents=True)
        content = {"master_id": master, "aliases": {"champion": {"version": version, "status": "active"}}}
        path.write_text(json.dumps(content))


def decide(system: System, dice: Dice) -> str:
    """Take a step that a person may take; return which."""
    state = State(system.root)
    servings = [dict(row) for row in state.rows("SELECT * FROM servings ORDER BY master")]
    models = [row[0] for row in state.rows("SELECT model_id FROM models ORDER BY model_id")]
    state.close()
    if not servings:
        return "nothing"
    held, rollout = dice.pick(servings), system.rooms.rollout
    master, test_id = held["master"], held["test_id"]
    wish = dice.pick(
        ("promote", "rollback", "pause", "resume", "abort", "deploy", "stop in the file", "stop in the file")
    )
    match wish:
        case "promote":
            rollout.promote(master, **_BY)
        case "rollback":
            rollout.rollback(master, **_BY)
        case "pause" | "resume" | "abort":
            getattr(rollout, wish)(test_id or f"{master}-none", **_BY)
        case "deploy" if models:
            rollout.deploy(dice.pick(models), master, **_BY)
        case "stop in the file" if test_id is not None:
            path = system.root / layout.test_file(test_id)
            if path.exists():
                content = json.loads(path.read_bytes()) | {"status": "completed", "winner": dice.pick("ab")}
                path.write_text(json.dumps(content))
    return wish


def damage(root: Path, dice: Dice) -> set[str]:
    """Remove or cut a file that follows from the state; return which."""
    folders = (layout.SILVER, f"{layout.OUTCOMES}/training", f"{layout.TRAINING_VIEW}/training", layout.ANALYTICS)
    found = [path for folder in folders for path in sorted((root / folder).glob("*.json*"))]
    found += [
        path for path in (root / layout.ROUTES, *sorted((root / layout.AB_TESTS).glob("*.json"))) if path.exists()
    ]
    if not found:
        return set()
    path = dice.pick(found)
    if dice.chance(0.5) or not path.name.endswith(".jsonl"):
        path.unlink()
    else:
        size = path.stat().st_size
        with path.open("rb+") as file:
            file.truncate(dice.between(0, max(size - 1, 0)))
    return {str(path.relative_to(root))}
