"""Reads a frozen dataset as a trainer needs it: an example with its master and type, and its line as it stands.

What a dataset is and how it is built is the business of ``training``; its files are the contract between the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import msgspec

from cortex_autolearn.adapters import files
from cortex_autolearn.model.training_jobs import DatasetRef
from cortex_autolearn.ports import BoundaryError

if TYPE_CHECKING:
    from pathlib import Path

Part = Literal["train", "validation"]
PARTS: Final[tuple[Part, ...]] = ("train", "validation")


class DatasetDamagedError(BoundaryError):
    """A dataset is not as its manifest says, or gone."""

    def __init__(self, subject: str, cause: str) -> None:
        super().__init__("read the dataset", subject, cause, hint="Build the dataset again", retryable=False)


class Example(NamedTuple):
    """One example; ``line`` is its line in the file, line feed included."""

    task_id: str
    master: str | None
    task_type: str | None
    system: str
    input: str
    output: str
    line: bytes


class _Entry(msgspec.Struct, gc=False):
    task_id: str
    master: str | None = None
    task_type: str | None = None
    digest: str = ""


class _Manifest(msgspec.Struct):
    examples: dict[str, list[_Entry]]


class _Message(msgspec.Struct, gc=False):
    role: str
    content: str


class _Line(msgspec.Struct, gc=False):
    messages: tuple[_Message, _Message]
    system: str = ""


_decode_manifest: Final = msgspec.json.Decoder(_Manifest).decode
_decode_line: Final = msgspec.json.Decoder(_Line).decode


class FrozenDataset:
    """A dataset's examples.

    Arguments:
        root: the ROOT.
        dataset: which one, and how many examples it should have.

    Raises:
        DatasetDamagedError: its manifest is gone, no manifest, or counts other examples than ``dataset``.
    """

    def __init__(self, root: Path, dataset: DatasetRef) -> None:
        self._folder = root / dataset.folder
        manifest = self._folder / "manifest.json"
        try:
            self._entries = _decode_manifest(manifest.read_bytes()).examples
        except FileNotFoundError:
            raise DatasetDamagedError(dataset.folder, "its manifest.json is not there") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DatasetDamagedError(dataset.folder, f"its manifest.json cannot be read: {error}") from error
        except OSError as error:
            raise DatasetDamagedError(dataset.folder, error.strerror or str(error)) from error
        for part, expected in zip(PARTS, (dataset.train, dataset.validation), strict=True):
            found = len(self._entries.get(part, ()))
            if found != expected:
                raise DatasetDamagedError(dataset.folder, f"its manifest lists {found} of {expected} {part} examples")

    def examples(self, part: Part) -> Iterator[Example]:
        """Yield the examples of a part in their order.

        Raises:
            DatasetDamagedError: the file is gone, has other lines than the manifest lists, or a line is no example.
            BoundaryError: the file cannot be read.
        """
        path = self._folder / f"{part}.jsonl"
        entries = self._entries.get(part, [])
        number = 0
        with files.wrap("read the dataset", path):
            try:
                file = path.open("rb")
            except FileNotFoundError:
                if not entries:
                    return
                raise DatasetDamagedError(str(path), "it is not there") from None
            with file:
                for number, line in enumerate(file, 1):
                    if number > len(entries):
                        raise DatasetDamagedError(str(path), f"it has more lines than the {len(entries)} listed")
                    yield _example(entries[number - 1], line, path, number)
        if number < len(entries):
            raise DatasetDamagedError(str(path), f"it has {number} of {len(entries)} lines")


def _example(entry: _Entry, line: bytes, path: Path, number: int) -> Example:
    if entry.digest and sha256(line).hexdigest() != entry.digest:
        raise DatasetDamagedError(str(path), f"line {number} is not the one that was frozen")
    try:
        found = _decode_line(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DatasetDamagedError(str(path), f"line {number} is no example: {error}") from error
    user, assistant = found.messages
    if (user.role, assistant.role) != ("user", "assistant"):
        raise DatasetDamagedError(str(path), f"line {number} is no question with its answer")
    return Example(entry.task_id, entry.master, entry.task_type, found.system, user.content, assistant.content, line)
