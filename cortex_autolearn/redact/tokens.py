"""Tokens that tell by their shape whose they are: API keys, access tokens, webhooks, JSON web tokens.

Nearly all of them hold a stretch of at least 20 letters, digits, `_` and `-`, which is rare in other text. So one pass
looks for such stretches, and only there the many shapes are tried. A token is masked to the end of its stretch: what
is left over is never the start of another one. The shapes are those that the providers document or hand out.
"""

import re
import string
from collections.abc import Iterator
from functools import cache
from typing import Final, NamedTuple

from cortex_autolearn.redact.spans import Span, stretches, table

# Anywhere in a stretch: prefixes that nothing else has. All repeats are of one class and stand last, so that a failure
# costs no more than the minimum.
_ANYWHERE: Final = (
    ("anthropic", r"sk-ant-[A-Za-z0-9_-]{6,}"),
    ("github", r"gh[pousr]_[A-Za-z0-9_]{30,}|github_pat_[A-Za-z0-9_]{22,}"),
    (
        "gitlab",
        r"gl(?:pat|dt|ft|soat|rt|rtr|cbt|imt|ptt|agent|oas|ffct|wt)-[A-Za-z0-9_-]{20,}|GR1348941[A-Za-z0-9_-]{20,}",
    ),
    ("stripe", r"[rs]k_(?:org_)?(?:live|test)_[A-Za-z0-9]{16,}|whsec_[A-Za-z0-9]{24,}"),
    ("npm", r"npm_[A-Za-z0-9]{30,}"),
    ("pypi", r"pypi-AgE[A-Za-z0-9_-]{50,}"),
    ("slack", r"xox[a-z]-[A-Za-z0-9-]{10,}|xapp-[0-9]-[A-Za-z0-9-]{16,}"),
    ("square", r"sq0(?:csp|atp|idp)-[A-Za-z0-9_-]{22,}"),
    ("digitalocean", r"do[opr]_v1_[0-9a-f]{64}"),
    ("shopify", r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}"),
    ("age", r"AGE-SECRET-KEY-1[0-9A-Z]{40,}"),
    ("aws", r"ABSKQmVkcm9ja0FQSUtleS[A-Za-z0-9]{8,}"),
    # A private key without its frame: what OpenSSH's format, and "-----BEGIN … PRIVATE" itself, begin with in base64.
    ("private-key", r"b3BlbnNzaC1rZXktdjE[A-Za-z0-9]{8,}"),
    ("private-key", r"LS0tLS1CRUdJTi(?:BQUklWQVRF|BSU0EgUFJJ|BFQyBQUklW|BPUEVOU1NI|BFTkNSWVBU|BEU0EgUFJJ|BQR1AgUFJJ)"),
)
# Only where a stretch begins (see `_edges`), because their prefixes are met within words too.
_AT_EDGE: Final = (
    (
        "openai",
        (
            r"sk-(?:(?:proj|svcacct|admin|service|None|or)-[A-Za-z0-9_-]{16,}|[A-Za-z0-9]{20,}"
            r"|(?=[A-Za-z0-9_-]{20,400}?T3BlbkFJ))"
        ),
    ),
    # Others that serve models.
    (
        "model-provider",
        (
            r"gsk_[A-Za-z0-9]{32,}|xai-[A-Za-z0-9]{32,}|pplx-[A-Za-z0-9]{32,}|nvapi-[A-Za-z0-9_-]{32,}|r8_[A-Za-z0-9]{32,}"
            r"|fw_[A-Za-z0-9]{20,}|tgp_v1_[A-Za-z0-9_-]{32,}|lsv2_(?:pt|sk)_[0-9a-f]{32}"
        ),
    ),
    # Those of a known length end where their stretch ends: one digest more in a longer name is no key.
    (
        "model-provider",
        (
            r"tvly-(?:(?:dev|prod)-(?:[A-Za-z0-9]{4,8}-)?)?[A-Za-z0-9]{24,}|pcsk_[A-Za-z0-9]{4,8}_[A-Za-z0-9]{40,}"
            r"|jina_(?:[A-Za-z0-9]{40,}|[0-9a-f]{32}[A-Za-z0-9_-]{20,})|csk-[a-z0-9]{40,}|fc-[0-9a-f]{32}\Z|e2b_[0-9a-f]{40}\Z"
            r"|sk_[0-9a-f]{48}\Z|rpa_[A-Za-z0-9]{40,}|sk-lf-[0-9a-f]{8}-[0-9a-f-]{27}\Z|wandb_v1_[A-Za-z0-9_]{60,}"
        ),
    ),
    ("hugging-face", r"(?:hf|api_org)_[A-Za-z0-9]{30,}"),
    ("aws", r"(?:A3T[A-Z0-9]|ABIA|ACCA|AKIA|ASIA)[A-Z0-9]{16}|bedrock-api-key-[A-Za-z0-9]{16,}"),
    ("google", r"AIza[A-Za-z0-9_-]{35,}|GOCSPX-[A-Za-z0-9_-]{24,}"),
    ("twilio", r"(?:AC|SK)[a-z0-9]{32}"),
    ("mailgun", r"key-[0-9a-f]{32}"),
    ("mailchimp", r"[0-9a-z]{32}-us[0-9]{1,2}"),
    ("artifactory", r"AKC[A-Za-z0-9]{30,}|AP[0-9A-F][A-Za-z0-9]{30,}|cmVmdGtu[A-Za-z0-9]{40,}"),
    ("databricks", r"dapi[0-9a-f]{32}"),
    ("atlassian", r"AT[AC]TT3[A-Za-z0-9_-]{50,}|ATBB[A-Za-z0-9]{28,}"),
    (
        "developer-service",
        (
            r"lin_api_[A-Za-z0-9]{32,}|ntn_[A-Za-z0-9]{32,}|figd_[A-Za-z0-9_-]{32,}|PMAK-[0-9a-f]{24}|NRAK-[A-Z0-9]{27}"
            r"|sntry[su]_[A-Za-z0-9]{32,}|glsa_[A-Za-z0-9_]{32,}|glc_[A-Za-z0-9]{32,}|dt0c01-[A-Z0-9]{24}"
            r"|pscale_(?:tkn|pw|oauth)_[A-Za-z0-9_-]{32,}|sbp_[0-9a-f]{40}|sb_secret_[A-Za-z0-9_-]{20,}"
            r"|dckr_(?:pat|oat)_[A-Za-z0-9_-]{20,}|rubygems_[0-9a-f]{48}|CCIPAT_[A-Za-z0-9_]{30,}|HRKU-[A-Za-z0-9_-]{36,}"
            r"|nfp_[A-Za-z0-9]{36,}|tskey-[a-z]{3,8}-[A-Za-z0-9-]{16,}|fm2_[A-Za-z0-9]{20,}|oy2[a-z0-9]{43}"
            r"|ph[cx]_[A-Za-z0-9]{40,}|cf[aku]t?_[A-Za-z0-9]{40}[0-9a-f]{8}\Z|KGAT_[0-9a-f]{32}\Z|crsr_[0-9a-f]{64}\Z"
            r"|SWMTKN-1-[a-z0-9]{50}-[a-z0-9]{25}\Z|mdb_sa_sk_[A-Za-z0-9_-]{36,}|CLOJARS_[0-9a-f]{60}\Z"
            r"|napi_(?=[a-z]{0,59}[0-9])[a-z0-9]{60,}\Z"
        ),
    ),
    (
        "developer-service",
        (
            r"vc[piark]_[A-Za-z0-9]{50,}|re_(?=[A-Za-z_]{0,32}[0-9])[A-Za-z0-9]{8}_[A-Za-z0-9]{20,}"
            r"|x(?:keys|smtps)ib-[0-9a-f]{64}-[A-Za-z0-9]{16}\Z|lin_oauth_[0-9a-f]{64}\Z|bkua_[0-9a-f]{40}\Z"
            r"|sq[pua]_[0-9a-f]{40}\Z|pul-[0-9a-f]{40}\Z|pat-(?:na|eu|ap)[0-9]-[0-9a-f]{8}-[0-9a-f-]{27}\Z"
            r"|sgp_(?:[0-9a-zA-Z]{5,16}_)?[0-9a-f]{40}\Z|ops_eyJ[A-Za-z0-9_-]{200,}|pnu_[A-Za-z0-9]{36}\Z|rdme_[a-z0-9]{70}\Z"
            r"|shippo_(?:live|test)_[0-9a-f]{40}\Z|EZ[AT]K[A-Za-z0-9]{54}\Z|LTAI[A-Za-z0-9]{20}\Z|fo1_[A-Za-z0-9_-]{43}\Z"
            # Meta's and Square's. In base64 of other things zeros follow, or the stretch is a later piece of it.
            r"|EAA(?<![+/]EAA)(?!AAA)(?=[A-Za-z_-]{0,55}[0-9])[A-Za-z0-9_-]{55,}"
        ),
    ),
)

# Shapes with a dot or a colon in them are tried where a stretch begins; the first 20 characters are known to be there.
_DOTTED: Final = (
    # A JSON web token (three parts; five when it is encrypted); at least the first dot must be there.
    ("jwt", r"eyJ[A-Za-z0-9_-]{8,}+={0,2}(?:\.[A-Za-z0-9_-]{0,}+={0,2}){1,4}"),
    ("discord", r"[MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}"),
)
# Prefixes that end in a dot, before the stretch.
_BEFORE_DOT: Final = {
    "SG.": "sendgrid",
    "hvs.": "vault",
    "hvb.": "vault",
    "hvr.": "vault",
    "ya29.": "google",
    "dp.pt.": "developer-service",
    "dp.st.": "developer-service",
    "dp.sa.": "developer-service",
    "dp.ct.": "developer-service",
    "dp.scim.": "developer-service",
    "dp.audit.": "developer-service",
    "dt0c01.": "developer-service",
    "atlasv1.": "developer-service",
}

# Hooks: whoever knows the address may post. The address is kept up to what is secret in it.
_HOOKS: Final = (
    ("slack-webhook", "hooks.slack", r"hooks\.slack(?:-gov)?\.com(?:\\{0,16}/[A-Za-z0-9_]{1,64}){2,6}"),
    (
        "discord-webhook",
        "/webhooks",
        r"/webhooks\\{0,16}/[0-9]{15,22}\\{0,16}/(?P<secret>[A-Za-z0-9_-]{30,})",
    ),
    ("slack", "xox", r"xox[a-z]-(?:[0-9]{1,20}-){1,6}[A-Za-z0-9]+"),  # the short ones too
    ("teams-webhook", "webhook.office.com", r"webhook\.office\.com(?:\\{0,16}/[A-Za-z0-9@_-]{1,128}){3,8}"),
    ("azure", "Key=", r"(?:AccountKey|SharedAccessKey|SharedSecretKey)=(?P<secret>[A-Za-z0-9+/%=]{16,})"),
    ("azure", "Q~", r"[A-Za-z0-9_.~-]{3}[0-9]Q~[A-Za-z0-9_.~-]{31,}"),
    # The signature of an address that opens a door: Azure's shared access, Amazon's and Google's signed ones.
    (
        "signed-url",
        "ignature=",
        r"(?:[?&;]|%26|\\u0026)(?:X-Amz-|X-Goog-)?[Ss]ignature=(?P<secret>[A-Za-z0-9%+/_-]{16,}={0,2})",
    ),
    ("developer-service", "sha256~", r"sha256~[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])"),  # OpenShift's
    ("developer-service", "snyk_", r"snyk_[us]at\.[A-Za-z0-9]{8}\.[A-Za-z0-9_-]{4,256}\.[A-Za-z0-9_-]{6,}"),
    ("developer-service", "access_token$", r"access_token\$(?:production|sandbox)\$[a-z0-9]{16}\$[0-9a-f]{32}"),
    ("signed-url", "sig=", r"(?:[?&;]|%26|\\u0026)sig=(?P<secret>[A-Za-z0-9%+/_-]{16,}={0,2})"),
)

RULES: Final = (
    *dict.fromkeys(rule for rule, _ in (*_ANYWHERE, *_AT_EDGE, *_DOTTED)),
    *dict.fromkeys(rule for rule in _BEFORE_DOT.values() if rule not in {"google", "developer-service"}),
    "telegram",
    "airtable",
    *dict.fromkeys(rule for rule, _, _ in _HOOKS),
)

_MEMBERS: Final = table(string.ascii_letters + string.digits + "_-")
_AFTER_DOT: Final = re.compile(r"[A-Za-z0-9_-]{20,}+(?:\.[A-Za-z0-9_-]++){0,2}")
_BASE64: Final = re.compile(r"[A-Za-z0-9_+/-]*+={0,2}")
_ROUTABLE: Final = re.compile(r"(?:\.[0-9a-z]{2}\.[0-9a-z]{7,12})?")  # the end of GitLab's newer tokens
_IN_BASE64: Final = frozenset(("aws", "private-key"))
_BOT: Final = re.compile(r"(?<![0-9])[0-9]{8,10}:\Z")
_AIRTABLE: Final = re.compile(r"pat[A-Za-z0-9]{14}\.\Z")
# What stands before the long part of others: Doppler's token of a configuration, and Google's keys and refresh tokens.
_DOPPLER: Final = re.compile(r"dp\.st\.[a-z0-9_-]{1,40}\.\Z")
# They begin a word; the letters before may be the end of what `_edges` tells of.
_BEGINS: Final = (
    r"(?:(?<![A-Za-z0-9_./-])|(?<=\\[nrtbf])|(?<=\\u00[0-9a-fA-F]{2})|(?<=%[0-9a-fA-F]{2})|(?<=[\[;][0-9]m)"
    r"|(?<=[\[;][0-9]{2}m))"
)
_GOOGLE_KEY: Final = re.compile(_BEGINS + r"AQ\.\Z")
_GOOGLE_REFRESH: Final = re.compile(_BEGINS + r"1(?:\\{0,64}/){2}\Z")
_ESCAPE: Final = re.compile(r"(?<=\\)(?:u00[0-9a-fA-F]{2}|[nrtbf])|(?<=%)[0-9a-fA-F]{2}|(?<=[\[;])[0-9]{1,2}m")
_LONG_PART: Final = 40
_AZURE: Final = "JQQJ99"  # stands in the middle of its newer keys
_AROUND_AZURE: Final = 20
_AZURE_DEVOPS: Final = "AZDO"  # stands behind the 75th or 76th character of its 84
_DEVOPS_CHARS: Final = 84


class _Shapes(NamedTuple):
    anywhere: re.Pattern[str]
    at_edge: re.Pattern[str]
    dotted: re.Pattern[str]
    hooks: tuple[re.Pattern[str], ...]


@cache
def _compiled() -> _Shapes:
    """Compiled when first needed: this costs some milliseconds, and most commands never redact."""
    return _Shapes(
        re.compile("|".join(f"({shape})" for _, shape in _ANYWHERE)),
        re.compile("|".join(f"({shape})" for _, shape in _AT_EDGE)),
        re.compile("|".join(f"({shape})" for _, shape in _DOTTED)),
        tuple(re.compile(shape) for _, _, shape in _HOOKS),
    )


def spans(text: str) -> Iterator[Span]:
    """Every token in the text whose shape tells what it is. They may overlap."""
    shapes = _compiled()
    done = 0  # up to here goes what is masked already as one that goes on in base64: that is looked through once
    for start, end in stretches(text, _MEMBERS):
        for span in _in_stretch(text, shapes, start, end, done):
            yield span
            if span.rule in _IN_BASE64:
                done = max(done, span.end)
    yield from _hooks(text, shapes)


def _in_stretch(text: str, shapes: _Shapes, start: int, end: int, done: int) -> Iterator[Span]:
    """Every token that one stretch tells of; those that go on in base64 were looked through up to `done`."""
    found = shapes.anywhere.search(text, start, end)
    if found is not None:
        yield _token(text, found, _ANYWHERE[(found.lastindex or 1) - 1][0], end, done)
    dotted = text[end : end + 1] in {".", "="}
    for at in _edges(text, start):
        found = shapes.at_edge.match(text, at, end)
        if found is not None:
            yield _token(text, found, _AT_EDGE[(found.lastindex or 1) - 1][0], end, done)
        if dotted and (found := shapes.dotted.match(text, at)) is not None:
            yield Span(*found.span(), _DOTTED[(found.lastindex or 1) - 1][0])
    if text.find(_AZURE, start + _AROUND_AZURE, end - _AROUND_AZURE) >= 0:
        yield Span(_after(_ESCAPE, text, start), end, "azure")
    if text.find(_AZURE_DEVOPS, end - 9, end - 4) >= 0 and end - _after(_ESCAPE, text, start) == _DEVOPS_CHARS:
        yield Span(end - _DEVOPS_CHARS, end, "azure")
    mark = text[start - 1 : start]
    if mark in _AFTER:
        yield from _AFTER[mark](text, start, end)


def _hooks(text: str, shapes: _Shapes) -> Iterator[Span]:
    for (rule, anchor, _), shape in zip(_HOOKS, shapes.hooks, strict=True):
        if anchor in text:
            for found in shape.finditer(text):
                yield Span(*found.span("secret" if "secret" in shape.groupindex else 0), rule)


def _edges(text: str, start: int) -> tuple[int, ...]:
    r"""Where a token may begin in the stretch that begins at `start`.

    The first letters may belong to what stands before: an escape (\n in JSON, %3D in a URL, \u003d in either) or a
    colour on a terminal.
    """
    before = text[start - 1 : start]
    if before == "\\":
        return (start, start + 1, start + 5)
    if before == "%":
        return (start, start + 2)
    if before in {"[", ";"}:
        return (start, start + 2, start + 3)
    return (start,)


def _token(text: str, found: re.Match[str], rule: str, end: int, done: int) -> Span:
    """The token to the end of its stretch; some go on in base64, or with two more parts."""
    if rule in _IN_BASE64:
        end = done if end <= done else _after(_BASE64, text, end)
    elif rule == "gitlab":
        end = _after(_ROUTABLE, text, end)
    return Span(found.start(), end, rule)


def _after(shape: re.Pattern[str], text: str, at: int) -> int:
    found = shape.match(text, at)
    return at if found is None else found.end()


def _after_slash(text: str, start: int, end: int) -> Iterator[Span]:
    """Google's refresh tokens: 1//0…."""
    refresh = _GOOGLE_REFRESH.search(text, max(0, start - 136), start) if text[start] == "0" else None
    if refresh is not None and end - start > _LONG_PART:
        yield Span(refresh.start(), end, "google")


def _after_colon(text: str, start: int, end: int) -> Iterator[Span]:
    """A bot's number, a colon, 35 characters, of which the first two are A."""
    bot = _BOT.search(text, max(0, start - 12), start)
    if bot is not None and (end - start == 35 or (end - start > 35 and text.startswith("AA", start))):
        yield Span(bot.start(), end, "telegram")


def _after_dot(text: str, start: int, end: int) -> Iterator[Span]:
    """A token that holds a dot before its stretch."""
    for prefix, rule in _BEFORE_DOT.items():
        if text.endswith(prefix, 0, start):
            yield Span(start - len(prefix), _after(_AFTER_DOT, text, start), rule)
            return
    if end - start == 64 and (found := _AIRTABLE.search(text, max(0, start - 18), start)) is not None:
        yield Span(found.start(), end, "airtable")
    elif end - start >= _LONG_PART and any(map(str.isdigit, text[start:end])):
        for shape, rule in ((_DOPPLER, "developer-service"), (_GOOGLE_KEY, "google")):
            if (found := shape.search(text, max(0, start - 56), start)) is not None:
                yield Span(found.start(), end, rule)


_AFTER: Final = {"/": _after_slash, ":": _after_colon, ".": _after_dot}
