"""No secret reaches what people and machines read: keys are planted wherever a log could take them from."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from anthropic_api import AnthropicApi
from service_support import PROGRAM, address, daemon, get, stop, until
from support import good, line

from cortex_autolearn.adapters import observe
from cortex_autolearn.adapters.logline import MAX_LINE_BYTES
from cortex_autolearn.model import layout
from cortex_autolearn.ports import BoundaryError

if TYPE_CHECKING:
    from pathlib import Path

ANTHROPIC = "sk-ant-api03-" + "Zx7" * 31 + "-planted00AA"
AWS = "AKIA" + "Q7R2T5V8W1X4Y6Z9"
GITHUB = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
PASSWORD = "correct-horse-Battery-9"
EVENT = f"said {ANTHROPIC}"
PLANTED = (ANTHROPIC, AWS, GITHUB, PASSWORD)


def logged(say: Any, fmt: Any = "json") -> str:
    """Return what a log writes of what ``say`` says."""
    out = io.StringIO()
    logging = observe.configure(level="debug", fmt=fmt, file=None, queue_size=1_000, stream=out)
    try:
        say(logging.log)
        assert logging.flush(5.0)
    finally:
        logging.close()
    return out.getvalue()


def clean(text: str) -> None:
    """Check that nothing of what was planted stands there, nor a part of it that would do."""
    for secret in PLANTED:
        for start in range(0, len(secret) - 12, 4):
            assert secret[start : start + 16] not in text or len(secret[start : start + 16]) < 16, secret
        assert secret not in text


class Provider:
    """A client that shows its key, as careless ones do."""

    def __repr__(self) -> str:
        return f"Provider(api_key={ANTHROPIC!r})"


def _fail(key: str) -> None:
    password = PASSWORD
    client = {"api_key": key, "password": password}
    raise RuntimeError(f"401 for {key} (x-api-key: {client['api_key']}; password={password})")


def _raised() -> BaseException:
    try:
        _fail(ANTHROPIC)
    except RuntimeError as error:
        try:
            raise ValueError(f"https://user:{PASSWORD}@example.com/v1?token={GITHUB}") from error
        except ValueError as outer:
            return outer
    raise AssertionError


SAYINGS: dict[str, Any] = {
    "a value": lambda log: log.info("said", text=f"the key is {ANTHROPIC} and {AWS}"),
    "a key's value": lambda log: log.info("said", password=PASSWORD, api_key=ANTHROPIC),
    "an event's name": lambda log: log.info(EVENT),
    "inside": lambda log: log.info("said", counts={"a": [{"password": PASSWORD}, GITHUB, (AWS,)]}),
    "json in text": lambda log: log.info(
        "said", body=json.dumps({"error": {"api_key": ANTHROPIC, "password": PASSWORD}})
    ),
    "bound": lambda log: log.bind(token=GITHUB).info("said"),
    "an object": lambda log: log.info("said", client=Provider()),
    "an exception": lambda log: log.error("failed", exc_info=_raised()),
    "a boundary error": lambda log: log.error(
        "failed",
        error=str(BoundaryError("ask", "https://x", f"401 {ANTHROPIC}", hint=f"password={PASSWORD}", retryable=False)),
    ),
    "a long value": lambda log: log.info("said", text="word " * 9_000 + f" {ANTHROPIC} " + "word " * 9_000),
    "many values": lambda log: log.info("said", **{f"k{n}": f"{'x ' * 600} {GITHUB} {'y ' * 600}" for n in range(60)}),
    "a key beside a long value": lambda log: log.info("said", text="word " * 20_000, password=PASSWORD),
    "a value cut in two": lambda log: log.info("said", text="w " * (MAX_LINE_BYTES // 2 - 20) + ANTHROPIC),
    "a message cut in two": lambda log: log.error("failed", exc_info=RuntimeError("w " * 980 + ANTHROPIC)),
    "bytes": lambda log: log.info("said", header=f"x-api-key: {ANTHROPIC}".encode()),
    "a header": lambda log: log.info("said", headers={"x-api-key": ANTHROPIC, "authorization": f"Bearer {GITHUB}"}),
}


@pytest.mark.parametrize("fmt", ["json", "console"])
@pytest.mark.parametrize("where", SAYINGS)
def test_a_line_masks(where: str, fmt: str) -> None:
    """Whichever way a secret comes into a line, it is masked before the line is written; JSON stays JSON."""
    text = logged(SAYINGS[where], fmt)
    clean(text)
    assert "said" in text or "failed" in text
    if where not in {"a value cut in two", "a message cut in two", "many values", "a long value"}:
        assert "[REDACTED:" in text
    if fmt == "json":
        for one in text.splitlines():
            assert len(one.encode()) < MAX_LINE_BYTES
            json.loads(one)


def test_what_is_no_secret_stays() -> None:
    """Ids, digests, counts, paths and times of our own lines come through whole."""
    keys = {
        "run_id": "20261122T173730Z-394fcdf3",
        "settings": "da4126a3a319",
        "dataset_id": "0123456789ab",
        "digest": "a" * 64,
        "path": "/srv/cortex/coordination/medallion/bronze/raw-tasks/2026-11-22.jsonl",
        "counts": {"input_tokens": 123_456, "cache_read_tokens": 7, "keys": 3, "rejected": {"No output": 3}},
        "model": "claude-haiku-4-5-20251001",
        "duration_s": 1.5,
        "slot": "2026-11-22T17:00:00Z",
    }
    said = json.loads(logged(lambda log: log.info("job_finished", **keys)))
    assert {key: said[key] for key in keys} == keys


def test_masking_costs_little() -> None:
    """A line costs well below a millisecond, secrets looked for."""
    counts = {f"count_{n}": n for n in range(30)}
    began = time.process_time()
    logged(lambda log: [log.info("job_finished", job="collection", counts=counts) for _ in range(200)])
    assert (time.process_time() - began) / 200 < 0.005


def test_nothing_of_a_running_daemon_tells_a_secret(tmp_path: Path) -> None:
    """Keys in settings, environment, records, file names and a provider's answers appear on no output of a daemon."""
    bronze = tmp_path / layout.BRONZE
    bronze.mkdir(parents=True)
    records = [
        good("t1", quality_score=..., output=f"Used {ANTHROPIC} and password={PASSWORD} to log in, and it worked well"),
        good("t2", error=f"401 for x-api-key: {ANTHROPIC}", status="failed"),
        good("t3", quality_score=..., input=f"export GITHUB_TOKEN={GITHUB}; and then [[errored overloaded_error]]"),
        good(f"t4 {AWS}"),
    ]
    (bronze / "a.jsonl").write_bytes(b"".join(map(line, records)) + f'{{"password": "{PASSWORD}", broken\n'.encode())
    (bronze / f"{GITHUB}.jsonl").write_bytes(b"{")
    (bronze / f"loop-{AWS}.jsonl").symlink_to(bronze / f"loop-{AWS}.jsonl")
    (tmp_path / "cortex-autolearn.toml").write_text("[judge]\nenabled = true\n")
    with AnthropicApi() as api:
        api.fail("POST /v1/messages", status=401, kind="authentication_error", text=f"invalid x-api-key {ANTHROPIC}")
        environ = {
            "ANTHROPIC_API_KEY": ANTHROPIC,
            "ANTHROPIC_BASE_URL": api.url,
            "AWS_ACCESS_KEY_ID": AWS,
            "GITHUB_TOKEN": GITHUB,
            "CORTEX_AUTOLEARN__LOG__LEVEL": "debug",
        }
        with daemon(tmp_path, environ=environ) as process:
            to = address(tmp_path)
            until(lambda: json.loads(get(to, "/status")[2])["tasks"]["final"] == 4, "the tasks")
            until(lambda: "scoring" in json.loads(get(to, "/status")[2])["last_runs"], "a scoring")
            answers = "".join(get(to, path)[2] for path in ("/healthz", "/readyz", "/status", "/metrics"))
            (tmp_path / "cortex-autolearn.toml").write_text(
                f"[judge]\napi_key = '{ANTHROPIC}'\n[collect]\nmin_quality = '{GITHUB}'\n"
            )
            process.send_signal(1)
            log = tmp_path / layout.LOG
            until(lambda: b"reload_refused" in log.read_bytes(), "the reload")
            _, out = stop(process)
    (tmp_path / "cortex-autolearn.toml").unlink()
    status = subprocess.run(
        [*PROGRAM, "status", "--json", "--root", str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, **environ},
    )
    assert status.returncode == 0
    outputs = {
        "stdout": out,
        "log": log.read_text(),
        "events": (tmp_path / layout.EVENTS).read_text(),
        "status": status.stdout + status.stderr,
        "http": answers,
    }
    assert "job_failed" in out or "provider_trouble" in out or "scoring" in out
    for text in outputs.values():
        clean(text)
    assert "[REDACTED:" in outputs["log"]


def test_an_uncaught_error_of_a_library_is_masked() -> None:
    """What libraries log is masked as our own lines are."""
    import logging as standard  # noqa: PLC0415 - only here

    def say(_log: Any) -> None:
        standard.getLogger("somewhere").error("refused %s", ANTHROPIC)
        thread = threading.Thread(target=lambda: standard.getLogger("asyncio").error("task", exc_info=_raised()))
        thread.start()
        thread.join()

        async def forget() -> None:
            asyncio.get_running_loop().call_exception_handler(
                {"message": "lost", "exception": _raised(), "k": ANTHROPIC}
            )

        asyncio.run(forget())

    text = logged(say)
    clean(text)
    assert text.count("[REDACTED:") >= 3


@pytest.mark.parametrize("flag", [f"judge.api_key={ANTHROPIC}", f"collect.min_quality={GITHUB}", f"log.level={AWS}"])
def test_a_refused_setting_is_not_repeated(tmp_path: Path, flag: str) -> None:
    """What is said about wrong configuration goes to a supervisor's log, and shows no key that stands there."""
    command = [*PROGRAM, "run", "--init", "--root", str(tmp_path), "--set", flag]
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 78
    clean(refused.stdout + refused.stderr)
