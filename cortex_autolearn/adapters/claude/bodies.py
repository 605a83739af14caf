"""The body of a batch, made while it is sent, and lines of results, read while they arrive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cortex_autolearn.adapters.claude import wire
from cortex_autolearn.model.judgement import KEY, MAX_BATCH_BYTES, MAX_BATCH_REQUESTS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence

    from cortex_autolearn.model.judgement import Ask

_PIECE_BYTES: Final = 1 << 16
_LINE_BYTES: Final = 1 << 23


def measure(asks: Sequence[Ask], model: str, effort: wire.Effort | None) -> int:
    """Return the bytes of a batch's request.

    Raises:
        ValueError: it would be refused: a limit, a key, a text.
    """
    if not 0 < len(asks) <= MAX_BATCH_REQUESTS:
        raise ValueError(f"a batch holds 1 to {MAX_BATCH_REQUESTS} asks, not {len(asks)}")
    size = len(wire.HEAD) + len(asks) - 1 + len(wire.TAIL)
    keys = set()
    for ask in asks:
        if KEY.match(ask.key) is None:
            raise ValueError(f"no key of an ask: {ask.key[:80]!r}")
        keys.add(ask.key)
        size += len(wire.item(ask, model, effort))
    if len(keys) != len(asks):
        raise ValueError(f"{len(asks)} asks have {len(keys)} different keys")
    if size > MAX_BATCH_BYTES:
        raise ValueError(f"a batch holds at most {MAX_BATCH_BYTES} bytes, not {size}")
    return size


async def content(asks: Iterable[Ask], model: str, effort: wire.Effort | None) -> AsyncIterator[bytes]:
    """Yield the request in pieces of about 64 KiB; :func:`measure` has found it right."""
    piece = bytearray(wire.HEAD)
    for each in _separated(asks, model, effort):
        piece += each
        if len(piece) >= _PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    piece += wire.TAIL
    yield bytes(piece)


def _separated(asks: Iterable[Ask], model: str, effort: wire.Effort | None) -> Iterator[bytes]:
    separator = b""
    for ask in asks:
        yield separator + wire.item(ask, model, effort)
        separator = b","


async def lines(pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Yield the lines that hold anything.

    Raises:
        ValueError: one is too long to be a result.
    """
    rest = b""
    async for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            if line.strip():
                yield line
        if len(rest) > _LINE_BYTES:
            raise ValueError(f"it is longer than {_LINE_BYTES} bytes")
    if rest.strip():
        yield rest
