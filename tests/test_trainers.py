"""Every trainer leads the same life, and what the ones that work in files leave behind."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support import NOW

from cortex_autolearn.adapters.trainers.exemplar import ExemplarTrainer
from cortex_autolearn.adapters.trainers.export import ExportTrainer
from cortex_autolearn.adapters.trainers.lifecycle import life_by
from cortex_autolearn.exemplars import open_model
from cortex_autolearn.model import chat_formats, layout
from cortex_autolearn.model.instants import DAY_US, to_us
from cortex_autolearn.model.judgement import ModelLife
from cortex_autolearn.model.training_jobs import (
    DatasetRef,
    Estimate,
    ModelRef,
    Price,
    RemoteJob,
    Spec,
    client_token,
    job_name,
)
from cortex_autolearn.model.training_problems import (
    AccessRefused,
    BaseModelRetired,
    BaseModelRetiring,
    BaseModelUnknown,
    DatasetUnreadable,
    ExampleTooLong,
    HyperparameterAdjusted,
    HyperparameterIgnored,
    HyperparameterOutOfRange,
    ModelIdTaken,
    PriceUnknown,
    Problem,
    ServingUnsupported,
    TooFewRecords,
    TooManyRecords,
)
from cortex_autolearn.ports import BoundaryError, Trainer
from cortex_autolearn.testing import FakeClock, ScriptedJudge, conformance
from cortex_autolearn.testing.dice import Dice
from cortex_autolearn.testing.trainer import Script, ScriptedTrainer
from cortex_autolearn.testing.work import MASTERS, compose

BASE = "claude-haiku-5-5"
PRICE = Price(base=BASE, as_of="2026-11-22", input=0.1, cache_write=0.125, cache_read=0.01, output=0.5, training=2.0)


def freeze(root: Path, *, train: int = 60, validation: int = 30, seed: str = "a") -> DatasetRef:
    """Write a frozen dataset of the simulated fleet's work."""
    dice = Dice("dataset", seed)
    dataset_id = sha256(f"{seed}{train}{validation}".encode()).hexdigest()[:12]
    folder = root / layout.AUTOLEARN / "datasets" / dataset_id
    folder.mkdir(parents=True)
    listed: dict[str, list[dict[str, Any]]] = {}
    for part, count in (("train", train), ("validation", validation)):
        listed[part] = []
        with (folder / f"{part}.jsonl").open("w", encoding="utf-8") as file:
            for number in range(count):
                master = MASTERS[number % len(MASTERS)]
                work = compose(dice, master)
                line = json.dumps(example_of(master, work.ask, work.good), ensure_ascii=False)
                file.write(line + "\n")
                listed[part].append(
                    {
                        "task_id": f"{part}-{number}",
                        "master": master,
                        "task_type": work.task_type,
                        "digest": sha256(f"{line}\n".encode()).hexdigest(),
                    }
                )
    (folder / "manifest.json").write_text(json.dumps({"dataset_id": dataset_id, "examples": listed}))
    return DatasetRef(dataset_id, str(folder.relative_to(root)), train, validation)


def freeze_as(folder: Path, part: str, lines: list[str]) -> None:
    """Put other lines into a dataset, as if it had been frozen with them."""
    (folder / f"{part}.jsonl").write_text("".join(lines))
    manifest = json.loads((folder / "manifest.json").read_text())
    for entry, line in zip(manifest["examples"][part], lines, strict=True):
        entry["digest"] = sha256(line.encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def example_of(master: str, asked: str, answered: str) -> dict[str, Any]:
    return {
        "system": f"You are the {master}.",
        "messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}],
    }


def spec_of(dataset: DatasetRef, *, backend: str = "exemplar", attempt: int = 1, **changes: Any) -> Spec:
    base = Spec(
        backend=backend,
        model_id=f"ft-20261122-{attempt:03d}",
        scope="global",
        base=BASE,
        dataset=dataset,
        hyperparameters={},
        attempt=attempt,
    )
    return msgspec.structs.replace(base, **changes)


def exemplar(root: Path, clock: FakeClock | None = None, **options: Any) -> ExemplarTrainer:
    return ExemplarTrainer(root, clock or FakeClock(NOW), prices={BASE: PRICE}, **options)


def finish(trainer: Trainer, spec: Spec) -> RemoteJob:
    token = client_token(spec)
    job = trainer.submit(spec, token)
    while not job.ended:
        job = trainer.poll(job.job_id)
    return job


# --- the common life -------------------------------------------------------------------------------------------------


class ExemplarRig:
    def __init__(self, root: Path) -> None:
        self.root, self.clock = root, FakeClock(NOW)
        self.dataset = freeze(root)

    def trainer(self) -> Trainer:
        return exemplar(self.root, self.clock, work_s=0)  # a poll takes one step

    def spec(self, *, attempt: int = 1) -> Spec:
        return spec_of(self.dataset, attempt=attempt)

    def doomed(self) -> Spec:
        return spec_of(msgspec.structs.replace(self.dataset, folder="gone"))

    def move_on(self, job: RemoteJob) -> None:
        self.clock.advance(60)

    def jobs(self) -> int:
        models = self.root / layout.MODELS
        return sum(path.is_dir() for path in models.iterdir()) if models.exists() else 0


class ExportRig(ExemplarRig):
    def trainer(self) -> Trainer:
        return self.export()

    def export(self) -> ExportTrainer:
        return ExportTrainer(self.root, self.clock, prices={BASE: PRICE})

    def spec(self, *, attempt: int = 1) -> Spec:
        return spec_of(self.dataset, backend="export", attempt=attempt)

    def move_on(self, job: RemoteJob) -> None:
        super().move_on(job)
        if job.waiting_for_person:
            self.export().complete(job.job_id, "ft:gpt-something")


class ScriptedRig:
    def __init__(self, root: Path) -> None:
        self.root, self.clock = root, FakeClock(NOW)

    def trainer(self) -> Trainer:
        return self.scripted()

    def scripted(self) -> ScriptedTrainer:
        return ScriptedTrainer(self.root / "outside", self.clock, self.script)

    script = Script()

    def spec(self, *, attempt: int = 1) -> Spec:
        return spec_of(DatasetRef("0123456789ab", "somewhere", 1000, 200), backend="scripted", attempt=attempt)

    def doomed(self) -> Spec:
        self.script = Script(outcome="fails")
        return self.spec()

    def move_on(self, job: RemoteJob) -> None:
        self.clock.advance(300)

    def jobs(self) -> int:
        return len(self.scripted().jobs())


@pytest.mark.parametrize("rig", [ExemplarRig, ExportRig, ScriptedRig])
@pytest.mark.parametrize("check", conformance.CHECKS, ids=lambda check: check.__name__)
def test_conformance(
    check: Callable[[conformance.Rig], None], rig: Callable[[Path], conformance.Rig], tmp_path: Path
) -> None:
    """Every backend passes every check of the shipped suite."""
    check(rig(tmp_path))


# --- the port's values -----------------------------------------------------------------------------------------------


def test_the_token_is_what_the_work_is() -> None:
    """Anything that makes it another training makes another token; the model's name and the data's place do not."""
    dataset = DatasetRef("0123456789ab", "a", 1000, 200)
    spec = spec_of(dataset, hyperparameters={"n_epochs": 3, "batch_size": 32})
    token = client_token(spec)
    assert len(token) == 64
    assert job_name(token) == f"cortex-{token[:12]}"
    same = [
        msgspec.structs.replace(spec, model_id="ft-20261122-009"),
        msgspec.structs.replace(spec, dataset=msgspec.structs.replace(dataset, folder="b")),
        msgspec.structs.replace(spec, hyperparameters={"batch_size": 32, "n_epochs": 3}),
    ]
    assert {client_token(one) for one in same} == {token}
    others = [
        msgspec.structs.replace(spec, **change)
        for change in (
            {"backend": "bedrock"},
            {"base": "another"},
            {"scope": "security-master"},
            {"attempt": 2},
            {"hyperparameters": {"n_epochs": 3}},
            {"hyperparameters": {"n_epochs": 3, "batch_size": 33}},
            {"dataset": msgspec.structs.replace(dataset, dataset_id="0123456789ac")},
        )
    ]
    assert len({client_token(one) for one in others} | {token}) == len(others) + 1


PROBLEMS: list[tuple[Problem, bool]] = [
    (BaseModelUnknown("x", ("a", "b")), True),
    (BaseModelRetired("x", "2026-09-10", ("a",)), True),
    (BaseModelRetiring("x", "2026-12-01"), False),
    (TooFewRecords("train", 3, 8), True),
    (TooManyRecords("train", 30, 8), True),
    (ExampleTooLong("train", 3, 30, 8), True),
    (HyperparameterOutOfRange("k", 99, "1 to 8"), True),
    (HyperparameterAdjusted("n_epochs", 3, 2, "1 to 2"), False),
    (HyperparameterIgnored("n_epochs"), False),
    (PriceUnknown("x", "training"), False),
    (DatasetUnreadable("0123456789ab", "gone"), True),
    (ModelIdTaken("ft-20261122-001"), True),
    (AccessRefused("bucket b", "403", "Let the role read it"), True),
    (ServingUnsupported("x", "Provisioned Throughput"), True),
]


@pytest.mark.parametrize(("problem", "blocks"), PROBLEMS)
def test_a_problem_says_what_and_what_to_do(problem: Problem, *, blocks: bool) -> None:
    """Every problem has a sentence and, when it blocks, a remedy; it comes back from the state as it was."""
    assert problem.blocks is blocks
    assert problem.text
    assert not problem.text.endswith(".")
    assert problem.remedy or not blocks
    assert msgspec.json.decode(msgspec.json.encode(problem), type=Problem) == problem


# --- exemplar: before ------------------------------------------------------------------------------------------------


def test_preflight_of_a_good_spec_finds_nothing(tmp_path: Path) -> None:
    """With the data there, the price known and the base current, nothing is found."""
    life = ModelLife(BASE, "active", None)
    assert exemplar(tmp_path, life=lambda _: life).preflight(spec_of(freeze(tmp_path))) == []


def test_preflight_knows_the_life_of_the_base(tmp_path: Path) -> None:
    """A retired base blocks, a deprecated one is told of, an unknown one blocks; nothing is put in its place."""
    spec = spec_of(freeze(tmp_path))

    def found(state: Any) -> list[Problem]:
        return exemplar(tmp_path, life=lambda base: ModelLife(base, state, "2026-12-24")).preflight(spec)

    assert found("retired") == [BaseModelRetired(BASE, "2026-12-24")]
    assert found("deprecated") == [BaseModelRetiring(BASE, "2026-12-24")]
    assert found("unknown") == [BaseModelUnknown(BASE)]
    assert exemplar(tmp_path).preflight(msgspec.structs.replace(spec, base=" "))[0] == BaseModelUnknown(" ")


def test_preflight_minds_the_hyperparameters(tmp_path: Path) -> None:
    """Those it does not know are told of, those out of range block, and none is changed."""
    spec = spec_of(freeze(tmp_path), hyperparameters={"n_epochs": 3, "k": 99, "token_budget": True, "core_tokens": 0})
    assert exemplar(tmp_path).preflight(spec) == [
        HyperparameterIgnored("n_epochs"),
        HyperparameterOutOfRange("k", 99, "a whole number from 1 to 8"),
        HyperparameterOutOfRange("token_budget", True, "a whole number from 100 to 500000"),
    ]


def test_a_job_with_a_hyperparameter_out_of_range_fails(tmp_path: Path) -> None:
    """Submitted all the same, it fails and says why; the estimate stands on the default."""
    spec = spec_of(freeze(tmp_path), hyperparameters={"k": 99})
    job = finish(exemplar(tmp_path), spec)
    assert (job.state, job.reason) == ("failed", "k must be a whole number from 1 to 8")
    assert exemplar(tmp_path).estimate(spec) == exemplar(tmp_path).estimate(
        msgspec.structs.replace(spec, hyperparameters={})
    )


@pytest.mark.parametrize(
    "damage", ["manifest", "cut", "longer", "changed", "no JSON", "roles", "counts", "manifest JSON"]
)
def test_a_damaged_dataset_is_seen_before_and_fails_the_job(damage: str, tmp_path: Path) -> None:
    """A dataset that is not as its manifest says blocks in preflight; a job on it fails, says why, and leaves nothing."""
    dataset = freeze(tmp_path)
    folder = tmp_path / dataset.folder
    train = folder / "train.jsonl"
    lines = train.read_text().splitlines(keepends=True)
    match damage:
        case "manifest":
            (folder / "manifest.json").unlink()
        case "manifest JSON":
            (folder / "manifest.json").write_text('{"examples": 3}')
        case "cut":
            train.write_text("".join(lines[:-1]))
        case "longer":
            train.write_text("".join([*lines, lines[0]]))
        case "no JSON":
            freeze_as(folder, "train", ["{}\n", *lines[1:]])
        case "roles":
            freeze_as(folder, "train", [lines[0].replace('"assistant"', '"user"'), *lines[1:]])
        case "changed":
            train.write_text("".join([lines[0].replace("e", "a", 1), *lines[1:]]))
        case _:
            dataset = msgspec.structs.replace(dataset, train=61)
    spec = spec_of(dataset)
    for trainer in (exemplar(tmp_path), ExportTrainer(tmp_path, FakeClock(NOW), prices={BASE: PRICE})):
        spec = msgspec.structs.replace(spec, backend=trainer.name)
        (problem,) = trainer.preflight(spec)
        assert isinstance(problem, DatasetUnreadable)
        job = finish(trainer, spec)
        assert job.state == "failed"
        assert "cannot read the dataset" in job.reason
        assert not job.retryable
        left = list((tmp_path / layout.MODELS / f".{job.token}.tmp").iterdir())
        assert [path.name for path in left] == ["job.json"]


def test_too_few_too_many_and_an_unknown_price(tmp_path: Path) -> None:
    """Counts beyond the limits block; a price that nobody gave is unknown, in preflight and in the estimate."""
    empty = freeze(tmp_path, train=0, validation=0)
    trainer = ExemplarTrainer(tmp_path, FakeClock(NOW))
    assert trainer.preflight(spec_of(empty)) == [TooFewRecords("train", 0, 1), PriceUnknown(BASE, "serving")]
    assert trainer.estimate(spec_of(empty)).added_usd_per_task is None
    many = msgspec.structs.replace(empty, train=100_001)
    found = trainer.preflight(spec_of(many))
    assert TooManyRecords("train", 100_001, 100_000) in found
    assert any(isinstance(problem, DatasetUnreadable) for problem in found)


def test_the_estimate_counts_what_is_there(tmp_path: Path) -> None:
    """Tokens are those of the texts; training is free; what a task costs more follows from the price and the cache."""
    dataset = freeze(tmp_path)
    estimate = exemplar(tmp_path).estimate(spec_of(dataset))
    lines = (tmp_path / dataset.folder / "train.jsonl").read_bytes().splitlines()
    texts = [json.loads(line)["messages"] for line in lines]
    tokens = sum(-(-len(message["content"].encode()) // 3) for messages in texts for message in messages)
    assert (estimate.tokens, estimate.training_usd, estimate.epochs) == (tokens, 0.0, 0)
    retrieved = int(tokens / 60 * 4)
    assert estimate.added_input_tokens == 2_048 + retrieved
    assert estimate.added_usd_per_task == pytest.approx((2_048 * 0.01 + retrieved * 0.1) / 1e6)
    assert estimate.seconds is not None
    assert isinstance(estimate, Estimate)


def test_a_model_id_is_taken_once(tmp_path: Path) -> None:
    """Other work under an id that a model has is refused before, and fails rather than replace the model."""
    dataset = freeze(tmp_path)
    trainer = exemplar(tmp_path)
    assert finish(trainer, spec_of(dataset)).state == "succeeded"
    before = (tmp_path / layout.MODELS / "ft-20261122-001" / "manifest.json").read_bytes()
    other = msgspec.structs.replace(spec_of(dataset, attempt=2), model_id="ft-20261122-001")
    assert trainer.preflight(other) == [ModelIdTaken("ft-20261122-001")]
    job = finish(trainer, other)
    assert (job.state, job.model) == ("failed", None)
    assert (tmp_path / layout.MODELS / "ft-20261122-001" / "manifest.json").read_bytes() == before


def test_a_model_id_that_is_no_name_is_refused(tmp_path: Path) -> None:
    """What would become a path outside of the folder never does."""
    with pytest.raises(layout.UnsafeNameError):
        exemplar(tmp_path).submit(spec_of(freeze(tmp_path), model_id="../x"), "token")
    assert not (tmp_path / layout.MODELS).exists()


# --- exemplar: what comes of it --------------------------------------------------------------------------------------


def test_a_model_is_three_files_and_follows_from_its_data(tmp_path: Path) -> None:
    """The folder holds manifest, examples and index, and nothing else; elsewhere the same work makes the same bytes."""
    made = []
    for name in ("one", "two"):
        root = tmp_path / name
        job = finish(exemplar(root), spec_of(freeze(root)))
        assert job.model is not None
        made.append({path.name: path.read_bytes() for path in (root / job.model.artefact).iterdir()})
    assert sorted(made[0]) == ["examples.jsonl", "index.db", "manifest.json"]
    assert made[0] == made[1]
    manifest = json.loads(made[0]["manifest.json"])
    assert manifest["kind"] == "exemplar"
    assert (manifest["base"], manifest["scope"], manifest["dataset"]["train"]) == (BASE, "global", 60)
    for name, facts in manifest["files"].items():
        assert facts == {"bytes": len(made[0][name]), "sha256": sha256(made[0][name]).hexdigest()}


def test_the_metrics_compare_with_chance(tmp_path: Path) -> None:
    """On work with a pattern, retrieved examples are more like the held-out answers than random ones, and both are told."""
    job = finish(exemplar(tmp_path), spec_of(freeze(tmp_path, train=400, validation=80)))
    metrics = job.metrics
    assert int(metrics["held_out"]) + int(metrics["leaked"]) == 80  # the simulated fleet does repeat itself
    error = float(metrics["quality_retrieved_standard_error"]) + float(metrics["quality_random_standard_error"])
    assert float(metrics["quality_retrieved"]) > float(metrics["quality_random"]) + 3 * error
    assert float(metrics["quality"]) >= float(metrics["quality_retrieved"])
    assert job.model is not None
    manifest = json.loads((tmp_path / job.model.artefact / "manifest.json").read_bytes())
    assert manifest["metrics"] == metrics
    assert manifest["recipe"]["k"] == metrics["k"]
    assert {one["core"] for one in manifest["tried"]} == {True, False}


def test_what_leaks_is_not_counted(tmp_path: Path) -> None:
    """A held-out task whose question was trained on says nothing about quality: it is left out, and told of."""
    dataset = freeze(tmp_path)
    folder = tmp_path / dataset.folder
    trained = (folder / "train.jsonl").read_text().splitlines(keepends=True)
    held_out = (folder / "validation.jsonl").read_text().splitlines(keepends=True)
    freeze_as(folder, "validation", [*trained[:4], *held_out[4:]])
    metrics = finish(exemplar(tmp_path), spec_of(dataset)).metrics
    assert (metrics["leaked"], metrics["held_out"]) == (4, 26)


def test_the_operators_settings_stand(tmp_path: Path) -> None:
    """What the hyperparameters fix is not chosen by measurement."""
    knobs = {"k": 1, "core_tokens": 0, "token_budget": 500, "max_tokens": 77}
    job = finish(exemplar(tmp_path), spec_of(freeze(tmp_path), hyperparameters=knobs))
    assert job.model is not None
    with open_model(tmp_path / job.model.artefact) as model:
        request = model.request(system="S", input="Find the flake in the builds of billing-api on north-1")
    assert (model.recipe.k, model.recipe.token_budget, dict(model.recipe.core)) == (1, 500, {})
    assert len(request["messages"]) == 3
    assert request["max_tokens"] == 77


def test_blank_turns_are_left_out_and_a_job_of_nothing_else_fails(tmp_path: Path) -> None:
    """An example without a question or an answer would be refused by the API: it does not become part of a model."""
    dataset = freeze(tmp_path, train=2, validation=0)
    path = tmp_path / dataset.folder / "train.jsonl"
    good = path.read_text().splitlines(keepends=True)[0]
    blank = json.dumps(example_of("a-master", " \n", "something")) + "\n"
    freeze_as(path.parent, "train", [good, blank])
    assert finish(exemplar(tmp_path), spec_of(dataset)).metrics["examples"] == 1
    freeze_as(path.parent, "train", [blank, blank])
    job = finish(exemplar(tmp_path), spec_of(dataset, attempt=2))
    assert job.state == "failed"
    assert "no example" in job.reason


@pytest.mark.parametrize("content", ['{"job": ', '{"job": 5}', "[]"])
def test_a_damaged_model_keeps_no_other_from_being_trained(content: str, tmp_path: Path) -> None:
    """Neither an old model whose manifest was harmed, nor a folder that somebody else put there."""
    trainer, dataset = exemplar(tmp_path), freeze(tmp_path)
    old = finish(trainer, spec_of(dataset)).model
    assert old is not None
    (tmp_path / old.artefact / "manifest.json").write_text(content)
    spec = spec_of(dataset, attempt=2)
    other = msgspec.structs.replace(spec, model_id="ft-20261122-077")
    assert trainer.find(client_token(other)) is None
    assert not any(problem.blocks for problem in trainer.preflight(other))
    assert finish(trainer, other).state == "succeeded"


def test_a_damaged_model_is_not_deployed(tmp_path: Path) -> None:
    """A model whose bytes changed since the training fails to deploy, and says which file."""
    trainer = exemplar(tmp_path)
    model = finish(trainer, spec_of(freeze(tmp_path))).model
    assert model is not None
    path = tmp_path / model.artefact / "examples.jsonl"
    path.write_bytes(path.read_bytes().replace(b"e", b"a", 1))
    endpoint = trainer.deploy(model, "t")
    assert (endpoint.state, endpoint.reason) == ("failed", "examples.jsonl is not as the manifest says")
    path.unlink()
    assert "examples.jsonl is not there" in trainer.deploy(model, "t").reason


def test_a_full_poll_does_all_the_work(tmp_path: Path) -> None:
    """With time enough, one poll brings a job to its end; with none, each takes one step, and progress is told."""
    root = tmp_path / "quick"
    spec = spec_of(freeze(root))
    trainer = exemplar(root)
    assert trainer.poll(trainer.submit(spec, client_token(spec)).job_id).state == "succeeded"
    root = tmp_path / "slow"
    spec = spec_of(freeze(root))
    trainer = exemplar(root, work_s=0)
    job_id = trainer.submit(spec, client_token(spec)).job_id
    told = [trainer.poll(job_id) for _ in range(4)]
    assert [job.progress for job in told] == [0.2, 0.5, 0.95, 1.0]
    assert [job.state for job in told] == ["running", "running", "running", "succeeded"]


def test_a_cancelled_job_leaves_nothing_but_its_note(tmp_path: Path) -> None:
    """Cancelled in the middle, all that was made is removed."""
    spec = spec_of(freeze(tmp_path))
    trainer = exemplar(tmp_path, work_s=0)
    job = trainer.submit(spec, client_token(spec))
    trainer.poll(job.job_id)
    trainer.poll(job.job_id)
    trainer.cancel(job.job_id)
    staged = tmp_path / layout.MODELS / f".{job.token}.tmp"
    assert [path.name for path in staged.iterdir()] == ["job.json"]
    assert trainer.poll(job.job_id).state == "cancelled"


# --- export ----------------------------------------------------------------------------------------------------------


def test_export_writes_the_files_and_waits_for_a_person(tmp_path: Path) -> None:
    """All formats asked for are written with every example; then a person is waited for, and their model comes back."""
    clock = FakeClock(NOW)
    trainer = ExportTrainer(tmp_path, clock)
    dataset = freeze(tmp_path)
    spec = spec_of(dataset, backend="export", hyperparameters={"formats": "all", "n_epochs": 3})
    job = trainer.poll(trainer.submit(spec, client_token(spec)).job_id)
    assert (job.state, job.waiting_for_person, job.progress) == ("running", True, None)
    folder = tmp_path / layout.MODELS / spec.model_id
    assert f"fine-tune complete {spec.model_id} " in job.reason
    assert layout.MODELS in job.reason
    for name in chat_formats.FORMATS:
        for part, count in (("train", 60), ("validation", 30)):
            lines = (folder / f"{part}.{name}.jsonl").read_bytes().splitlines(keepends=True)
            source = (tmp_path / dataset.folder / f"{part}.jsonl").read_bytes().splitlines(keepends=True)
            assert lines == [chat_formats.convert(line, name) for line in source]
            assert len(lines) == count
    manifest = json.loads((folder / "manifest.json").read_bytes())
    assert manifest["hyperparameters"]["n_epochs"] == 3
    assert {path.name for path in folder.iterdir()} == {"manifest.json", *manifest["files"]}
    clock.advance(86_400)
    assert trainer.poll(job.job_id) == job
    done = trainer.complete(job.job_id, "ft:gpt-4", kind="openai")
    assert done.model == ModelRef(model_id=spec.model_id, kind="openai", base=BASE, artefact="ft:gpt-4")
    assert trainer.complete(job.job_id, "ft:gpt-4", kind="openai") == done == trainer.find(job.token)
    with pytest.raises(BoundaryError, match="another model"):
        trainer.complete(job.job_id, "ft:other")


def test_export_completes_only_what_waits(tmp_path: Path) -> None:
    """A job whose files are not written, or that was cancelled, takes no model."""
    trainer = ExportTrainer(tmp_path, FakeClock(NOW))
    spec = spec_of(freeze(tmp_path), backend="export")
    job = trainer.submit(spec, client_token(spec))
    with pytest.raises(BoundaryError, match="it is queued"):
        trainer.complete(job.job_id, "x")
    trainer.poll(job.job_id)
    trainer.cancel(job.job_id)
    assert trainer.poll(job.job_id).state == "cancelled"
    with pytest.raises(BoundaryError, match="it is cancelled"):
        trainer.complete(job.job_id, "x")
    assert (tmp_path / layout.MODELS / spec.model_id / "train.claude.jsonl").exists()


def test_export_refuses_formats_it_does_not_know(tmp_path: Path) -> None:
    """A format of another name blocks in preflight, and says which there are."""
    spec = spec_of(freeze(tmp_path), backend="export", hyperparameters={"formats": "claude, parquet"})
    found = ExportTrainer(tmp_path, FakeClock(NOW), prices={BASE: PRICE}).preflight(spec)
    assert found == [
        HyperparameterOutOfRange("formats", "parquet", "one of claude, bedrock-conversation, openai, prompt-completion")
    ]
    assert ExportTrainer(tmp_path, FakeClock(NOW)).preflight(spec_of(spec.dataset)) == [PriceUnknown(BASE, "training")]


def test_chat_formats() -> None:
    """One example in each format, to the byte; without a system prompt none is made up."""
    line = json.dumps(example_of("x-master", 'Say "ü"', "ü")).encode()
    assert (
        chat_formats.convert(line, "claude")
        == (
            '{"system":"You are the x-master.","messages":[{"role":"user","content":"Say \\"ü\\""},'
            '{"role":"assistant","content":"ü"}]}\n'
        ).encode()
    )
    assert json.loads(chat_formats.convert(line, "bedrock-conversation")) == {
        "schemaVersion": "bedrock-conversation-2024",
        "system": [{"text": "You are the x-master."}],
        "messages": [
            {"role": "user", "content": [{"text": 'Say "ü"'}]},
            {"role": "assistant", "content": [{"text": "ü"}]},
        ],
    }
    assert json.loads(chat_formats.convert(line, "openai"))["messages"][0] == {
        "role": "system",
        "content": "You are the x-master.",
    }
    assert json.loads(chat_formats.convert(line, "prompt-completion")) == {
        "prompt": 'You are the x-master.\n\nSay "ü"',
        "completion": "ü",
    }
    bare = b'{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}'
    assert "system" not in json.loads(chat_formats.convert(bare, "bedrock-conversation"))
    assert len(json.loads(chat_formats.convert(bare, "openai"))["messages"]) == 2
    with pytest.raises(msgspec.DecodeError):
        chat_formats.convert(b"{}", "claude")


# --- scripted --------------------------------------------------------------------------------------------------------


def test_the_scripted_trainer_loses_an_answer_and_keeps_the_job(tmp_path: Path) -> None:
    """The first submit raises although the job was taken; asked again, it is the same one job. So is a deployment."""
    rig = ScriptedRig(tmp_path)
    rig.script = Script(loses_answers=True)
    spec = rig.spec()
    with pytest.raises(BoundaryError) as caught:
        rig.trainer().submit(spec, client_token(spec))
    assert caught.value.retryable
    assert rig.trainer().submit(spec, client_token(spec)).state == "queued"
    assert rig.jobs() == 1
    model = ModelRef(model_id=spec.model_id, kind="base", base=BASE, artefact="x")
    with pytest.raises(BoundaryError):
        rig.trainer().deploy(model, "d")
    assert rig.trainer().deploy(model, "d").state == "creating"
    assert len(rig.scripted().endpoints()) == 1


def test_the_scripted_trainer_is_away_and_comes_back(tmp_path: Path) -> None:
    """While it is away every call fails, to be tried again; its jobs go on meanwhile."""
    rig = ScriptedRig(tmp_path)
    spec = rig.spec()
    job = rig.trainer().submit(spec, client_token(spec))
    began = to_us(rig.clock.now())
    rig.script = Script(away=((began, began + 2 * DAY_US),))
    trainer = rig.trainer()
    calls: list[Callable[[], object]] = [
        lambda: trainer.find(job.token),
        lambda: trainer.poll(job.job_id),
        lambda: trainer.submit(spec, job.token),
        lambda: trainer.cancel(job.job_id),
        lambda: trainer.preflight(spec),
        lambda: trainer.estimate(spec),
    ]
    for call in calls:
        with pytest.raises(BoundaryError) as caught:
            call()
        assert caught.value.retryable
    rig.clock.advance(2 * 86_400)
    assert trainer.poll(job.job_id).state == "succeeded"


def test_the_scripted_trainer_hangs_until_it_is_cancelled(tmp_path: Path) -> None:
    """A job that hangs runs for ever, and ends when it is cancelled."""
    rig = ScriptedRig(tmp_path)
    rig.script = Script(outcome="hangs")
    spec = rig.spec()
    job = rig.trainer().submit(spec, client_token(spec))
    rig.clock.advance(30 * 86_400)
    assert rig.trainer().poll(job.job_id).state == "running"
    rig.trainer().cancel(job.job_id)
    assert rig.trainer().poll(job.job_id).state == "cancelled"


def test_the_provider_that_judges_knows_about_bases() -> None:
    """With a judge at hand, its provider is asked where a base is in its life, from a thread without an event loop."""
    assert life_by(lambda: ScriptedJudge(state="retired"))("claude-old").state == "retired"


def test_a_backend_is_imported_by_who_asks_for_it(tmp_path: Path) -> None:
    """A daemon that trains here carries no backend of a provider; one that is asked for is there at once, and once."""
    program = (
        "import sys; from pathlib import Path; from cortex_autolearn import settings, wiring\n"
        "from cortex_autolearn.adapters.clock import SystemClock; from cortex_autolearn.adapters.tree import Tree\n"
        "made = wiring.trainers(settings.Settings(), Tree(Path(sys.argv[1])), SystemClock())\n"
        "away = {'cortex_autolearn.adapters.trainers.' + one for one in ('bedrock', 'openai_compat')}\n"
        "assert not away & sys.modules.keys()\n"
        "assert 'bedrock' in made and made.get('nobody') is None and not away & sys.modules.keys()\n"
        "assert [made[name].name for name in made] == list(made) == ['exemplar', 'export', 'bedrock', 'openai_compat']\n"
        "assert all(made[name] is made[name] for name in made) and away <= sys.modules.keys()\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


# --- models whose folder is not as it was ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ExemplarRig, ExportRig])
def test_what_is_gone_is_named(tmp_path: Path, kind: type[ExemplarRig]) -> None:
    """Of a model whose folder was removed it is said what is missing; deployed anew it fails, and leaves nothing."""
    rig = kind(tmp_path)
    model = conformance.to_the_end(rig, rig.trainer().submit(rig.spec(), client_token(rig.spec()))).model
    assert model is not None
    ready = rig.trainer().deploy(model, "one")
    other = rig.trainer().deploy(model, "two")
    rig.trainer().teardown(other)
    torn = rig.trainer().poll_endpoint(other)
    assert (torn.state, f"{layout.MODELS}/{model.model_id}/serving-" in torn.reason) == ("gone", True)
    folder = tmp_path / layout.MODELS / model.model_id
    folder.rename(tmp_path / "elsewhere")
    gone = rig.trainer().poll_endpoint(ready)
    assert gone.state == "gone"
    assert gone.reason == f"{layout.MODELS}/{model.model_id}/manifest.json is not there"
    failed = rig.trainer().deploy(model, "three")
    assert (failed.state, failed.reason.endswith("manifest.json is not there")) == ("failed", True)
    assert not folder.exists()
    rig.trainer().teardown(failed)
    (tmp_path / "elsewhere").rename(folder)
    assert rig.trainer().poll_endpoint(ready) == ready


@pytest.mark.parametrize("kind", [ExemplarRig, ExportRig])
def test_what_cannot_be_looked_at_is_not_gone(tmp_path: Path, kind: type[ExemplarRig]) -> None:
    """A folder that the system refuses just now ends no endpoint: the error is told, and it is asked again."""
    rig = kind(tmp_path)
    model = conformance.to_the_end(rig, rig.trainer().submit(rig.spec(), client_token(rig.spec()))).model
    assert model is not None
    ready = rig.trainer().deploy(model, "one")
    folder = tmp_path / layout.MODELS / model.model_id
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(folder)
    with pytest.raises(BoundaryError, match="circle"):
        rig.trainer().poll_endpoint(ready)
    with pytest.raises(BoundaryError, match="circle"):
        rig.trainer().deploy(model, "two")
    folder.unlink()
    (tmp_path / "elsewhere").rename(folder)
    assert rig.trainer().poll_endpoint(ready) == ready
