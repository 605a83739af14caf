"""What goes wrong between a daemon and an API like OpenAI's: told with its remedy, and no job is lost or doubled."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner
from openai_api import BASE, Fault, Handler, OpenaiApi, Script
from openai_rules import KEY
from support import NOW, Rooms, good

from cortex_autolearn import wiring
from cortex_autolearn.adapters.lock import held
from cortex_autolearn.adapters.trainers.openai_compat.line import Fault as LineFault
from cortex_autolearn.adapters.trainers.openai_compat.line import Line
from cortex_autolearn.cli import main
from cortex_autolearn.cli.quiet import Quiet
from cortex_autolearn.collect.split import split_of
from cortex_autolearn.doctor import Check, examine
from cortex_autolearn.model import layout
from cortex_autolearn.model.openai_policy import OpenaiPolicy
from cortex_autolearn.testing import FakeClock

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:click")

TRAINING, VALIDATION = 12, 3
ENVIRON = {"OPENAI_API_KEY": KEY}


@pytest.fixture
def api() -> Iterator[OpenaiApi]:
    with OpenaiApi().serving() as served:
        yield served


@pytest.fixture
def root(tmp_path: Path, api: OpenaiApi) -> Path:
    """A ROOT with enough outcomes, set up to train at the loopback service."""
    names = [f"task-{number}" for number in range(120)]
    chosen = [name for name in names if split_of(name, 80) == "training"][:TRAINING]
    chosen += [name for name in names if split_of(name, 80) == "validation"][:VALIDATION]
    with Rooms(tmp_path) as rooms:
        rooms.put(
            "tasks.jsonl", *(good(name, input=f"Look at host {name}: {name}a {name}b {name}c") for name in chosen)
        )
        rooms.everything()
    set_up(tmp_path, api.url)
    return tmp_path


def set_up(root: Path, url: str, **changes: str) -> None:
    training = {"base_model": BASE, "min_examples": str(TRAINING)} | changes
    numbers = "\n".join(f"{key} = {value if value[0].isdigit() else repr(value)}" for key, value in training.items())
    (root / "cortex-autolearn.toml").write_text(
        f'[openai]\nbase_url = "{url}"\n[training]\nbackend = "openai_compat"\n{numbers}\n'
        f'[[training.prices]]\nbase = "{BASE}"\nas_of = "2026-11-22"\ntraining_usd_per_mtok = 5.0\n'
    )


def said(root: Path, *args: str, environ: dict[str, str] = ENVIRON) -> str:
    env = {"OPENAI_API_KEY": None, "OPENAI_BASE_URL": None, **environ}
    result = CliRunner().invoke(main, [*args, "--root", str(root)], prog_name="cortex-autolearn", env=env)
    assert KEY not in result.output
    return result.output


def look(root: Path, environ: dict[str, str] = ENVIRON) -> dict[str, Check]:
    found = {check.name: check for check in examine(root, config=None, environ=environ, flags={})}
    assert KEY not in str(found)
    return {name: found[name] for name in ("readiness", "training", "backend") if name in found}


def finish(root: Path, api: OpenaiApi) -> None:
    """Let the provider train, and the daemon look; there is one job, its model is known, and nothing is left over."""
    for _ in range(6):
        api.tick()
    said(root, "run-once", "training")
    (job,) = api.jobs.values()
    assert job["status"] == "succeeded"
    assert "Models trained: 1" in said(root, "fine-tune", "status")
    assert job["fine_tuned_model"] in said(root, "fine-tune", "jobs", "--json")
    assert not api.files


class TestBefore:
    """What is wrong before anything was sent keeps the training from starting, and nothing is sent."""

    @pytest.mark.parametrize(
        ("environ", "fault", "url", "cause", "remedy"),
        [
            ({}, None, "", "the key: there is none", "Set OPENAI_API_KEY, or the systemd credential openai_api_key"),
            ({"OPENAI_API_KEY": "sk-expired"}, None, "", "the key is not accepted", "Set OPENAI_API_KEY"),
            (ENVIRON, None, "/elsewhere", "HTTP 404", "Check openai.base_url"),
            (ENVIRON, Fault("/jobs", status=403, times=99, message="Missing scopes: a.b"), "", "Missing scopes", "Give the key's project the right"),
            (ENVIRON, Fault("/models", status=429, code="insufficient_quota", times=99), "", "insufficient_quota", "Raise the limit"),
        ],
    )  # fmt: skip
    def test_it_is_told_and_nothing_is_sent(
        self,
        root: Path,
        api: OpenaiApi,
        environ: dict[str, str],
        fault: Fault | None,
        url: str,
        cause: str,
        remedy: str,
    ) -> None:
        """Trigger, status and doctor say what it is and what to do; with that done the training starts."""
        if fault is not None:
            api.faults.append(fault)
        set_up(root, api.url + url)
        before = look(root, environ)["backend"]  # also where no dataset was built yet
        assert (before.verdict, cause in before.found, before.remedy.startswith(remedy)) == ("fail", True, True)
        triggered = said(root, "run-once", "readiness", environ=environ)
        status = said(root, "fine-tune", "status", environ=environ)
        assert cause in status, triggered
        assert remedy in status
        found = look(root, environ)
        assert found["backend"].verdict == "fail"
        assert found["backend"].remedy.startswith(remedy)
        assert cause in found["readiness"].found
        assert (api.jobs, api.files, api.uploaded) == ({}, {}, 0)
        api.faults.clear()
        set_up(root, api.url)
        assert "Started: global" in said(root, "fine-tune", "trigger")
        assert look(root)["backend"].verdict == "ok"
        finish(root, api)

    def test_an_outage(self, root: Path, api: OpenaiApi) -> None:
        """Nobody answers: that is said, with what to do, and the training starts when somebody does."""
        api.faults.append(Fault("GET", "drop", times=999))
        said(root, "run-once", "readiness")
        assert "no answer" in said(root, "fine-tune", "status")
        found = look(root)
        assert found["backend"].verdict == "fail"
        assert found["backend"].remedy.startswith("It is asked again by itself")
        api.faults.clear()
        assert "Started: global" in said(root, "fine-tune", "trigger")
        finish(root, api)


def test_a_daemon_may_have_the_key(root: Path) -> None:
    """While a daemon lives, a key that is missing where a person looks is no failure, but said all the same."""
    with held(root / layout.DAEMON_LOCK):
        check = look(root, {})["backend"]
    assert check.verdict == "warn"
    assert "there is none (seen from here; the daemon may see more)" in check.found
    assert look(root, {})["backend"].verdict == "fail"


def test_what_it_cost_counts(root: Path, api: OpenaiApi) -> None:
    """The budget of the month is kept by what the provider counted, not by what was estimated before."""
    said(root, "fine-tune", "trigger")
    finish(root, api)
    set_up(root, api.url, budget_month_usd="0.62")  # 0.617 of it is spent
    assert "0.62 of 0.62 USD are spent this month" in said(root, "fine-tune", "trigger", "--force")
    set_up(root, api.url, budget_month_usd="1.5")
    assert "Started: global" in said(root, "fine-tune", "trigger", "--force")
    assert len(api.jobs) == 2


@pytest.mark.parametrize("counted", [0, -(10**9)])
def test_what_runs_costs_what_was_estimated(root: Path, api: OpenaiApi, counted: int) -> None:
    """A provider that counts nothing yet, or nonsense, makes no room in the budget of the month for another training."""
    said(root, "fine-tune", "trigger")
    (job,) = api.jobs.values()
    job |= {"status": "running", "trained_tokens": counted}
    said(root, "run-once", "training")
    (shown,) = json.loads(said(root, "fine-tune", "jobs", "--json"))["jobs"]
    set_up(root, api.url, budget_month_usd=f"{shown['estimated_cost_usd'] * 1.5:.9f}")
    answer = said(root, "fine-tune", "trigger", "--master", "security-master", "--force")
    assert "USD are spent this month" in answer
    assert len(api.jobs) == 1


def test_what_was_given_up_still_costs_what_was_estimated(root: Path, api: OpenaiApi) -> None:
    """A job that is ended here while its provider does not answer may run on there: it makes no room for another."""
    said(root, "fine-tune", "trigger")
    (job,) = api.jobs.values()
    job |= {"status": "running", "trained_tokens": 0}
    said(root, "run-once", "training")
    (shown,) = json.loads(said(root, "fine-tune", "jobs", "--json"))["jobs"]
    api.faults.append(Fault(".*", "drop", times=999))
    assert "cancelled" in said(root, "fine-tune", "cancel", shown["model_id"], "--give-up")
    api.faults.clear()
    set_up(root, api.url, budget_month_usd=f"{shown['estimated_cost_usd'] * 1.5:.9f}")
    assert "USD are spent this month" in said(root, "fine-tune", "trigger", "--force")
    assert len(api.jobs) == 1


def test_no_base_of_its_own(root: Path, api: OpenaiApi) -> None:
    """Without training.base_model nothing is sent; status, doctor and trigger name the setting."""
    settings = root / "cortex-autolearn.toml"
    settings.write_text(settings.read_text().replace(f"base_model = {BASE!r}\n", ""))
    assert "Set training.base_model" in said(root, "fine-tune", "trigger")
    said(root, "run-once", "readiness")
    status = said(root, "fine-tune", "status")
    assert "openai_compat on no base" in status
    assert "no base is set" in status
    assert look(root)["backend"] == Check(
        "backend",
        "fail",
        "openai_compat on no base: no base is set, and this backend has none of its own",
        "Set training.base_model to one that the provider fine-tunes",
    )
    assert (api.jobs, api.files) == ({}, {})


class TestDuring:
    """What goes wrong with a job under way is told, and the job goes on."""

    @pytest.mark.parametrize(
        ("environ", "fault", "url", "cause", "remedy"),
        [
            ({}, None, "", "the key: there is none", "Set OPENAI_API_KEY"),
            ({"OPENAI_API_KEY": "sk-expired"}, None, "", "the key is not accepted", "Set OPENAI_API_KEY"),
            (ENVIRON, None, "/elsewhere", "the address is now", "Set openai.base_url"),
            (ENVIRON, Fault("GET", status=403, times=99, message="No."), "", "HTTP 403", "Give the key's project the right"),
            (ENVIRON, Fault("GET", status=404, code="fine_tune_not_found", times=99), "", "though it was created there", "Use a key of the project"),
            (ENVIRON, Fault("GET", "drop", times=99), "", "no answer", "It is asked again by itself"),
        ],
    )  # fmt: skip
    def test_a_job_under_way(
        self,
        root: Path,
        api: OpenaiApi,
        environ: dict[str, str],
        fault: Fault | None,
        url: str,
        cause: str,
        remedy: str,
    ) -> None:
        """Status and doctor say what it is and what to do; when that is done, the same job goes on to its end."""
        assert "Started: global" in said(root, "fine-tune", "trigger")
        if fault is not None:
            api.faults.append(fault)
        set_up(root, api.url + url)
        said(root, "run-once", "training", environ=environ)
        status = said(root, "fine-tune", "status", environ=environ)
        assert "Under way: ft-" in status
        assert cause in status
        assert remedy in status
        check = look(root, environ)["training"]
        assert check.verdict == "warn"
        assert cause in check.found
        assert remedy in check.found
        api.faults.clear()
        set_up(root, api.url)
        finish(root, api)

    def test_the_quota_is_reached(self, root: Path, api: OpenaiApi) -> None:
        """A creation that is refused for good fails the training in words, leaves no upload, and is tried again later."""
        api.faults.append(Fault("POST /fine_tuning/jobs$", status=429, code="insufficient_quota", message="Quota."))
        output = said(root, "fine-tune", "trigger")
        assert "not taken: HTTP 429 (insufficient_quota): Quota" in output
        assert "Raise the limit or the credit" in output
        found = look(root)["training"]
        assert "Raise the limit or the credit" in found.found
        assert (api.jobs, api.files) == ({}, {})
        assert "Started: global" in said(root, "fine-tune", "trigger", "--force")
        for _ in range(6):
            api.tick()
        said(root, "run-once", "training")
        assert [job["status"] for job in api.jobs.values()] == ["succeeded"]

    def test_a_failed_job(self, root: Path, api: OpenaiApi) -> None:
        """What the provider says about a failure reaches whoever asks."""
        api.script = Script(outcome="failed", error={"code": "bad", "message": "The loss was NaN.", "param": None})
        said(root, "fine-tune", "trigger")
        for _ in range(3):
            api.tick()
        said(root, "run-once", "training")
        assert "failed: The loss was NaN (bad)" in look(root)["training"].found
        assert not api.files

    def test_a_paused_job(self, root: Path, api: OpenaiApi) -> None:
        """A job that waits for a person at the provider is told of as one."""
        api.script = Script(outcome="paused")
        said(root, "fine-tune", "trigger")
        for _ in range(3):
            api.tick()
        said(root, "run-once", "training")
        check = look(root)["training"]
        assert check.verdict == "warn"
        assert "resume the job" in check.found

    def test_cancelled_before_it_came_to_be(self, root: Path, api: OpenaiApi) -> None:
        """A training that is cancelled while its creation fails leaves neither a job nor an upload."""
        api.faults.append(Fault("POST /fine_tuning/jobs$", status=429, times=99))
        said(root, "fine-tune", "trigger")
        assert len(api.files) == 2
        output = said(root, "fine-tune", "cancel", f"ft-{_day(root)}-001")
        assert "cancelled" in output
        assert (api.jobs, api.files) == ({}, {})


def _day(root: Path) -> str:
    shown = said(root, "fine-tune", "status")
    return shown.split("Under way: ft-")[1][:8]


def test_two_days_without_the_provider(root: Path, api: OpenaiApi) -> None:
    """Longer than the deadline nobody answers; the job went on there, and its model is taken in when somebody does."""
    clock = FakeClock(NOW)
    app = wiring.build(root, clock=clock, environ=ENVIRON, logging=cast("Any", Quiet()))
    with closing(app):

        def run(job: str) -> dict[str, Any]:
            return dict(app.runner.run(job, trigger="heartbeat", raise_errors=True).counts)

        run("readiness")
        assert len(api.jobs) == 1
        api.faults.append(Fault("", "refuse", 503, times=10**6))
        for _ in range(8):
            clock.advance(6 * 3_600)
            assert "HTTP 503" in run("training")["troubles"][0]
        check = look(root)["training"]
        assert "HTTP 503" in check.found
        assert "check the network and openai.base_url" in check.found
        assert check.verdict == "fail"  # past its deadline
        api.faults.clear()
        for _ in range(6):
            api.tick()
        run("training")
        with app.store.read() as reading:
            (training,) = reading.trainings()
            assert training.state == "succeeded"
            assert [model.ref.kind for model in reading.models()] == ["openai"]
    assert len(api.jobs) == 1


@pytest.mark.parametrize("status", [200, 500])
def test_an_answer_that_drips_is_given_up(api: OpenaiApi, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """Bytes that come now and then, each in time, hold up nobody: all of an answer has its time, too."""
    is_over = threading.Event()

    def answer(handler: Handler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", "100000")
        handler.send_header("retry-after-ms", "1")
        handler.end_headers()
        with suppress(OSError):
            while not is_over.wait(0.02):
                handler.wfile.write(b" ")

    monkeypatch.setattr(Handler, "do_GET", answer)
    line = Line(OpenaiPolicy(base_url=api.url), {"OPENAI_API_KEY": api.key}, read_s=0.2)
    try:
        with pytest.raises(LineFault, match=r"not done after 0\.6 seconds") as caught:
            line.models()
    finally:
        is_over.set()
    assert caught.value.status == status
