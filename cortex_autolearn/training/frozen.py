"""The folder of a dataset: written once, the manifest last, and read with every line held to its digest.

``datasets/<id>/train.jsonl`` and ``validation.jsonl`` hold what a provider may see, a line each (FORMATS: "Training
example"); ``manifest.json`` holds all the rest, and a folder without it was never finished. Line ``i`` of a split is
that of ``examples[split][i]``.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import msgspec

from cortex_autolearn.model import layout
from cortex_autolearn.model.training import DATASET_SPLITS, DatasetSplit, Example, Member
from cortex_autolearn.ports import BoundaryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from cortex_autolearn.ports import Files
    from cortex_autolearn.training.dataset import Dropped

MANIFEST: Final = "manifest.json"
_HINT: Final = "Build it again; with the same outcomes and settings the same dataset comes back"

_encode: Final = msgspec.json.Encoder().encode


class FileFacts(msgspec.Struct, frozen=True):
    """Length and SHA-256 of a file."""

    bytes: int
    sha256: str


class Manifest(msgspec.Struct, kw_only=True):
    """What is known of a dataset besides its lines; instants as RFC 3339.

    Arguments:
        dataset_id: the beginning of ``sha256``.
        sha256: the digest of all that the dataset is.
        scope: ``global`` or a master.
        parent: the dataset of this scope before it.
        created_at: when it was first built.
        package_version: of what built it.
        configuration: the settings it was built with, made narrower by its backend.
        redaction_version: of the rules that masked its texts.
        counts: examples of each split.
        by_master: split → master → examples; "null" for none.
        by_task_type: likewise.
        tokens: split → tokens, estimated.
        files: split → its file.
        considered: outcomes that were looked at.
        dropped: reason → outcomes that are not in it.
        redactions: rule → how much it masked in the texts that are.
        leakage: what would have given validation away and was taken out, by reason, and what remains: nothing.
        examples: split → what stands in its lines.
        dropped_examples: each outcome that is not in it, and why.
    """

    dataset_id: str
    sha256: str
    scope: str
    parent: str | None
    created_at: str
    package_version: str
    configuration: dict[str, Any]
    redaction_version: str
    counts: dict[DatasetSplit, int]
    by_master: dict[DatasetSplit, dict[str, int]]
    by_task_type: dict[DatasetSplit, dict[str, int]]
    tokens: dict[DatasetSplit, int]
    files: dict[DatasetSplit, FileFacts]
    considered: int
    dropped: dict[str, int]
    redactions: dict[str, int]
    leakage: dict[str, int]
    examples: dict[DatasetSplit, list[Member]] = {}
    dropped_examples: list[dict[str, str | None]] = []

    @property
    def is_complete(self) -> bool:
        """Whether it tells of both splits, and of as many lines as it counts."""
        told = (self.files, self.tokens, self.by_master, self.by_task_type)
        return all(
            len(self.examples.get(split, ())) == self.counts.get(split) and all(split in part for part in told)
            for split in DATASET_SPLITS
        )


class _Message(msgspec.Struct, gc=False):
    role: str
    content: str


class _Line(msgspec.Struct, gc=False):
    system: str
    messages: tuple[_Message, _Message]


_decode_manifest: Final = msgspec.json.Decoder(Manifest).decode
_decode_line: Final = msgspec.json.Decoder(_Line).decode


class Dataset:
    """A frozen dataset."""

    def __init__(self, files: Files, manifest: Manifest) -> None:
        self._files = files
        self.manifest = manifest
        self.dataset_id = manifest.dataset_id
        self.folder = layout.dataset_folder(manifest.dataset_id)

    def lines(self, split: DatasetSplit) -> Iterator[bytes]:
        """Yield the lines of a split, each with its line feed.

        Raises:
            BoundaryError: they are not those that were frozen.
        """
        members = self.manifest.examples[split]
        path = split_file(self.dataset_id, split)
        opened = self._files.open_input(path)
        if opened is None:
            raise _damaged(path, "it is gone")
        number = 0
        with opened:
            for number, line in enumerate(opened, 1):
                if number > len(members) or sha256(line).hexdigest() != members[number - 1].digest:
                    raise _damaged(path, f"line {number} is not the one that was frozen")
                yield line
        if number < len(members):
            raise _damaged(path, f"it has {number} of {len(members)} lines")

    def iter_examples(self, split: DatasetSplit) -> Iterator[Example]:
        """Yield the examples of a split. Raises BoundaryError as :meth:`lines` does."""
        for member, line in zip(self.manifest.examples[split], self.lines(split), strict=True):
            found = _decode_line(line)
            asked, answered = found.messages
            yield Example(
                member.task_id, member.master, member.task_type, found.system, asked.content, answered.content
            )

    def is_whole(self) -> bool:
        """Tell whether both files are as they were frozen, byte for byte."""
        return all(
            _facts_of(self._files, split_file(self.dataset_id, split)) == self.manifest.files[split]
            for split in DATASET_SPLITS
        )


def split_file(dataset_id: str, split: DatasetSplit) -> str:
    """Return the path below ROOT of a split's file."""
    return layout.dataset_file(dataset_id, f"{split}.jsonl")


def example_line(example: Example) -> bytes:
    """Return the line of an example, with its line feed."""
    return b'{"system":%b,"messages":[{"role":"user","content":%b},{"role":"assistant","content":%b}]}\n' % (
        _encode(example.system),
        _encode(example.input),
        _encode(example.output),
    )


def open_dataset(files: Files, dataset_id: str) -> Dataset:
    """Return a frozen dataset.

    Raises:
        BoundaryError: it is not there, was never finished, or its manifest is damaged.
    """
    path = layout.dataset_file(dataset_id, MANIFEST)
    opened = files.open_input(path)
    if opened is None:
        raise _damaged(path, "it is not there")
    with opened:
        try:
            manifest = _decode_manifest(opened.read())
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _damaged(path, f"it is no manifest ({error})") from error
    if manifest.dataset_id != dataset_id:
        raise _damaged(path, "it is the manifest of another dataset")
    if not manifest.is_complete:
        raise _damaged(path, "it does not list the lines that it counts")
    return Dataset(files, manifest)


def write(
    files: Files,
    manifest: Manifest,
    lines: Mapping[DatasetSplit, Iterable[bytes]],
    members: Mapping[DatasetSplit, Iterable[Member]],
    dropped: Iterable[Dropped],
) -> None:
    """Write a dataset: both splits first, then the manifest, which makes it one.

    Arguments:
        files: the tree below ROOT.
        manifest: without ``examples`` and ``dropped_examples``.
        lines: of each split.
        members: of each split, in the order of its lines.
        dropped: what is not in it.
    """
    for split in DATASET_SPLITS:
        files.replace(split_file(manifest.dataset_id, split), lines[split])
    files.replace(layout.dataset_file(manifest.dataset_id, MANIFEST), _chunks(manifest, members, dropped))


def _chunks(
    manifest: Manifest, members: Mapping[DatasetSplit, Iterable[Member]], dropped: Iterable[Dropped]
) -> Iterator[bytes]:
    """Yield the manifest: its head, then an entry a line, as there may be very many."""
    head: dict[str, Any] = msgspec.to_builtins(manifest)
    del head["examples"], head["dropped_examples"]
    yield msgspec.json.format(_encode(head), indent=1)[:-2] + b',\n "examples": {'
    for number, split in enumerate(DATASET_SPLITS):
        yield b'%b\n  "%b": [' % (b"," if number else b"", split.encode())
        yield from _listed(map(_encode, members[split]))
        yield b"]"
    yield b'\n },\n "dropped_examples": ['
    yield from _listed(
        _encode(
            {
                "task_id": one.task_id,
                "split": "validation" if one.is_validation else "train",
                "reason": one.reason,
                "instead": one.instead,
            }
        )
        for one in dropped
    )
    yield b"]\n}\n"


def _listed(entries: Iterable[bytes]) -> Iterator[bytes]:
    before = b"\n   "
    for entry in entries:
        yield before + entry
        before = b",\n   "


def _facts_of(files: Files, path: str) -> FileFacts | None:
    opened = files.open_input(path)
    if opened is None:
        return None
    digest, length = sha256(), 0
    with opened:
        while chunk := opened.read(1 << 20):
            digest.update(chunk)
            length += len(chunk)
    return FileFacts(length, digest.hexdigest())


def _damaged(path: str, cause: str) -> BoundaryError:
    return BoundaryError("read the dataset", path, cause, hint=_HINT, retryable=False)
