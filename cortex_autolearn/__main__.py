"""``python -m cortex_autolearn``: the command line, as ``cortex-autolearn`` runs it."""

from __future__ import annotations

from cortex_autolearn.cli import main

if __name__ == "__main__":
    main(prog_name="cortex-autolearn")
