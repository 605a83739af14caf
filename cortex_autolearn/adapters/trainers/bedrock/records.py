"""Examples as Bedrock reads them: one line each, in the base's own format, and a count of what had to be changed.

Nova's training fails over texts that hold the words its own prompts are made of, wherever they stand. They are written
so that they are still read the same (``User :``, ``< image >``) and are not those words any more. An example without a
question or an answer cannot be learned from, and is left out.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from cortex_autolearn.model import chat_formats
from cortex_autolearn.model.training_problems import ExampleTooLong, Problem, TooFewRecords, TooManyRecords

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cortex_autolearn.adapters.trainers.bedrock.bases import Base
    from cortex_autolearn.adapters.trainers.dataset import Example, Part

# The provider lists them with a capital and in capitals; in between, nobody knows.
_RESERVED: Final = re.compile(
    r"(user|bot|assistant|system|thought)(:)|([<\[])(image|video|unk|eos)([>\]])", re.IGNORECASE
)
_SHOWN_PROBLEMS: Final = 3

_encode: Final = msgspec.json.Encoder().encode


class Tally:
    """What became of the examples of a part: ``records`` are written, the others count what was done to them."""

    def __init__(self) -> None:
        self.records = 0
        self.bytes = 0
        self.blank = 0
        self.escaped_examples = 0
        self.escaped_words = 0

    def note(self) -> str:
        """Return the sentence that tells of what was changed; empty where nothing was."""
        told = []
        if self.escaped_words:
            told.append(
                f"{self.escaped_words} words that the base reserves (such as User:) are written with a space "
                f"in {self.escaped_examples} examples"
            )
        if self.blank:
            told.append(f"{self.blank} examples without a question or an answer are left out")
        return "; ".join(told)


def lines(examples: Iterable[Example], base: Base, tally: Tally) -> Iterator[bytes]:
    """Yield the line of each example, line feed included, and count them."""
    for example in examples:
        if not (example.input.strip() and example.output.strip()):
            tally.blank += 1
            continue
        texts = [example.system if example.system.strip() else "", example.input, example.output]
        if base.has_reserved_words:
            escaped = [escape(text) for text in texts]
            words = sum(count for _, count in escaped)
            tally.escaped_words += words
            tally.escaped_examples += words > 0
            texts = [text for text, _ in escaped]
        system, asked, answered = texts
        messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
        line = chat_formats.convert(_encode({"system": system, "messages": messages}), base.form)
        tally.records += 1
        tally.bytes += len(line)
        yield line


def escape(text: str) -> tuple[str, int]:
    """Return a text without the words that Nova reserves, and how many there were."""
    return _RESERVED.subn(_apart, text)


def too_many_or_few(part: Part, tally: Tally, base: Base) -> Iterator[Problem]:
    """Yield what is wrong with how many records a part has."""
    limits = base.limits
    least, most = (
        (limits.min_train, limits.max_train) if part == "train" else (limits.min_validation, limits.max_validation)
    )
    if tally.records < least:
        yield TooFewRecords(part, tally.records, least)
    if most is not None and tally.records > most:
        yield TooManyRecords(part, tally.records, most)


def too_long(part: Part, examples: Iterable[Example], base: Base) -> Iterator[Problem]:
    """Yield the first examples of a part that are longer than the base takes; reads all of them."""
    allowed = base.limits.max_example_chars
    shown = 0
    for number, example in enumerate(examples, 1):
        size = len(example.system) + len(example.input) + len(example.output)
        if allowed is not None and size > allowed and shown < _SHOWN_PROBLEMS:
            shown += 1
            yield ExampleTooLong(part, number, size, allowed)


def _apart(match: re.Match[str]) -> str:
    word, colon, opening, mark, closing = match.groups()
    return f"{word} {colon}" if word else f"{opening} {mark} {closing}"
