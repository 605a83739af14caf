"""The files that a job learns from, at the provider: each there once, and gone when nothing needs it any more.

A file's name says whose it is and what is in it: ``cortex-<job>-<part>-<digest>.jsonl``. So one that was uploaded
before a kill is found again, one of which nobody knows whether it arrived is looked for, and all that a job left is
found by the beginning of its name.
"""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from hashlib import sha256
from typing import IO, TYPE_CHECKING, Final, cast

from cortex_autolearn.adapters import files
from cortex_autolearn.adapters.trainers.dataset import PARTS, FrozenDataset, Part
from cortex_autolearn.adapters.trainers.openai_compat import faults
from cortex_autolearn.adapters.trainers.openai_compat.line import Fault, Line
from cortex_autolearn.model import chat_formats, layout
from cortex_autolearn.model.training_jobs import job_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cortex_autolearn.adapters.trainers.openai_compat.wire import Upload
    from cortex_autolearn.model.training_jobs import Spec

_DIGITS: Final = 16


class Uploads:
    """The uploaded files of the jobs of one ROOT.

    Arguments:
        root: the ROOT.
        line: to the provider.
    """

    def __init__(self, root: Path, line: Line) -> None:
        self._root = root
        self._line = line

    def of(self, token: str) -> list[Upload]:
        """Return the files of a job, the oldest first.

        Raises:
            Fault: the provider does not tell.
        """
        begin = f"{job_name(token)}-"
        found = [upload for upload in self._line.uploads() if upload.filename.startswith(begin)]
        return sorted(found, key=lambda upload: (upload.created_at, upload.id))

    def provide(self, spec: Spec, token: str) -> dict[Part, str]:
        """Return the ids of a job's files by part, uploading what is not there; an empty part has none.

        Raises:
            Fault: a file was refused, or nobody knows yet whether it arrived.
            BoundaryError: the dataset cannot be read.
        """
        dataset = FrozenDataset(self._root, spec.dataset)
        there = self.of(token)
        provided: dict[Part, str] = {}
        for part in PARTS:
            with self._written(dataset, part) as (content, digest, size):
                if size:
                    name = f"{job_name(token)}-{part}-{digest[:_DIGITS]}.jsonl"
                    kept = _whole(there, name, size) or self._sent(token, name, content, size)
                    provided[part] = kept.id
        return provided

    def tidy(self, token: str) -> str:
        """Delete the files of a job that is over or never came to be; return what to tell of those that always stay.

        Raises:
            Fault: one was not deleted; asking again goes on with it.
        """
        left, cause = [], ""
        for upload in self.of(token):
            try:
                self._line.delete_upload(upload.id)
            except Fault as fault:
                if not faults.is_never_done(fault):
                    raise
                left.append(upload.id)
                cause = faults.told(fault)
        return f"its files stay at the provider: {', '.join(left)} ({cause})" if left else ""

    def _sent(self, token: str, name: str, content: IO[bytes], size: int) -> Upload:
        try:
            return self._line.upload(name, content)
        except Fault as fault:
            if faults.is_unsure(fault):
                found = _whole(self.of(token), name, size)
                if found is not None:
                    return found
            raise

    @contextmanager
    def _written(self, dataset: FrozenDataset, part: Part) -> Iterator[tuple[IO[bytes], str, int]]:
        """Write a part as the provider takes it; yield the file, its digest and its size in bytes."""
        folder = self._root / layout.MODELS
        with files.wrap("create a temporary file in", folder):
            files.make_folder(folder)
            # Without a name, so that nothing is left of it, however the process ends.
            file = cast("IO[bytes]", tempfile.TemporaryFile(dir=folder))  # noqa: SIM115 -- closed below
        with file:
            digest = sha256()
            for example in dataset.examples(part):
                line = chat_formats.convert(example.line, "openai")
                digest.update(line)
                with files.wrap("write a temporary file in", folder):
                    file.write(line)
            with files.wrap("write a temporary file in", folder):
                size = file.tell()
                file.seek(0)
            yield file, digest.hexdigest(), size


def _whole(uploads: list[Upload], name: str, size: int) -> Upload | None:
    """Return the oldest upload of a name that is whole and was not found to be bad."""
    for upload in uploads:
        if upload.filename == name and upload.bytes in {None, size} and upload.status != "error":
            return upload
    return None
