"""Passwords in addresses, and addresses of people: URLs, headers, cookies, curl's -u and others' -p, e-mail.

Of a URL the scheme, the user and the host stay; of a header its scheme; of an e-mail address nothing. An address of
the form user@host that is no e-mail address stays: a remote for scp or git (`git@host:path/to`), the user of a URL
without a password, a host without a dot.
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import Final, NamedTuple

from cortex_autolearn.redact.spans import Span
from cortex_autolearn.redact.values import is_masked, is_random, is_stand_in

RULES: Final = ("url-password", "authorization", "cookie")  # and "email", which comes last of all

_SCHEME: Final = r":(?:\\{0,64}/){2}"
_LONGEST_LOCAL: Final = 64
_NEAR_CURL: Final = 300  # characters between curl and its -u
# Whose login takes a password behind -p; that of others a port, a protocol or a package: gh auth login -p https.
_REGISTRIES: Final = (
    r"(?:docker|podman|nerdctl|buildah|skopeo|oras|registry|az|acr|oc|cf|ibmcloud|faas-cli|crane[ \t]auth)"
)
_LINE: Final = r"(?:[^\n\\;&|]|\\(?![nr]))"  # one sign of a command's line, which may be written in JSON
_ESCAPED: Final = frozenset("nrtbf")
_LOOKS_LIKE_PORT: Final = re.compile(r"[0-9]{1,5}[?#]")


class _Shapes(NamedTuple):
    password: re.Pattern[str]
    user: re.Pattern[str]
    scheme: re.Pattern[str]
    curl: re.Pattern[str]
    given: re.Pattern[str]
    cookies: re.Pattern[str]
    cookie: re.Pattern[str]
    email: re.Pattern[str]
    local: re.Pattern[str]
    remote: re.Pattern[str]


@cache
def _compiled() -> _Shapes:
    return _Shapes(
        # The last @ counts: passwords may hold one. A slash never stands in either part.
        re.compile(_SCHEME + r"(?P<user>[^\s:/\[\]\"'<>`\\]{0,128}):(?P<secret>[^\s/\"'<>`\\]{1,256})@(?=[\w\[$%{*-])"),
        re.compile(_SCHEME + r"(?P<secret>[A-Za-z0-9_-]{20,200})@(?=[\w\[])"),
        re.compile(r"b(?:earer|asic)(?:[ \t]|%20|\+){1,4}(?P<secret>[a-z0-9._~+/-]{16,}+={0,3})"),
        re.compile(
            r"[ \t](?:-[A-Za-z]{0,4}u|--user|--proxy-user)[ \t=]{0,4}[\"']?[^\s:\"']{1,128}"
            r":(?P<secret>[^\s\"'\\]{1,256})"
        ),
        re.compile(
            r"(?:sshpass[ \t]{1,4}-p[ \t]{0,4}"
            rf"|\b{_REGISTRIES}[ \t]{{1,4}}login\b{_LINE}{{0,120}}?[ \t]-p[ \t=]{{1,4}}"
            # As find has -print and -prune, and docker run -p its ports.
            rf"|mysql(?:dump|admin)?[ \t](?:{_LINE}{{0,120}}?[ \t])?-p(?!r(?:intf?0?|une)\b|[0-9.]{{1,21}}:[0-9]))"
            r"(?:\\{0,64}[\"'])?(?P<secret>[^\s\"'\\]{4,256})"
        ),
        re.compile(
            # A pair follows at once: a sentence, or a line of a log, may also speak of a cookie.
            r"cookie(?:\\{0,64}[\"'])?[ \t]{0,4}[:= ][ \t]{0,4}(?:\\{0,64}[\"'])?"
            r"(?P<all>(?=[^\s=;,\"'\\]{1,64}=)[^\r\n\"'\\]{1,8192}+)"
        ),
        # Whoever holds a session is in: a value as long as one, and not where or how long it holds.
        re.compile(
            r"(?<![\w.-])(?!(?:path|domain|expires|max-age|samesite)=)[\w.-]{1,64}=(?P<secret>[\w%.~+/:-]{16,}+={0,2})"
        ),
        re.compile(r"@(?<=[\w.+%~-]@)(?P<domain>(?:\w(?:[\w-]{0,62})\.){1,8}[^\W\d_]{2,24})(?![A-Za-z0-9])"),
        re.compile(r"[\w.+%~-]{1,64}(?:'[ODod](?!\w))?"),
        re.compile(r":[\w.~-]{0,64}/"),
    )


def spans(text: str, low: str) -> Iterator[Span]:
    """Every one in the text; `low` is the text in small letters, place by place. They may overlap."""
    shapes = _compiled()
    if "@" in text:
        ends: set[int] = set()  # of what stands before a host, which is no e-mail address
        if "//" in text or "\\/" in text:
            for span in _in_urls(text, shapes):
                ends.add(span.end)
                if not is_masked(text[span.start : span.end]):
                    yield span
        yield from _emails(text, shapes, ends)
    yield from _in_headers(text, low, shapes)
    if "cookie" in low:
        yield from _in_cookies(text, low, shapes)


def _in_headers(text: str, low: str, shapes: _Shapes) -> Iterator[Span]:
    """What follows Bearer or Basic, curl's -u and others' -p; `assigned` knows the header by its name."""
    if "bearer" in low or "basic" in low:
        for found in shapes.scheme.finditer(low):
            start, end = found.span("secret")
            if any(map(str.isdigit, text[start:end])) or is_random(text[start:end]):
                yield Span(start, end, "authorization")
    if "curl" in low:
        for found in shapes.curl.finditer(text):
            near = max(0, found.start() - _NEAR_CURL)
            line = max(near, text.rfind("\n", near, found.start()))
            if low.find("curl", line, found.start()) >= 0 and not is_masked(found["secret"]):
                yield Span(*found.span("secret"), "authorization")
    if " -p" in text:
        for found in shapes.given.finditer(text):
            if not is_stand_in(found["secret"]) and not found["secret"].startswith(("-", "$")):
                yield Span(*found.span("secret"), "authorization")


def _in_cookies(text: str, low: str, shapes: _Shapes) -> Iterator[Span]:
    for found in shapes.cookies.finditer(low):
        begin, until = found.span("all")
        for one in shapes.cookie.finditer(low, begin, until):
            start, end = one.span("secret")
            before = low[max(begin, one.start() - 8) : one.start()].rstrip(" \t")
            if before and not before.endswith((";", ",")):
                continue  # what stands behind the cookies, or within a value
            if any(map(str.isdigit, text[start:end])) and not is_masked(text[start:end]):
                yield Span(start, end, "cookie")


def _in_urls(text: str, shapes: _Shapes) -> Iterator[Span]:
    """What stands between the colon and the host, and a user who looks like a token."""
    for found in shapes.password.finditer(text):
        if _LOOKS_LIKE_PORT.match(found["secret"]) is None:
            yield Span(*found.span("secret"), "url-password")
    for found in shapes.user.finditer(text):
        if is_random(found["secret"]):
            yield Span(*found.span("secret"), "url-password")


def _emails(text: str, shapes: _Shapes, taken: set[int]) -> Iterator[Span]:
    for found in shapes.email.finditer(text):
        at = found.start()
        # From the @ to the left: the text is turned round, so that the longest run is found without trying.
        local = shapes.local.match(text[max(0, at - _LONGEST_LOCAL) : at][::-1])
        if local is None or at in taken:
            continue
        start = at - local.end()
        if text[start - 1 : start] == "\\" and text[start] in _ESCAPED:
            start += 1  # the letter of \\n
        while start < at and text[start] in ".-%~+":
            start += 1
        if start == at or text.endswith(("//", "/\\/"), 0, start) or _is_file(found["domain"]):
            continue
        if shapes.remote.match(text, found.end()) is None:
            yield Span(start, found.end(), "email")


def _is_file(domain: str) -> bool:
    """Pictures for dense screens are named so: icon@2x.png."""
    return domain[0].isdigit() and domain[1:3] == "x."
