"""The map of the code is true: its picture of the layers is the contract, and what it names is there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "cortex_autolearn"
MAP = (PACKAGE / "ARCHITECTURE.md").read_text("utf-8")


def section(heading: str) -> str:
    """Return the text below a heading, up to the next one."""
    return MAP.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def modules() -> set[str]:
    """Return the names of the package's own modules and subpackages."""
    found = {path.stem for path in PACKAGE.glob("*.py")} | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    return found - {"__init__"}


def test_the_picture_is_the_contract() -> None:
    """Whoever reads the picture of the layers knows what import-linter enforces, line for line."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
    contract = next(one for one in project["tool"]["importlinter"]["contracts"] if one["id"] == "layers")
    picture = re.search(r"```text\n(.*?)```", section("What may import what"), re.DOTALL)
    assert picture is not None
    assert picture.group(1).splitlines() == contract["layers"]
    assert {name for line in contract["layers"] for name in line.split(" | ")} == modules()


def test_every_module_has_its_line() -> None:
    """The table of modules names all of them and no other."""
    named = re.findall(r"^\| ([^|]+) \|", section("Where what lives"), re.MULTILINE)
    assert {name.rstrip("/") for cell in named for name in re.findall(r"`([a-z_]+)/?`", cell)} == modules()


def test_every_test_that_is_named_is_there() -> None:
    """The table of what to change where sends nobody to a test that does not exist."""
    for name in re.findall(r"`(test_[a-z_*]+)`", section("Where to change what")):
        assert list((REPOSITORY / "tests").glob(f"{name}.py")), name


def test_every_file_that_is_named_is_there() -> None:
    """The same for modules, by their path without its ending, and for the schema's scripts."""
    folders = "adapters|canonical|collect|medallion|model"
    for path in re.findall(rf"`((?:{folders})/[a-z_/]+)", section("Where to change what")):
        assert (PACKAGE / path).exists() or (PACKAGE / f"{path}.py").is_file(), path
