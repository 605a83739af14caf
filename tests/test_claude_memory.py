"""A batch as large as the API takes them lies in memory neither when it goes out nor when it comes back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from anthropic_api import api_process
from support import slow

_CHILD = """
import asyncio, json, re, sys, time
from pathlib import Path
from anthropic_rules import KEY
from cortex_autolearn.adapters.claude.judge import ClaudeJudge
from cortex_autolearn.model.judgement import Ask, Answer
from cortex_autolearn.ports import JudgeBusyError

url, count = sys.argv[1], int(sys.argv[2])
MODEL = "claude-haiku-5-5"

class Asks:
    def __init__(self, count):
        self.count = count
    def __len__(self):
        return self.count
    def __iter__(self):
        return (Ask(f"task-{n}", "rubric " * 40, f"{n} " + "work " * 120) for n in range(self.count))

def kilobytes(name):
    return int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

async def through(judge, count):
    begun = time.monotonic()
    batch = await judge.submit(Asks(count), model=MODEL)
    sent = time.monotonic()
    while batch.state != "ended":
        try:
            batch = await judge.batch(batch.id)
        except JudgeBusyError:
            pass  # the loopback service thinks about a hundred thousand works at once, on one core
    ended = time.monotonic()
    found = 0
    async for each in judge.results(batch.id):
        found += isinstance(each, Answer)
    return found, sent - begun, time.monotonic() - ended

async def main():
    judge = ClaudeJudge(KEY, url)
    await through(judge, 100)
    Path("/proc/self/clear_refs").write_text("5")
    before = kilobytes("VmRSS")
    found, sent_s, read_s = await through(judge, count)
    await judge.close()
    size = sum(judge.ask_bytes(ask, model=MODEL) for ask in Asks(10)) / 10 * count / 1e6
    print(json.dumps({"found": found, "idle_mb": before / 1024, "grown_mb": (kilobytes("VmHWM") - before) / 1024,
                      "body_mb": size, "sent_s": sent_s, "read_s": read_s}))

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("count", [5_000, pytest.param(100_000, marks=[slow, pytest.mark.timeout(600)])])
def test_memory_stays_flat_over_a_batch(tmp_path: Path, count: int) -> None:
    """Sending and reading so many asks takes no more than 40 MB over what the package takes by itself."""
    with api_process(tmp_path) as api:
        child = [sys.executable, "-c", _CHILD, api.url, str(count)]
        done = subprocess.run(child, capture_output=True, text=True, timeout=500, cwd=Path(__file__).parent)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    print(told)
    assert told["found"] == count
    assert told["grown_mb"] < 40
