"""Change a rule in every small way that cosmic-ray knows, and tell which changes no test notices.

    python tests/mutation/run.py [MODULE ...] [--sessions DIR [--again]]

A module's ``.toml`` beside this file is cosmic-ray's own: which file is changed, and which tests must notice. All that
happens in a copy of the tree. Left out are mutants that are no Python, and those that only a type checker sees.
Exit code 1: a module is under 90 %.

In place of ``cosmic-ray exec``, which does the same at many times the cost, each mutant's tests run in a fork of one
pytest that is about to collect them.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import hashlib
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
import warnings
from contextlib import closing
from pathlib import Path
from sqlite3 import connect
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkerOutcome, WorkResult

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
NEEDED = ("cortex_autolearn", "tests", "pyproject.toml")
LEAST_SCORE = 0.90
_BROKEN = 99
_MOST_MEMORY = 4 << 30


class Score(NamedTuple):
    """How a module's tests did: ``left_out`` mutants were not run, ``timeouts`` are among the killed."""

    left_out: int
    mutants: int
    killed: int
    timeouts: int
    survivors: list[str]

    @property
    def share(self) -> float:
        return self.killed / self.mutants if self.mutants else 0.0


def main() -> int:
    names = sorted(path.stem for path in HERE.glob("*.toml"))
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"of {', '.join(names)}; all of them if none")
    parser.add_argument("--sessions", type=Path, help="keep what was found here, and go on where it was broken off")
    parser.add_argument("--again", action="store_true", help="run those that survived in --sessions once more")
    asked = parser.parse_args()
    if unknown := set(asked.modules) - set(names):
        parser.error(f"no such module: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    scores = {}
    with tempfile.TemporaryDirectory(prefix="mutation-") as place:
        sessions = (asked.sessions or Path(place, "sessions")).absolute()
        sessions.mkdir(parents=True, exist_ok=True)
        tree = _copy(Path(place, "tree").resolve())
        for name in asked.modules or names:
            scores[name] = _run(name, tree, sessions, is_again=asked.again)
    for name, score in scores.items():
        for diff in score.survivors:
            print(f"\n{name}:\n{diff}")
    print(f"\n{'module':<14}{'mutants':>9}{'killed':>9}{'timeouts':>10}{'survivors':>11}{'score':>9}{'left out':>10}")
    for name, score in scores.items():
        counts = f"{score.mutants:>9}{score.killed:>9}{score.timeouts:>10}{len(score.survivors):>11}"
        print(f"{name:<14}{counts}{score.share:>9.1%}{score.left_out:>10}")
    return int(any(score.share < LEAST_SCORE for score in scores.values()))


def _copy(tree: Path) -> Path:
    """Copy what the tests need."""
    tree.mkdir()
    for name in NEEDED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__", "*.sqlite*"))
        else:
            shutil.copy2(source, tree / name)
    return tree


def _run(name: str, tree: Path, sessions: Path, *, is_again: bool) -> Score:
    config = HERE / f"{name}.toml"
    asked = tomllib.loads(config.read_text("utf-8"))["cosmic-ray"]
    code = (tree / asked["module-path"]).read_text("utf-8")
    # What was found about another text of the module is nothing about this one.
    session = sessions / f"{name}-{hashlib.sha256(code.encode()).hexdigest()[:8]}.sqlite"
    if not session.exists():
        _call(tree, "cosmic-ray", "init", str(config), str(session))
    if is_again:
        _forget_survivors(session)
    with tempfile.TemporaryFile() as said:
        status = _in_fork(lambda: _try_all(tree, asked, code, session, said.fileno()))
        if status != pytest.ExitCode.NO_TESTS_COLLECTED:  # all of them ran in forks
            said.seek(0)
            raise SystemExit(f"{name}: not all mutants could be tried\n{said.read().decode()}")
    with use_db(str(session), WorkDB.Mode.open) as found:
        return _score(found)


def _in_fork(work: Callable[[], int]) -> int:
    """Let a fork of this process do something, and return its exit code, or the negative number of a signal."""
    if (child := os.fork()) == 0:
        code = _BROKEN
        try:
            code = work()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _try_all(tree: Path, asked: dict[str, Any], code: str, session: Path, words: int) -> int:
    for number in (1, 2):
        os.dup2(words, number)
    os.chdir(tree)
    sys.path[0] = str(tree)  # as `python -m` does, from the test-command
    _, dash_m, program, *arguments = shlex.split(asked["test-command"])
    assert (dash_m, program) == ("-m", "pytest")
    trial = _Trial(tree, tree / asked["module-path"], code, session, int(asked["timeout"]))
    return int(pytest.main(arguments, plugins=[trial]))


class _Trial:
    """Tries each mutant at the last moment before pytest imports the tests, and with them the product."""

    def __init__(self, tree: Path, module: Path, code: str, found: Path, timeout_s: int) -> None:
        self._tree = tree
        self._module = module
        self._code = code
        self._found = found
        self._timeout_s = timeout_s

    def pytest_collection(self, session: pytest.Session) -> bool:
        assert "cortex_autolearn" not in sys.modules
        # Unmutated, the tests pass: else all would count as killed. This leaves bytecode for those that follow.
        sys.dont_write_bytecode = False
        assert not self._test(session), "the tests fail without a mutant"
        sys.dont_write_bytecode = True
        runs = _what_runs(self._code)
        with use_db(str(self._found), WorkDB.Mode.open) as found:
            for item in found.pending_work_items:
                mutant = _mutant(self._code, item.mutations[0])
                is_other = _what_runs(mutant) not in {runs, None}
                result = self._try(session, mutant) if is_other else WorkResult(WorkerOutcome.SKIPPED)
                found.set_result(item.job_id, result)
        return True  # nobody else is to collect

    def _try(self, session: pytest.Session, mutant: str) -> WorkResult:
        self._module.write_text(mutant, "utf-8")
        failed = self._test(session)
        lines = list(difflib.unified_diff(self._code.splitlines(), mutant.splitlines(), lineterm="", n=1))
        outcome = TestOutcome.KILLED if failed else TestOutcome.SURVIVED
        return WorkResult(WorkerOutcome.NORMAL, failed, outcome, "\n".join(lines[2:]))

    def _test(self, session: pytest.Session) -> str:
        """Run the tests; return what became of them, and nothing if they passed."""
        status = _in_fork(lambda: self._end(session))
        assert status in {0, 1, -signal.SIGXCPU, -signal.SIGKILL}, (
            f"the tests did not run, or not on the copy: {status}"
        )
        return {0: "", 1: "failed"}.get(status, "timeout")

    def _end(self, session: pytest.Session) -> int:
        # Processor time: that of a mutant without an end does not depend on who else uses the machine.
        resource.setrlimit(resource.RLIMIT_CPU, (self._timeout_s,) * 2)
        resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY,) * 2)
        try:
            session.perform_collect()
            session.config.hook.pytest_runtestloop(session=session)
        except (session.Failed, session.Interrupted):
            return 1
        assert Path(str(sys.modules["cortex_autolearn"].__file__)).is_relative_to(self._tree)
        return int(session.testsfailed > 0)


def _mutant(code: str, change: MutationSpec) -> str:
    return str(mutate_code(code, get_operator(change.operator_name)(**change.operator_args), change.occurrence))


def _what_runs(code: str) -> str | None:
    """Return a module without what only a type checker reads; None for what is no Python."""
    try:
        with warnings.catch_warnings(action="ignore"):
            compile(code, "mutant", "exec")
    except SyntaxError:
        return None
    return ast.dump(_Running().visit(ast.parse(code)))


class _Running(ast.NodeTransformer):
    """Drops annotations, protocols and imports for a type checker: no module here looks at them when it runs."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:  # noqa: N802 - ast's own
        node.returns = None
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_arguments(self, node: ast.arguments) -> ast.AST:
        # To cosmic-ray the `*` before arguments by name is an operator; `/` in its place lets the same calls through.
        node.args = [*node.posonlyargs, *node.args, *node.kwonlyargs]
        node.defaults += [one for one in node.kw_defaults if one is not None]
        node.posonlyargs, node.kwonlyargs, node.kw_defaults = [], [], []
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:  # noqa: N802
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST | None:  # noqa: N802
        return None if any("Protocol" in ast.dump(base) for base in node.bases) else self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | None:  # noqa: N802
        return None if "TYPE_CHECKING" in ast.dump(node.test) else self.generic_visit(node)


def _forget_survivors(session: Path) -> None:
    with closing(connect(session)) as found, found:
        found.execute("DELETE FROM work_results WHERE test_outcome = ?", (TestOutcome.SURVIVED.name,))


def _score(found: WorkDB) -> Score:
    results = [result for _, result in found.results]
    run = [one for one in results if one.worker_outcome == WorkerOutcome.NORMAL]
    odd = [one for one in results if one.worker_outcome not in {WorkerOutcome.NORMAL, WorkerOutcome.SKIPPED}]
    assert not odd, f"{len(odd)} mutants could not be run: {odd[0].output}"
    assert found.num_results == found.num_work_items, "not all mutants were run"
    killed = [one for one in run if one.test_outcome == TestOutcome.KILLED]
    survivors = [one.diff for one in run if one.test_outcome == TestOutcome.SURVIVED]
    timeouts = sum(one.output == "timeout" for one in killed)
    return Score(len(results) - len(run), len(run), len(killed), timeouts, sorted(survivors))


def _call(tree: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Call a program of this very environment in the copy; its own words, if it fails."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(command, cwd=tree, env={**os.environ, "PATH": path}, text=True, capture_output=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done


if __name__ == "__main__":
    sys.exit(main())
