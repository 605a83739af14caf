"""Secrets that tell by their name: password=…, "api_key": "…", --token …, <secret>…</secret>, "the password is …".

Only the value is masked, so that the text can still be understood. A name is one of the words below, with anything
before it that makes a name (db_password, SLACK_BOT_TOKEN, clientSecret). Name and value may also be two fields side by
side ({"name": "DB_PASSWORD", "value": "…"}) or two arguments (["--token", "…"], getenv("API_KEY", "…")). What a value
must be like is told by `values`, where a string ends by `quotes`.
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import Final, NamedTuple

from cortex_autolearn.redact.quotes import QUOTE, quoted_end
from cortex_autolearn.redact.spans import PLACEHOLDER, Span
from cortex_autolearn.redact.values import is_secret, is_stand_in

RULES: Final = ("assignment",)  # and "authorization", of `addresses`

_SHORTEST: Final = 6  # letters of a word that is a secret only by its place
_SHORTEST_PASSWORD: Final = 4
_NEAR_STATEMENT: Final = 160  # characters between the beginning of a statement and its password
# What a key is called that is secret: a primary, public or cache key is not.
_KEYS: Final = tuple(
    """
    api access secret private account auth signing encryption decryption master subscription shared sharedaccess app
    application service consumer client license storage ssh session admin deploy hmac aes rsa gpg jwt webhook openai
    anthropic claude aws azure gcp google github gitlab stripe sendgrid twilio slack datadog maps bearer bot
    """.split()
)
_RULE_SIGNS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")  # what the names of rules are made of
_UNMISTAKABLE: Final = ("secret", "token", "password", "passwd", "passphrase", "authorization", "credential")

_BLANK: Final = r"[ \t\u00a0\u3000]"
# An equals sign with something behind it: the end of base64 is none.
_CLOSED: Final = r"[\s,;:&)}\]<]|\\{1,64}[nrt]|\Z"
_ASSIGNS: Final = rf"(?:(?<=[ \t])(?==)|(?==(?!=?(?:{_CLOSED}|\\{{0,64}}[\"'`](?:{_CLOSED}|\\)))))"


class _Shapes(NamedTuple):
    word: re.Pattern[str]
    name: re.Pattern[str]
    assign: re.Pattern[str]
    bare: re.Pattern[str]
    whole: re.Pattern[str]
    item: re.Pattern[str]
    element: re.Pattern[str]
    scheme: re.Pattern[str]
    # What stands before a name: looked for in the few characters before it.
    tag: re.Pattern[str]
    option: re.Pattern[str]
    query: re.Pattern[str]
    first: re.Pattern[str]
    algorithm: re.Pattern[str]
    # A name that stands as the value of one field, and the secret as that of the next.
    named: re.Pattern[str]
    value: re.Pattern[str]
    fetched: re.Pattern[str]
    environment: re.Pattern[str]
    # Statements of SQL: WITH PASSWORD '…', IDENTIFIED BY '…'.
    statement: re.Pattern[str]
    identified: re.Pattern[str]
    # What .netrc says: login bob password …
    login: re.Pattern[str]


@cache
def _compiled() -> _Shapes:
    return _Shapes(
        word=re.compile(r"pass|pwd|secret|token|key|cred|auth"),
        name=re.compile(
            r"(?:(?P<password>pass(?:word|wd|phrase|code|wort|_?key)?|pwd)|(?P<header>authorization)"
            r"|secret|token|key|credential|cred|auth)(?P<plural>s)?"
            r"(?:[_-]?(?:value|string|text|data|confirm(?:ation)?|again|new|old|b(?:ase)?64|base|hex|prod|dev|staging|live"
            r"|test|primary|secondary|[0-9]{1,4}))?"
        ),
        assign=re.compile(
            r"(?P<key>\\{0,64}[\"'`]|&quot;|&\#3[49];|\\{1,64}u002[27])?\]?"
            r"(?:(?:\*{1,3}|__)(?=[ \t]{0,2}:))?"  # the end of bold type, or behind the colon: **Password:** …
            r"(?:"
            # An annotation: token: str = …
            rf"(?:[ \t]{{0,2}}:[ \t]{{0,2}}(?:&(?:'static )?)?[A-Za-z][\w.\[\]<>| ]{{0,40}}{_ASSIGNS})?"
            rf"{_BLANK}{{0,32}}(?P<sign>=>|={{1,3}}|!==?|:=|->|:|%3[dDaA]|[\uff1a\uff1d])"
            r"|[ \t]{1,4}(?P<verb>is|was|are)(?:[ \t]{1,4}set[ \t]{1,4}to)?(?=[ \t:])[: \t]"
            r"|(?P<flag>)(?=[ \t]{1,4}[^\s=:-])"
            r"|(?P<call>\((?=[\"']))"
            r"|(?P<open>>)"
            r"|(?P<second>,(?=[ \t\r\n]{0,40}\\{0,64}[\"']))"
            rf")(?:\*\*(?=[ \t\"'`]))?(?:(?<=,)[ \t\r\n]{{0,40}}|{_BLANK}{{0,32}})"
            # In YAML a type, an anchor, or the sign of a block may stand before the value.
            r"(?:(?<=: )(?:!!(?:str|binary)[ \t]|&[\w-]{1,40}[ \t]|[|>][+-]?[ \t]{0,8}(?:\r?\n|\\{1,64}n)[ \t]{1,40}))?"
            r"(?P<list>\[\s{0,40})?"
            rf"(?:(?:[bBfFrRuU@$]{{1,2}}(?=[\"']))?(?P<quote>{QUOTE}))?"
        ),
        bare=re.compile(
            r"(?:[^\s\"'`,;&|<>(){}\[\]\\]|\\(?![\\nrtu\"'`])|&(?![\w.-]{1,40}=|&|amp;|quot;|lt;|gt;|\#|\s)){1,256}+"
        ),
        whole=re.compile(r"(?:[^\s\"'`\\]|\\(?![\\nrtu\"'`])){1,256}+"),
        item=re.compile(rf"\s{{0,40}},\s{{0,40}}(?P<quote>{QUOTE})"),
        element=re.compile(r"(?P<value>[^<>\n]{1,1024})</"),
        scheme=re.compile(
            r"(?:bearer|basic|token|apikey|api-key|key|negotiate|ntlm|ssws)(?:[ \t]|%20){1,4}", re.IGNORECASE
        ),
        tag=re.compile(r"<[\w:.-]{0,39}\Z"),
        option=re.compile(r"(?<![\w-])--?[\w-]{0,36}\Z"),
        query=re.compile(r"[?&][\w.-]{0,58}\Z"),
        first=re.compile(r"(?:\A|\n|\\n)[\s\w\"'*>-]{0,58}\Z"),
        algorithm=re.compile(r"(?:sha|md|base|utf|aes|rsa|bcrypt|argon|pbkdf|scrypt|x|v)-?[0-9]", re.IGNORECASE),
        named=re.compile(
            r"(?:[nN]ame|[kK]ey|id)(?:\\{0,64}[\"'])?[ \t]{0,4}[:=][ \t]{0,4}(?:\\{0,64}[\"'])?[\w.-]{0,40}\Z"
        ),
        value=re.compile(
            r"(?:\\{0,64}+[\"'])?+[ \t]{0,8},?(?:[ \t\r\n]|\\{1,64}+[nrt]){0,40}+(?:\\{0,64}+[\"'])?+[vV]alue"
            r"(?=(?:\\{0,64}+[\"'])?+[ \t]{0,4}[:=])"
        ),
        fetched=re.compile(
            r"(?:getenv|environ\.get|fetch|setenv|putenv|define)\(\s{0,4}\\{0,64}[\"'][\w.-]{0,36}\Z", re.IGNORECASE
        ),
        environment=re.compile(
            r"(?:\A|\n|\\n|&&)[ \t]{0,8}(?:(?:RUN )?(?:ENV|ARG)|setx|set -g?x|\#define)[ \t]{1,4}\w{0,36}\Z"
        ),
        statement=re.compile(r"\b(?:with|encrypted|(?:user|role)[ \t]{1,4}\S{1,40})[ \t]{1,4}\Z", re.IGNORECASE),
        identified=re.compile(
            rf"identified[ \t]{{1,4}}(?:with[ \t]{{1,4}}\S{{1,40}}[ \t]{{1,4}})?by[ \t]{{1,4}}(?P<quote>{QUOTE})"
        ),
        login=re.compile(
            r"(?:machine[ \t]{1,4}\S{1,40}[ \t]{1,4}login[ \t]{1,4}\S{1,40}[ \t]{1,4}"
            r"|login[ \t]{1,4}\S{1,40}[ \t]{0,4}(?:\r?\n|\\n)[ \t]{0,8})\Z"
        ),
    )


class _Site(NamedTuple):
    """A name, and how something is assigned to it."""

    text: str
    shapes: _Shapes
    name: re.Match[str]
    sign: re.Match[str]
    word: str  # the name's last word, as it is written

    @property
    def password(self) -> bool:
        return self.name["password"] is not None

    def follows(self, shape: re.Pattern[str]) -> bool:
        """Whether the shape stands right before the word."""
        start = self.name.start()
        return shape.search(self.text, max(0, start - 60), start) is not None

    def end(self, shape: re.Pattern[str], start: int) -> int:
        found = shape.match(self.text, start)
        return start if found is None else found.end()

    def whole_end(self, shape: re.Pattern[str], start: int) -> int:
        """As `end`, beyond the length that a shape reads at once."""
        while (end := self.end(shape, start)) > start:
            start = end
        return start

    def trimmed(self, start: int, end: int) -> tuple[int, int]:
        """Without the blanks around, and without the full stop of the sentence."""
        value = self.text[start:end]
        bare = value.rstrip(" \t.,;:!?)")
        return (end - len(value.lstrip(" \t")) if bare else start), start + len(bare)


def spans(text: str, low: str) -> Iterator[Span]:
    """Every value in the text; `low` is the text in small letters, place by place. They may overlap."""
    shapes = _compiled()
    done = 0  # what is masked holds no names
    for hit in shapes.word.finditer(low):
        if hit.start() < done:
            continue
        name = shapes.name.match(low, hit.start())
        if name is None or not _is_name(text, low, hit.start()):
            continue
        sign = shapes.assign.match(text, _name_end(text, shapes, name))
        if sign is None or _in_placeholder(text, hit.start()):
            continue
        site = _Site(text, shapes, name, sign, text[name.start() : name.end()])
        rule = "assignment" if name["header"] is None else "authorization"
        # "name": 1234 is JSON, and shall stay so.
        quote = (sign["key"] or "") if sign["quote"] is None and sign["sign"] == ":" else ""
        for start, end in _values(site):
            yield Span(start, end, rule, quote)
            done = end
    yield from _identified(text, low, shapes)


def _name_end(text: str, shapes: _Shapes, name: re.Match[str]) -> int:
    """Where a name ends: behind the word "value", where the name is the value of the field before that."""
    value = shapes.value.match(text, name.end())
    if value is None or shapes.named.search(text, max(0, name.start() - 60), name.start()) is None:
        return name.end()
    return value.end()


def _identified(text: str, low: str, shapes: _Shapes) -> Iterator[Span]:
    """What a user of a database is identified by: there the password has no name."""
    at = low.find("identified")
    while at >= 0:
        found = shapes.identified.match(low, at)
        before = low[max(0, at - _NEAR_STATEMENT) : at]
        # It may be prose: a row that is identified by 'id'. Identified by "Ann": a cause.
        is_statement = text.startswith("IDENTIFIED", at) or "create user" in before or "alter user" in before
        if found is not None and is_statement:
            start = found.end()
            end = quoted_end(text, start, found["quote"])
            if end is not None and is_secret(text[start:end], password=True, quoted=True):
                yield Span(start, end, "assignment")
        at = low.find("identified", at + 1)


def _is_name(text: str, low: str, start: int) -> bool:
    """Whether the word is, or ends, the name of a secret."""
    if low.startswith("key", start):
        return low[max(0, start - 14) : start].rstrip("-_. ").endswith(_KEYS)
    if low.startswith(_UNMISTAKABLE, start):
        return True
    before = text[start - 1 : start]
    return not before.isalpha() or (text[start].isupper() and before.islower())


def _in_placeholder(text: str, at: int) -> bool:
    """Whether the place is within what an earlier call left: the name of its rule is no name of a secret."""
    opened = text.rfind(PLACEHOLDER, max(0, at - 48), at)
    return opened >= 0 and set(text[opened + len(PLACEHOLDER) : at]) <= _RULE_SIGNS


def _values(site: _Site) -> Iterator[tuple[int, int]]:
    """What is assigned there, as far as it is a secret."""
    sign = site.sign
    if sign["open"] is not None:
        yield from _element(site)
    elif (sign["flag"] is not None or sign["second"] is not None) and not _is_argument(site):
        return
    elif sign["quote"] is not None:
        yield from _strings(site)
    elif sign["list"] is None and sign["call"] is None:
        yield from _header(site) if site.name["header"] is not None else _unquoted(site)


def _is_argument(site: _Site) -> bool:
    """Whether what comes next, with nothing but a blank or a comma between, is the name's value."""
    shapes, sign = site.shapes, site.sign
    if site.follows(shapes.option):
        return sign["flag"] is not None or sign["key"] is not None
    if sign["second"] is not None:
        return sign["key"] is not None and site.follows(shapes.fetched)
    # With token `NAME`, with credentials 'include': only a password is part of a statement, and never so quoted.
    is_text = site.password and sign["quote"] is not None and sign["quote"][-1] != "`"
    is_netrc = site.password and sign["quote"] is None and site.follows(shapes.login)
    return is_netrc or site.follows(shapes.environment) or (is_text and site.follows(shapes.statement))


def _element(site: _Site) -> Iterator[tuple[int, int]]:
    """The text of an element: <password>…</password>."""
    found = site.shapes.element.match(site.text, site.sign.end())
    if found is not None and site.follows(site.shapes.tag):
        start, end = site.trimmed(*found.span("value"))
        if is_secret(site.text[start:end], password=site.password, quoted=True):
            yield start, end


def _strings(site: _Site) -> Iterator[tuple[int, int]]:
    """A string in quotes, or each of a list."""
    quote: re.Match[str] | None = site.sign
    while quote is not None:
        start = quote.end("quote")
        end = quoted_end(site.text, start, quote["quote"])
        if end is None:
            end = site.end(site.shapes.bare, start)
        scheme = site.shapes.scheme.match(site.text, start, end)
        value = site.trimmed(start if scheme is None else scheme.end(), end)
        filled = site.text[quote.start("quote") - 1] in "fF$" and "{" in site.text[start:end]  # f"{prefix}-{token}"
        if not filled and _is_held(site, site.text[slice(*value)]):
            yield value
        quote = site.shapes.item.match(site.text, end + len(quote["quote"])) if site.sign["list"] is not None else None


def _is_held(site: _Site, value: str) -> bool:
    """Whether the string is the secret of that name."""
    if value.lower() == site.word.lower():
        return False
    if site.sign["call"] is not None or site.sign["verb"] is not None or site.sign["second"] is not None:
        # A call may ask for a secret by its name, what stands beside an option may be its help, and a sentence may
        # quote anything: only what looks like one.
        return not value.startswith("-") and is_secret(value, password=False, quoted=False)
    return is_secret(value, password=site.password, quoted=True)


def _header(site: _Site) -> Iterator[tuple[int, int]]:
    """What follows the scheme: Authorization: Bearer …."""
    start = site.end(site.shapes.scheme, site.sign.end())
    end = site.end(site.shapes.bare, start)
    value = site.text[start:end]
    plain = value.isidentifier() and not any(map(str.isdigit, value))
    # In bold it is a heading, **Authorization:** role-based, unless a scheme follows.
    name = start == site.sign.end() and (plain or site.sign[0].startswith(("*", "__")) or ":**" in site.sign[0])
    if site.sign["sign"] is not None and len(value) >= _SHORTEST and not name and not is_stand_in(value):
        yield start, site.whole_end(site.shapes.bare, end)


def _unquoted(site: _Site) -> Iterator[tuple[int, int]]:
    """What stands without quotes: a secret, code, or the next word of a sentence."""
    text, sign = site.text, site.sign
    tight = sign["sign"] in {"=", "%3d", "%3D"} and not any(map(str.isspace, sign[0]))
    # NAME=… as shells and .env files have it: all up to the next blank.
    shell = tight and site.word.isupper() and not site.follows(site.shapes.query)
    shape = site.shapes.whole if shell else site.shapes.bare
    rest = site.end(shape, sign.end())
    start, end = site.trimmed(sign.end(), rest)
    value = text[start:end]
    if (
        not value
        or value.lower() == site.word.lower()
        or text[rest : rest + 1] in {"(", "[", "{"}
        or value[-1] in "([{"
    ):
        return
    if is_secret(value, password=site.password, quoted=False):
        algorithm = sign["verb"] is not None and site.shapes.algorithm.match(value) is not None
        if not algorithm and (sign["verb"] is None or site.password):
            yield site.trimmed(start, site.whole_end(shape, rest))
        return
    spoken = shell and site.password and value.replace("-", "").isalpha()  # correct-horse-battery-staple
    word = spoken or value.isalpha() or (tight and site.password and len(value) < _SHORTEST and "/" not in value)
    if word and not is_stand_in(value) and _is_alone(site, value, rest, tight=tight, shell=shell):
        yield start, end


def _is_alone(site: _Site, value: str, end: int, *, tight: bool, shell: bool) -> bool:
    """Whether a word of letters is a secret because nothing else can stand there."""
    if shell:
        return len(value) >= (_SHORTEST_PASSWORD if site.password else _SHORTEST)
    if not site.password or len(value) < _SHORTEST_PASSWORD or site.word.lower() in value.lower():
        return False
    after = site.text[end : end + 1]
    if tight:
        return after not in {")", ",", "."}  # an argument's name: connect(password=given)
    line = not after or after in "\r\n" or site.text.startswith(("\\n", "\\r"), end)
    begins = line and site.sign["sign"] == ":" and site.name["plural"] is None and site.follows(site.shapes.first)
    return begins and len(value) >= _SHORTEST
