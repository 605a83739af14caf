"""The trainer that trains nothing: it writes the files for whoever trains elsewhere, and waits for what they made.

``models/<model_id>/`` gets ``train.<format>.jsonl`` and ``validation.<format>.jsonl`` for each format asked for, and
``manifest.json`` with the configuration. Then a person takes over, and ``complete`` takes the id of their model.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import msgspec

from cortex_autolearn.adapters import files
from cortex_autolearn.adapters.trainers import terms
from cortex_autolearn.adapters.trainers.dataset import PARTS, DatasetDamagedError, FrozenDataset
from cortex_autolearn.adapters.trainers.shelf import MANIFEST, Note, Shelf, manifest_head, pretty
from cortex_autolearn.model import chat_formats
from cortex_autolearn.model.training_jobs import (
    Endpoint,
    Estimate,
    Limits,
    ModelRef,
    Price,
    RemoteJob,
    Spec,
    client_token,
)
from cortex_autolearn.model.training_problems import (
    HyperparameterOutOfRange,
    ModelIdTaken,
    PriceUnknown,
    Problem,
    TooFewRecords,
)
from cortex_autolearn.model.version import VERSION
from cortex_autolearn.ports import BoundaryError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from cortex_autolearn.ports import Clock

ALL_FORMATS: Final = "all"
FORMATS_KNOB: Final = "formats"

_CHARS_PER_TOKEN: Final = 3


class ExportTrainer:
    """Implements :class:`cortex_autolearn.ports.Trainer` for people.

    The hyperparameter ``formats`` names the formats, separated by commas; without it they are those given here. All
    others are written into the manifest as they are, for whoever trains.

    Arguments:
        root: the ROOT.
        clock: tells when jobs begin and end.
        formats: of :data:`cortex_autolearn.model.chat_formats.FORMATS`.
        prices: what training a base costs elsewhere, for the estimate.
    """

    def __init__(
        self,
        root: Path,
        clock: Clock,
        *,
        formats: Sequence[str] = ("claude",),
        prices: Mapping[str, Price] | None = None,
    ) -> None:
        self._root = root
        self._formats = tuple(formats)
        self._prices = prices or {}
        self._shelf = Shelf(root, clock)

    @property
    def name(self) -> str:
        """What ``training.backend`` calls it."""
        return "export"

    @property
    def trains_here(self) -> bool:
        """Nothing is trained here."""
        return False

    def limits(self, base: str) -> Limits:  # noqa: ARG002 -- whoever trains knows the base's
        """Return that there are none."""
        return Limits()

    def preflight(self, spec: Spec) -> list[Problem]:
        """Return what stands in the way of a spec.

        Raises:
            BoundaryError: the dataset cannot be read just now.
        """
        problems: list[Problem] = [
            HyperparameterOutOfRange(FORMATS_KNOB, name, f"one of {', '.join(chat_formats.FORMATS)}")
            for name in self._asked(spec)
            if name not in chat_formats.FORMATS
        ]
        problems += terms.unreadable(spec, lambda: FrozenDataset(self._root, spec.dataset))
        if spec.dataset.train < 1:
            problems.append(TooFewRecords("train", spec.dataset.train, 1))
        if self._training_price(spec.base) is None:
            problems.append(PriceUnknown(spec.base, "training"))
        other = self._shelf.model(spec.model_id)
        if other is not None and client_token(other.spec) != client_token(spec):
            problems.append(ModelIdTaken(spec.model_id))
        return problems

    def estimate(self, spec: Spec) -> Estimate:
        """Return what it costs here, nothing, and in the notes what it will cost whoever trains, where that is known.

        Raises:
            BoundaryError: the dataset cannot be read.
        """
        size = sum(len(example.line) for example in FrozenDataset(self._root, spec.dataset).examples("train"))
        tokens = -(-size // _CHARS_PER_TOKEN)
        asked = spec.hyperparameters.get("n_epochs", 1)
        epochs = asked if isinstance(asked, int) else 1
        price = self._training_price(spec.base)
        cost = "an unknown sum" if price is None else f"about {tokens * epochs * price / 1e6:.2f} USD"
        return Estimate(
            tokens=tokens,
            epochs=epochs,
            training_usd=0.0,
            seconds=None,
            notes=(
                f"Writing the files costs nothing; training is done and paid for elsewhere: {cost}.",
                "Tokens are estimated as one for three bytes.",
            ),
        )

    def find(self, token: str) -> RemoteJob | None:
        """Return the job of a client token; None when there is none.

        Raises:
            BoundaryError: its folder cannot be read.
        """
        note = self._shelf.find(token)
        return None if note is None else note.job()

    def submit(self, spec: Spec, token: str) -> RemoteJob:
        """Take down a job, or return the one that was.

        Raises:
            BoundaryError: the models folder cannot be written.
        """
        note = self._shelf.find(token)
        return (self._shelf.begin(spec, token) if note is None else note).job()

    def poll(self, job_id: str) -> RemoteJob:
        """Write the files, the first time; then tell that a person is waited for, until :meth:`complete`.

        Raises:
            BoundaryError: there is no such job, or a file operation failed; asking again goes on with it.
        """
        unnamed = self._shelf.unnamed(job_id)
        if unnamed is not None:
            return self._shelf.name(unnamed, self._names(unnamed.spec)).job()
        note = self._shelf.require(job_id)
        if note.ended or note.waiting_for_person:
            return note.job()
        try:
            return self._write(note).job()
        except DatasetDamagedError as error:
            return self._shelf.end(note, "failed", str(error)).job()

    def complete(self, job_id: str, model: str, *, kind: str = "base") -> RemoteJob:
        """Take back what a person made of the files.

        Arguments:
            job_id: of the job that waits.
            model: what the provider calls the model: what a request names.
            kind: who serves it, as in routes.json.

        Returns:
            the job, succeeded; one that was completed before with the same model stays as it is.

        Raises:
            BoundaryError: there is no such job, it does not wait, or it was completed with another model.
        """
        note = self._shelf.require(job_id)
        made = ModelRef(model_id=note.spec.model_id, kind=kind, base=note.spec.base, artefact=model)
        if note.model == made:
            return note.job()
        if not note.waiting_for_person:
            state = "succeeded with another model" if note.state == "succeeded" else note.state
            hint = "Look at it with: cortex-autolearn fine-tune jobs"
            raise BoundaryError("complete the job", job_id, f"it is {state}", hint=hint, retryable=False)
        return self._rewrite(note, state="succeeded", model=made, reason="", progress=1.0).job()

    def cancel(self, job_id: str) -> None:
        """End a job; one that has ended stays as it is. Files that a person may be working with stay.

        Raises:
            BoundaryError: there is no such job, or its files cannot be written or removed.
        """
        note = self._shelf.require(job_id)
        if self._shelf.unnamed(job_id) is not None:
            note = self._shelf.require(self.poll(job_id).job_id)
        if note.waiting_for_person:
            self._rewrite(note, state="cancelled", reason="cancelled")
        elif not note.ended:
            self._shelf.end(note, "cancelled", "cancelled")
        elif self._shelf.staged(job_id).exists():
            self._shelf.sweep(job_id)

    def deploy(self, model: ModelRef, token: str) -> Endpoint:
        """Note that the model serves; whoever made it has started it. One whose folder was removed fails, and says so.

        Raises:
            BoundaryError: its folder cannot be looked into or written.
        """
        endpoint = Endpoint(
            endpoint_id=f"{model.model_id}/{token}", token=token, model=model, state="ready", target=model.artefact
        )
        missing = self._shelf.unmade(endpoint)
        if missing:  # to write the note would make the folder again, with nothing else in it
            return msgspec.structs.replace(endpoint, state="failed", reason=missing)
        self._shelf.serve(endpoint)
        return endpoint

    def poll_endpoint(self, endpoint: Endpoint) -> Endpoint:
        """Return the endpoint as it is noted here: ``ready``, or ``gone`` and what is missing.

        Raises:
            BoundaryError: its folder cannot be looked into.
        """
        missing = self._shelf.missing(endpoint)
        return msgspec.structs.replace(endpoint, state="gone" if missing else "ready", reason=missing)

    def teardown(self, endpoint: Endpoint) -> None:
        """Note that the model serves no more; whoever made it ends what it costs.

        Raises:
            BoundaryError: the folder cannot be written.
        """
        self._shelf.serve_no_more(endpoint)

    # --- helpers -----------------------------------------------------------------------------------------------------

    def _write(self, note: Note) -> Note:
        staged = self._shelf.staged(note.token)
        dataset = FrozenDataset(self._root, note.spec.dataset)
        facts = {}
        for name in self._asked(note.spec):
            for part in PARTS:
                digest = _Digested()
                files.replace(staged / _file(part, name), digest.through(_lines(dataset, part, name)))
                facts[_file(part, name)] = digest.facts()
        waits = msgspec.structs.replace(
            note,
            state="running",
            progress=None,
            waiting_for_person=True,
            reason=(
                f"waiting for a person: train with the files in {self._relative(note)}, "
                f"then run: cortex-autolearn fine-tune complete {note.spec.model_id} --model ID"
            ),
        )
        current = self._shelf.require(note.token)  # it may have been cancelled
        if current.ended:
            self._shelf.sweep(note.token)
            return current
        content = {"kind": "export", **manifest_head(note, version=VERSION), "files": facts}
        return self._shelf.finish(waits, content, self._names(note.spec))

    def _rewrite(self, note: Note, **changes: Any) -> Note:  # noqa: ANN401 -- fields of a note
        """Write into a finished folder's manifest how its job ended."""
        path = self._shelf.folder(note.spec.model_id) / MANIFEST
        with files.wrap("read", path):
            manifest = msgspec.json.decode(path.read_bytes())
        ended = msgspec.structs.replace(note, ended_us=self._shelf.now_us(), waiting_for_person=False, **changes)
        manifest["job"] = ended
        files.replace(path, pretty(manifest))
        return ended

    def _asked(self, spec: Spec) -> tuple[str, ...]:
        asked = str(spec.hyperparameters.get(FORMATS_KNOB, ""))
        if asked == ALL_FORMATS:
            return chat_formats.FORMATS
        return tuple(dict.fromkeys(name.strip() for name in asked.split(",") if name.strip())) or self._formats

    def _names(self, spec: Spec) -> list[str]:
        return [_file(part, name) for name in self._asked(spec) for part in PARTS]

    def _training_price(self, base: str) -> float | None:
        price = self._prices.get(base)
        return None if price is None else price.training

    def _relative(self, note: Note) -> str:
        return str(self._shelf.folder(note.spec.model_id).relative_to(self._root))


class _Digested:
    """Counts and digests what is written."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._bytes = 0
        self._lines = 0

    def through(self, lines: Iterator[bytes]) -> Iterator[bytes]:
        for line in lines:
            self._digest.update(line)
            self._bytes += len(line)
            self._lines += 1
            yield line

    def facts(self) -> dict[str, Any]:
        return {"bytes": self._bytes, "lines": self._lines, "sha256": self._digest.hexdigest()}


def _lines(dataset: FrozenDataset, part: str, name: str) -> Iterator[bytes]:
    for example in dataset.examples("train" if part == "train" else "validation"):
        yield chat_formats.convert(example.line, name)


def _file(part: str, name: str) -> str:
    return f"{part}.{name}.jsonl"
