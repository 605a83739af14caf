"""What a value that is assigned to a secret's name may be: a secret, a stand-in for one, code, or prose.

Where the value begins and ends is found by `assigned`.
"""

import math
import re
from collections import Counter
from functools import cache
from itertools import pairwise
from typing import Final, NamedTuple

from cortex_autolearn.redact.spans import PLACEHOLDER

_LONGEST_JUDGED: Final = 512  # characters that are looked at to tell randomness
_SHORTEST: Final = 6  # of anything but a password in quotes
_SHORTEST_NUMBER: Final = 4  # digits of a password

# Words that stand where a secret is left out, or name its type.
_NO_SECRETS: Final = frozenset(
    """
    null none nil undefined true false yes no on off empty unset missing absent unknown n/a na tbd todo
    str string text char varchar int integer number float bool boolean bytes object any void array list dict map json
    required optional redacted masked hidden removed filtered sensitive secure encrypted protected enabled disabled set
    present valid invalid default example placeholder changeme change_me change-me replace_me replace-me replaceme fixme
    password passwd passphrase pass pwd token tokens key keys apikey api_key api-key credential credentials value values
    header cookie session basic bearer digest oauth oauth2 jwt env environment vault prompt stdin file user username
    """.split()
)
_STAND_IN_WORDS: Final = frozenset("your example dummy placeholder changeme replace insert enter redacted".split())
# Words that secrets do not consist of, and sentences do.
_PROSE: Final = frozenset(
    """
    is are was were be been must should shall may can cannot will would not no the a an and or of to in on for from by
    with without at as it its this that these those when if then than has have had do does did invalid required
    expired missing incorrect wrong too your their please enter least characters
    """.split()
)


class _Shapes(NamedTuple):
    masked: re.Pattern[str]
    templates: re.Pattern[str]
    words: re.Pattern[str]
    code: re.Pattern[str]
    plain: re.Pattern[str]
    hexadecimal: re.Pattern[str]


@cache
def _compiled() -> _Shapes:
    return _Shapes(
        # Signs instead of letters, or something in brackets, or a variable.
        re.compile(
            r"[*\u2022.#?_\u2026\s-]++|[xX*.-]{3,}+|<[^<>]*+>|\[[^\[\]]*+\]|\$\{?[A-Za-z_][\w.:-]*+\}?|%[A-Za-z_]\w*+%|\{+[^{}]*+\}+"
            r"|\$\([^()]*+\)|\$\{\{[^{}]*+\}\}|@[A-Za-z_]++@|__[A-Za-z_]++__"
        ),
        re.compile(r"\$\{[^{}]*+\}|\{\{[^{}]*+\}\}|\$\([^()]*+\)|\$\{\{[^{}]*+\}\}"),
        re.compile(r"[A-Za-z]++"),
        # A name, or names joined by dots: what stands right of an assignment in code.
        re.compile(
            r"(?:[A-Za-z_]++[0-9]{0,2}(?:::|->|\?\.|\.))++[A-Za-z_]\w*+|(?:self|this|args|config|settings)\.\w*+"
        ),
        # A date, a version, a path, an address on the web.
        re.compile(
            r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9:.]++(?:Z|[+-][0-9:]++)?)?|v?[0-9]++(?:\.[0-9]++){1,3}"
            r"|(?:~|\.{1,2})?/[\w.-]++(?:/[\w.*-]++)*+/?|[A-Za-z][A-Za-z0-9+.-]*+://.*+",
            re.DOTALL,
        ),
        re.compile(r"[0-9a-fA-F-]++"),
    )


def is_masked(value: str) -> bool:
    """Whether the value stands for a secret without being one, as its signs alone tell: ***, <…>, ${…}, null."""
    return PLACEHOLDER in value or _compiled().masked.fullmatch(value) is not None


def is_stand_in(value: str) -> bool:
    """Whether the value stands for a secret without being one: also "your-key-here", or the name of a type."""
    shapes = _compiled()
    bare = value.strip(" \t.,;:!?()")
    if not bare or is_masked(bare) or bare.lower() in _NO_SECRETS:
        return True
    rest, templates = shapes.templates.subn("", bare)
    if templates and not any(map(str.isalnum, rest)):
        return True
    if any(map(str.isdigit, bare)) or len(bare) > 64:
        return False
    return not _STAND_IN_WORDS.isdisjoint(shapes.words.findall(bare.lower()))


def is_secret(value: str, *, password: bool, quoted: bool) -> bool:
    """Whether a value that is assigned to a secret's name is to be masked.

    Args:
        value: what stands there, without quotes.
        password: the name is a password's, which may be short and may hold blanks; a token does not.
        quoted: it stood in quotes. Without, it may be code, or the next word of a sentence.
    """
    if is_stand_in(value):
        return False
    if quoted:
        return _is_string(value, password=password)
    if _is_plain(value) or _compiled().code.fullmatch(value):
        return False
    if value.isdecimal():
        return password and len(value) >= _SHORTEST_NUMBER
    letters, digits = any(map(str.isalpha, value)), any(map(str.isdigit, value))
    signs = any(not char.isalnum() and char not in "._-/'" for char in value)
    return len(value) >= _SHORTEST and ((letters and digits) or signs)


def _is_string(value: str, *, password: bool) -> bool:
    words = value.split()
    if len(words) > 1:
        return password and _PROSE.isdisjoint(word.strip(".,;:!?'").lower() for word in words[:64])
    return password or (len(value) >= _SHORTEST and any(map(str.isalpha, value)) and not _is_plain(value))


def _is_plain(value: str) -> bool:
    """Whether it is a date, a version, a path or an address: things that have a meaning."""
    return _compiled().plain.fullmatch(value) is not None and not is_random(value.replace("/", ""))


def is_random(value: str) -> bool:
    """Whether the characters look drawn by lot: many kinds, changing often.

    Hexadecimal digits do not count: digests, commits and UUIDs are made of them.
    """
    judged = value[:_LONGEST_JUDGED]
    if len(judged) < 16 or sum(map(str.isdigit, judged)) < 2 or _compiled().hexadecimal.fullmatch(judged):
        return False
    kinds = [0 if char.isdigit() else 1 if char.isupper() else 2 if char.islower() else 3 for char in judged]
    real = [kind for kind in kinds if kind != 3]
    changes = sum(a != b for a, b in pairwise(real))
    return 2 in real and changes >= 0.3 * len(judged) and _bits(judged) >= 3.3


def _bits(value: str) -> float:
    """Shannon's entropy of the characters, in bits for each."""
    size = len(value)
    return -sum(n / size * math.log2(n / size) for n in Counter(value).values())
