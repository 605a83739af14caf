"""A ROOT in whose past models were tested, by the real rollout over the real state: for tests of what commands print."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from click.testing import CliRunner

from cortex_autolearn import assignment, wiring
from cortex_autolearn.cli import main
from cortex_autolearn.model import instants, layout
from cortex_autolearn.model.training_jobs import ModelRef
from cortex_autolearn.model.trainings import Model
from cortex_autolearn.testing import FakeClock

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

MASTER: Final = "security-master"
MODEL: Final = "ft-20251127-001"
TEST: Final = f"{MASTER}-{MODEL}"
DAY_S: Final = 86_400.0


class Past:
    """A fleet on a clock of its own, which begins some days ago.

    Arguments:
        root: the ROOT; made.
        days: how long ago the clock begins; what commands ask later is answered by the machine's clock.
        flags: settings by dotted key.
    """

    def __init__(self, root: Path, *, days: float = 20, **flags: object) -> None:
        self.root = root
        (root / layout.COORDINATION).mkdir(parents=True, exist_ok=True)
        # On a whole hour, so that what is printed to the minute is known.
        self.began = (datetime.now(UTC) - timedelta(days=days)).replace(minute=0, second=0, microsecond=0)
        self.clock = FakeClock(self.began)
        self.settings = {"rollout.maturation_s": 0, **{key.replace("__", "."): value for key, value in flags.items()}}
        self.app = wiring.build(root, environ={}, flags=self.settings, clock=self.clock)
        self.count = 0

    def close(self) -> None:
        self.app.close()

    def add_model(self, model_id: str = MODEL, backend: str = "export", *, is_offered: bool = True) -> None:
        """Add a model; one that was offered is not deployed by itself. Of "export", it is served elsewhere."""
        folder = self.root / layout.MODELS / model_id
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "manifest.json").write_text("{}")
        ref = ModelRef(model_id=model_id, kind="openai", base="base", artefact=f"ft:{model_id}")
        now_us = instants.to_us(self.clock.now())
        with self.app.store.write() as transaction:
            transaction.put_model(Model(ref, MASTER, None, backend, {}, now_us))
            if is_offered:
                transaction.offer_model(model_id, now_us)

    def deploy(self, model_id: str = MODEL, master: str = MASTER) -> None:
        result = self.app.rooms.rollout.deploy(model_id, master, by="ann", why="a trial")
        assert hasattr(result, "event_seq"), result
        self.rollout()

    def rollout(self) -> dict[str, Any]:
        return self.app.runner.run("rollout", trigger="command", raise_errors=True).counts

    def tasks(
        self,
        count: int,
        *,
        per_day: float = 200,
        fails: tuple[int, int] = (13, 13),
        quality: tuple[float | None, float | None] = (4.1, 4.1),
        master: str = MASTER,
        champion: str = "v1.0.0",
        challenger: str = MODEL,
        percent_a: int = 100,
        test_id: str | None = None,
        by_champion: bool = False,
    ) -> None:
        """Let the fleet do so many tasks, and take them in.

        Arguments:
            count: of tasks.
            per_day: how fast they come.
            fails: every so many-th task of the champion's, and of the challenger's, fails.
            quality: mean score of each; None for no score.
            master: whose tasks they are.
            champion: what serves variant a.
            challenger: what serves variant b.
            percent_a: share of variant a.
            test_id: the experiment that the records name.
            by_champion: whether the champion answers all of them, as where callers do not route.
        """
        lines, seen = [], [0, 0]
        for _ in range(count):
            self.count += 1
            task_id = f"t-{self.count}"
            arm = assignment.variant(task_id, percent_a)
            side = int(arm == "b")
            seen[side] += 1
            done = seen[side] % fails[side] != 0
            score = quality[side]
            record: dict[str, Any] = {
                "task_id": task_id,
                "master": master,
                "status": "completed" if done else "failed",
                "input": "Look through the login code for weak spots",
                "output": "Two weak spots were found in the session handling",
                "model": challenger if side and not by_champion else champion,
                "created_at": instants.to_text(self.clock.now()),
                "completed_at": instants.to_text(self.clock.now() + timedelta(seconds=40)),
                "duration_seconds": 40 if not side else 36,
                "cost_usd": 0.02 if not side else 0.01,
            }
            if test_id is not None and not by_champion:
                record |= {"variant": arm, "experiment": test_id}
            if score is not None and done:
                record["quality_score"] = round(score + (0.3 if seen[side] % 2 else -0.3), 3)
            lines.append(json.dumps(record) + "\n")
            self.clock.advance(DAY_S / per_day)
        path = self.root / layout.BRONZE / f"tasks-{self.count}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(lines))
        self.app.runner.run("silver", trigger="command", raise_errors=True)
        self.rollout()


def call(root: Path | None, *args: str, **settings: object) -> Result:
    """Call the program, without what the environment would say."""
    where = [] if root is None else ["--root", str(root)]
    given = [one for key, value in settings.items() for one in ("--set", f"{key.replace('__', '.')}={value}")]
    cleared = {name: None for name in os.environ if name.startswith("CORTEX_")}
    return CliRunner().invoke(main, [*args, *where, *given], prog_name="cortex-autolearn", env=cleared)


def answer(root: Path, *args: str, code: int = 0) -> Any:
    """Return what a command prints with ``--json``."""
    result = call(root, *args, "--json")
    assert result.exit_code == code, result.output
    assert result.stdout.count("\n") == 1
    return json.loads(result.stdout)
