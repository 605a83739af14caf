"""The hint by which the packages of an extra get into the installation that runs."""

from __future__ import annotations

import shlex
import subprocess
import sys
import venv
from pathlib import Path

from cortex_autolearn.adapters import extras

ASK = f"import runpy; print(runpy.run_path({extras.__file__!r})['remedy']('bedrock'))"


def told_by(python: str) -> str:
    """Return what the interpreter of an installation is told, in which nothing else needs to be."""
    return subprocess.run([python, "-c", ASK], capture_output=True, text=True, check=True).stdout.rstrip("\n")


def test_an_installation_without_pip_is_told_what_works_there(tmp_path: Path) -> None:
    """The container's image has no pip, nor has what uv makes: no command is named that ends with "No module"."""
    venv.create(tmp_path / "bare", with_pip=False)
    python = str(tmp_path / "bare" / "bin" / "python")
    assert told_by(python) == (
        "Build the image with --build-arg EXTRAS=bedrock, or install it: "
        f"uv pip install --python {shlex.quote(python)} 'cortex-autolearn[bedrock]'"
    )


def test_an_installation_with_pip_is_told_its_own(tmp_path: Path) -> None:
    """Where there is a pip, it is that of the very interpreter that runs."""
    venv.create(tmp_path / "one", with_pip=False)
    python = tmp_path / "one" / "bin" / "python"
    packages = next((tmp_path / "one" / "lib").glob("python3*/site-packages"))
    (packages / "pip").mkdir()
    (packages / "pip" / "__init__.py").touch()
    told = f"Install it: {shlex.quote(str(python))} -m pip install 'cortex-autolearn[bedrock]'"
    assert told_by(str(python)) == told
    assert sys.executable not in told
