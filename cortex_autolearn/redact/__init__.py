"""Masks secrets before a text leaves the machine or is trained on: keys, tokens, passwords, e-mail addresses.

`redact` gives the whole text with each secret replaced by "[REDACTED:<rule>]". It runs before a text is cut to a
length: a secret that was cut in two may have lost what it is known by. Structure stays (names, quotes, the scheme and
host of a URL), so JSON stays JSON, also where JSON is a string within JSON. What stays as it is: digests, commits,
UUIDs, dates, paths, task ids, pictures in base64, code, prose about secrets, stand-ins such as "<your key>", null and
${TOKEN}. Not looked for: numbers of credit cards (they look like ids and times), names and numbers of people, hashes
of passwords.

All rules are our own. Of the libraries, detect-secrets 1.5.0 comes nearest: the module of any of its plugins imports
requests, which costs 110 ms, 20 MB and 297 modules (sockets, TLS and subprocess among them) in a daemon that idles at
35 MB, for a rule that may import none of these; it finds line by line and does not mask, knows no keys of Anthropic,
has repeats without bounds, and was last released in 2024. Presidio needs spaCy, numpy and pydantic; scrubadub needs
scikit-learn and is for names of people; whispers needs semgrep and reads files. So detect-secrets is the tests'
oracle: whatever its token-shaped plugins find must be masked here.

Everything is linear in the text: repeats are possessive, bounded, or of one class and last; looks around are bounded.
"""

from collections import Counter
from typing import Final, NamedTuple

from cortex_autolearn.redact import addresses, assigned, beside, blocks, tokens
from cortex_autolearn.redact.spans import PLACEHOLDER, PLACEHOLDERS, Span, joined
from cortex_autolearn.redact.unseen import seen

VERSION: Final = "3"  # changes when what is masked changes

_EMAIL: Final = "email"
_UNSTABLE: Final = "unstable"
# Of rules that find the same stretch, the first gives its name.
RULES: Final[tuple[str, ...]] = tuple(
    dict.fromkeys((*blocks.RULES, *tokens.RULES, *addresses.RULES, *assigned.RULES, *beside.RULES, _EMAIL, _UNSTABLE))
)

_MOST_PASSES: Final = 6


class Redacted(NamedTuple):
    """A text without secrets."""

    text: str
    counts: dict[str, int]  # rule → how many of its placeholders this call has put in


def redact(text: str) -> Redacted:
    """Replace every secret by a placeholder that names the rule.

    What is redacted already stays as it is: redact(redact(x).text) changes nothing. So the text is looked at until
    nothing is found, which nearly always is the second time. A text that is made so that every look uncovers something
    new is masked whole, as "unstable".

    Args:
        text: any text; lone surrogates and NUL are left alone.
    """
    masked = text
    for _ in range(_MOST_PASSES):
        spans = joined(_found(masked), RULES)
        if not spans:
            break
        masked = _replaced(masked, spans)
    else:
        masked = f"{PLACEHOLDER}{_UNSTABLE}]"
    if masked is text:
        return Redacted(text, {})
    counts = Counter(PLACEHOLDERS.findall(masked))
    counts.subtract(PLACEHOLDERS.findall(text))
    return Redacted(masked, {rule: counts[rule] for rule in RULES if counts[rule] > 0})


def _found(text: str) -> list[Span]:
    found = _in_plain(text)
    if (shown := seen(text)) is not None:
        found += map(shown.back, _in_plain(shown.text))
    return found


def _in_plain(text: str) -> list[Span]:
    # One character grows when it is made small, a Turkish İ; with another in its place, all places stay the same.
    low = text.replace("\u0130", "I").lower()
    return [
        *blocks.spans(text),
        *tokens.spans(text),
        *addresses.spans(text, low),
        *assigned.spans(text, low),
        *beside.spans(text, low),
    ]


def _replaced(text: str, spans: list[Span]) -> str:
    parts: list[str] = []
    at = 0
    for span in spans:
        parts += (text[at : span.start], span.quote, PLACEHOLDER, span.rule, "]", span.quote)
        at = span.end
    parts.append(text[at:])
    return "".join(parts)
