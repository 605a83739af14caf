"""Secrets are masked, and nothing else: tables of what goes and what stays, properties, and the time it takes."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import time
import unicodedata
import urllib.parse
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cortex_autolearn.redact import RULES, VERSION, Redacted, redact
from cortex_autolearn.redact.spans import PLACEHOLDERS, Span, joined, stretches, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def drawn(size: int, alphabet: str = LETTERS, seed: int = 1) -> str:
    """Characters that look drawn by lot, the same every time."""
    out = []
    for _ in range(size):
        seed = (seed * 6364136223846793005 + 1442695040888963407) % 2**64
        out.append(alphabet[(seed >> 33) % len(alphabet)])
    return "".join(out)


HEX = "0123456789abcdef"
SMALL = "abcdefghijklmnopqrstuvwxyz0123456789"
LARGE = SMALL.upper()
UUID = "018f134a-069e-3fab-8c3b-fc5e740e6157"
KEY_LINES = "\n".join(drawn(64, LETTERS + "+/", seed) for seed in range(6)) + "\n" + drawn(22) + "=="
PEM = f"-----BEGIN RSA PRIVATE KEY-----\n{KEY_LINES}\n-----END RSA PRIVATE KEY-----"
JWT = f"eyJ{drawn(33)}.eyJ{drawn(60)}.{drawn(43)}"

# Tokens that tell by themselves what they are. Put together here, so that no scanner takes this file for a leak.
TOKENS = [
    ("anthropic", "sk-ant-" + f"api03-{drawn(40)}-{drawn(50)}_AA"),
    ("openai", "sk-" + drawn(48)),
    ("openai", "sk-proj-" + drawn(60) + "_" + drawn(20)),
    ("openai", "sk-" + drawn(20) + "T3Blbk" + "FJ" + drawn(20)),
    ("openai", "sk-or-v1-" + drawn(64, HEX)),
    ("aws", "AKIA" + drawn(16, LETTERS[26:])),
    ("aws", "ASIA" + drawn(16, LETTERS[26:], 3)),
    ("github", "ghp_" + drawn(36)),
    ("github", "gho_" + drawn(36)),
    ("github", "ghs_" + drawn(36)),
    ("github", "github_pat_" + drawn(22) + "_" + drawn(59)),
    ("gitlab", "glpat-" + drawn(20)),
    ("gitlab", "glpat-" + drawn(27) + ".01." + drawn(9, "0123456789abcdefghijklmnopqrstuvwxyz")),
    ("slack", "xoxb-" + "123456789012-1234567890123-" + drawn(24)),
    ("slack", "xoxp-" + "1-2-3"),
    ("slack", "xapp-1-" + drawn(40)),
    ("google", "AIza" + drawn(35)),
    ("google", "GOCSPX-" + drawn(28)),
    ("google", "ya29." + drawn(60)),
    ("stripe", "sk_live_" + drawn(24)),
    ("stripe", "rk_live_" + drawn(24)),
    ("stripe", "whsec_" + drawn(32)),
    ("twilio", "SK" + drawn(32, HEX)),
    ("sendgrid", "SG." + drawn(22) + "." + drawn(43)),
    ("npm", "npm_" + drawn(36)),
    ("pypi", "pypi-" + "AgEIcHlwaS5vcmc" + drawn(80)),
    ("hugging-face", "hf_" + drawn(34, LETTERS[:52])),
    ("telegram", "123456789:" + "AA" + drawn(33)),
    ("discord", "M" + drawn(23) + "." + drawn(6) + "." + drawn(38)),
    ("jwt", JWT),
    ("vault", "hvs." + drawn(90)),
    ("digitalocean", "dop_v1_" + drawn(64, HEX)),
    ("databricks", "dapi" + drawn(32, HEX)),
    ("shopify", "shpat_" + drawn(32, HEX)),
    ("square", "sq0csp-" + drawn(43)),
    ("mailgun", "key-" + drawn(32, HEX)),
    ("mailchimp", drawn(32, HEX) + "-us12"),
    ("atlassian", "ATATT3" + drawn(180)),
    ("artifactory", "AKCp" + drawn(69)),
    ("airtable", "pat" + drawn(14) + "." + drawn(64, HEX)),
    ("model-provider", "gsk_" + drawn(52)),
    ("model-provider", "tvly-" + drawn(32)),
    ("model-provider", "tvly-dev-" + drawn(32)),
    ("model-provider", "tvly-prod-" + drawn(6) + "-" + drawn(32)),
    ("model-provider", "pcsk_" + drawn(6) + "_" + drawn(63)),
    ("model-provider", "jina_" + drawn(60)),
    ("model-provider", "jina_" + drawn(32, HEX) + "aB_-" + drawn(24)),
    ("model-provider", "csk-" + drawn(48, SMALL)),
    ("model-provider", "fc-" + drawn(32, HEX)),
    ("model-provider", "e2b_" + drawn(40, HEX)),
    ("model-provider", "sk_" + drawn(48, HEX)),
    ("model-provider", "rpa_" + drawn(44)),
    ("model-provider", "sk-lf-" + UUID),
    ("model-provider", "wandb_v1_" + drawn(77)),
    ("developer-service", "dckr_pat_" + drawn(27)),
    ("developer-service", "vcp_" + drawn(56)),
    ("developer-service", "re_" + drawn(8) + "_" + drawn(24)),
    ("developer-service", "xkeysib-" + drawn(64, HEX) + "-" + drawn(16)),
    ("developer-service", "xsmtpsib-" + drawn(64, HEX) + "-" + drawn(16)),
    ("developer-service", "lin_oauth_" + drawn(64, HEX)),
    ("developer-service", "bkua_" + drawn(40, HEX)),
    ("developer-service", "squ_" + drawn(40, HEX)),
    ("developer-service", "pul-" + drawn(40, HEX)),
    ("developer-service", "pat-na1-" + UUID),
    ("developer-service", "sgp_" + drawn(40, HEX)),
    ("developer-service", "sgp_" + drawn(16, HEX) + "_" + drawn(40, HEX)),
    ("developer-service", "ops_eyJ" + drawn(260)),
    ("developer-service", "pnu_" + drawn(36)),
    ("developer-service", "rdme_" + drawn(70, SMALL)),
    ("developer-service", "shippo_live_" + drawn(40, HEX)),
    ("developer-service", "EZAK" + drawn(54)),
    ("developer-service", "LTAI" + drawn(20)),
    ("developer-service", "fo1_" + drawn(43)),
    ("developer-service", "EAACEdEose0cBA" + drawn(120)),
    ("developer-service", "EAAA" + "l" + drawn(59)),
    ("developer-service", "dp.st.prod." + drawn(43)),
    ("developer-service", "dp.scim." + drawn(43)),
    ("developer-service", "dt0c01." + drawn(24, LARGE) + "." + drawn(64, LARGE)),
    ("stripe", "sk_org_live_" + drawn(90)),
    ("developer-service", "cfut_" + drawn(40) + drawn(8, HEX)),
    ("developer-service", "cfat_" + drawn(40) + drawn(8, HEX)),
    ("developer-service", "cfk_" + drawn(40) + drawn(8, HEX)),
    ("developer-service", "KGAT_" + drawn(32, HEX)),
    ("developer-service", "crsr_" + drawn(64, HEX)),
    ("developer-service", "SWMTKN-1-" + drawn(50, SMALL) + "-" + drawn(25, SMALL)),
    ("developer-service", "mdb_sa_sk_" + drawn(40)),
    ("developer-service", "CLOJARS_" + drawn(60, HEX)),
    ("developer-service", "napi_" + drawn(60, SMALL)),
    ("developer-service", "sha256~" + drawn(43)),
    ("developer-service", "snyk_uat." + drawn(8) + "." + drawn(30) + "." + drawn(27)),
    ("developer-service", "access_token$production$" + drawn(16, SMALL) + "$" + drawn(32, HEX)),
    ("azure", drawn(76) + "AZDO" + drawn(4)),
    ("google", "AQ.Ab8RN6" + drawn(44)),
    ("google", "1//0e" + drawn(60)),
    ("google", r"1\/\/0e" + drawn(60)),
    ("azure", drawn(32) + "JQQJ99BA" + drawn(12) + "AAABACOG" + drawn(4)),
    ("age", "AGE-SECRET-KEY-1" + drawn(58, LETTERS[26:])),
    ("azure", drawn(3) + "8Q~" + drawn(34)),
    ("private-key", PEM),
    ("private-key", "b3BlbnNzaC1rZXktdjE" + drawn(100)),
    ("private-key", base64.b64encode(PEM.encode()).decode()),
]

# What may stand around a token: prose, JSON once and twice encoded, a URL, a shell, a terminal's colours, CRLF.
AROUND = [
    ("", ""),
    ("use ", " here"),
    ("(", ")"),
    ("line\r\n", "\r\nline"),
    ('{"a": "', '"}'),
    (r"a\n", r"\nb"),
    (r"{\"a\": \"x\\n", r"\\ny\"}"),
    ("https://host/?k=", "&x=1"),
    ("%3D", "%26x"),
    (r"\u003d", r"\u0026"),
    ("\x1b[31m", "\x1b[0m"),
    ("Grüße ", " — ja\x00"),
    ("\ud800", "\udfff"),
]


@pytest.mark.parametrize(("rule", "token"), TOKENS)
@pytest.mark.parametrize(("before", "after"), AROUND)
def test_a_token_is_masked_wherever_it_stands(rule: str, token: str, before: str, after: str) -> None:
    """A provider's token goes, whole and under its name, and what stands around it stays."""
    if "\\" in before and "\n" in token:
        token = token.replace("\n", "\\\\n" if '\\"' in before else "\\n")
    redacted = redact(before + token + after)
    assert redacted == (f"{before}[REDACTED:{rule}]{after}", {rule: 1})


# In angle brackets what goes; all else stays.
MASKED = [
    # Names and values.
    ("password=«hunter2»", "assignment"),
    ("PASSWORD=«hunter»", "assignment"),
    ("db_password = «hunter2»", "assignment"),
    ("password: «hunter2»", "assignment"),
    ("db:\n  user: bob\n  password: «letmein»\n", "assignment"),
    ('"password": "«x»"', "assignment"),
    ('{"user": "bob", "password": "«correct horse battery staple»", "n": 1}', "assignment"),
    ("{'clientSecret': '«abc-DEF»'}", "assignment"),
    (r'{"log": "{\"password\": \"«x»\"}"}', "assignment"),
    (r"{\"password\": \"«a\\\"b»\", \"n\": 1}", "assignment"),
    (r"{\\\"password\\\": \\\"«x»\\\"}", "assignment"),
    (r'{"password": "«a\"b\\»", "n": "c"}', "assignment"),
    ("&quot;password&quot;: &quot;«hunter2»&quot;", "assignment"),
    (r"\u0022token\u0022:\u0022«abc123»\u0022", "assignment"),
    ("$password => '«abc»'", "assignment"),
    ("headers['x-api-key'] = '«abc123»'", "assignment"),
    ('API_KEY: str = "«abc123xyz»"', "assignment"),
    ("let api_token := `«abc123xyz»`", "assignment"),
    ("export API_TOKEN=«abc123,;(xyz»\nnext", "assignment"),
    ("Server=db;Uid=sa;Pwd=«P@ss»;Database=x", "assignment"),
    ("https://host/?token=«abc123»&x=1", "assignment"),
    ("run --password «hunter2» --verbose", "assignment"),
    ("run --api-key=«abcd1234»", "assignment"),
    ("<password>«hunter2»</password>", "assignment"),
    ("The password is «Tr0ub4dor&3».", "assignment"),
    ('if password == "«hunter2»":', "assignment"),
    ("aws_secret_access_key = «wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY»", "assignment"),
    ('"api_keys": ["«abc123»"]', "assignment"),
    ('client.set_token("«abcd1234efgh»")', "assignment"),
    ("secret: «3f786850e387550fdab836ed7e6dc881de23001b»", "assignment"),
    ("secret_key_base: «3f786850e387550fdab836ed7e6dc881de23001b»", "assignment"),
    ("secret_key_base64: «abc123xyz»", "assignment"),
    ('session_token = "«123e4567-e89b-12d3-a456-426614174000»"', "assignment"),
    ("password: “«hunter2»”", "assignment"),
    ("Passwort... PASSWORT: «geheim12»", "assignment"),
    ("[REDACTED: by ops, password=«hunter2»", "assignment"),
    # What ends in an equals sign is no type that something is assigned to.
    ("kind: Secret\ndata:\n  password: «aHVudGVyMiE=»\n", "assignment"),
    (r'{"manifest": "data:\n  api-key: «YWJjMTIzNDU=»\n  user: Ym9i\n"}', "assignment"),
    ('{"secret.yaml": "token: «YWJjMTIzNA==»"}', "assignment"),
    (r"{\"secret.yaml\": \"token: «YWJjMTIzNA==»\"}", "assignment"),
    ('let token: String="«abc123»";', "assignment"),
    (r"{\"code\": \"token: str=\\\"«abc123»\\\"\"}", "assignment"),
    ("Authorization: Basic «Ym9iOmh1bnRlcjI=»", "authorization"),
    ("curl -H 'Authorization: Basic «Ym9iOmh1bnRlcjI=»' x", "authorization"),
    ('{"args": ["-H", "Authorization: Basic «Ym9iOmh1bnRlcjI=»"]}', "authorization"),
    # Names and values in bold type, and beside each other.
    ("**Password:** `«hunter2»`", "assignment"),
    ("- **Password:** «letmein»\n", "assignment"),
    ("**API key**: «abc123xyz»", "assignment"),
    ("__Token__: «abc123xyz»", "assignment"),
    ('{"name": "DB_PASSWORD", "value": "«hunter»"}', "assignment"),
    (r"{\"name\": \"DB_PASSWORD\",\n  \"value\": \"«hunter»\"}", "assignment"),
    ('{"key": "x-api-key", "value": "«abc-DEF»", "type": "string"}', "assignment"),
    ('{"name": "Authorization", "value": "Bearer «abc123def456»"}', "authorization"),
    ('- name: API_TOKEN\n          value: "«abc123»"\n', "assignment"),
    ("- name: API_TOKEN\n  value: «abc123»\n", "assignment"),
    (r"- name: API_TOKEN\n  value: «abc123»\n", "assignment"),
    ('<add key="ApiKey" value="«abc123»" />', "assignment"),
    ('["run", "--password", "«abc123»", "-v"]', "assignment"),
    (r"[\"--api-key\", \"«abc123»\"]", "assignment"),
    ('os.getenv("API_KEY", "«abc123»")', "assignment"),
    ("define('DB_PASSWORD', '«abc123»');", "assignment"),
    ("FROM x\nENV DB_PASSWORD «abc123»\n", "assignment"),
    ("set -x API_KEY «abc123»", "assignment"),
    ("CREATE USER 'a'@'%' IDENTIFIED BY '«hunter»';", "assignment"),
    ("CREATE USER a IDENTIFIED WITH caching_sha2_password BY '«hunter»';", "assignment"),
    ("create user a identified by '«hunter»'", "assignment"),
    ("**Authorization:** Bearer «abc123def456»", "authorization"),
    ("ALTER ROLE a WITH PASSWORD '«hunter»'", "assignment"),
    # YAML, .netrc, C, Rust, SQL, and colons of another width.
    ("password: |\n  «abc123»\nuser: x\n", "assignment"),
    ("api_key: >-\n  «abc123DEF»\n", "assignment"),
    (r'{"values": "db:\n  password: |\n    «hunter»\n  user: x\n"}', "assignment"),
    ("password: &main «abc123»\nother: *main\n", "assignment"),
    ("token: !!str «abc123»\n", "assignment"),
    ("machine api.example login bob password «abc123»", "assignment"),
    ("machine api.example\n  login bob\n  password «abc123»\n", "assignment"),
    ('#define API_KEY "«abc123»"', "assignment"),
    ('let api_key: &str = "«abc123»";', "assignment"),
    ('const TOKEN: &\'static str = "«abc123»";', "assignment"),
    ('token: Option<String> = "«abc123»"', "assignment"),
    ("ALTER USER bob PASSWORD '«hunter»'", "assignment"),
    ("password\uff1a«abc123»", "assignment"),
    ("Password:\u00a0«abc123»", "assignment"),
    ("DB_PASSWORD=«correct-horse-battery»\n", "assignment"),
    # Options.
    ("docker login -u bob -p «abc123» ghcr.io", "authorization"),
    ("sshpass -p '«hunter2»' ssh bob@host", "authorization"),
    ("mysql -u root -p«hunter2» shop", "authorization"),
    ("helm registry login -u bob -p «abc123» ghcr.io", "authorization"),
    (r'{"cmd": "docker login -u \"bob\" -p \"«abc123»\" ghcr.io"}', "authorization"),
    (r'{"cmd": "mysqldump -h db -p\"«hunter2»\" shop"}', "authorization"),
    ("curl -su bob:«hunter2» https://host", "authorization"),
    # Headers.
    ("Authorization: SSWS «00abc123def456»", "authorization"),
    ("Authorization: Bearer «abc123def456»", "authorization"),
    ("curl -H 'Authorization: Basic «dXNlcjpwYXNz»' x", "authorization"),
    ('{"Authorization": "Bearer «abc123def456»"}', "authorization"),
    ("sent Bearer «a1b2c3d4e5f6g7h8i9» twice", "authorization"),
    ("curl -u bob:«hunter2» https://host", "authorization"),
    # Cookies.
    ("Cookie: theme=dark; PHPSESSID=«" + drawn(26, SMALL) + "»; lang=en", "cookie"),
    (
        "Set-Cookie: connect.sid=«s%3A" + drawn(32) + "." + drawn(43) + "»; Path=/; HttpOnly; Expires=Wed, 21 Oct 2026",
        "cookie",
    ),
    ("Cookie: sid=«" + drawn(26, SMALL) + "»;lang=en task_id=task-2026-11-23-000123", "cookie"),
    ("Cookie: $Version=1;   sid=«" + drawn(26, SMALL) + "»", "cookie"),
    ('{"cookie": "session=«' + drawn(60) + '»; a=b", "n": 1}', "cookie"),
    (r"{\"headers\": {\"Cookie\": \"sid=«" + drawn(32, HEX) + r"»\"}}", "cookie"),
    ("curl -H 'Cookie: _app_session=«" + drawn(40) + "==»' https://host", "cookie"),
    ('curl --cookie "sid=«' + drawn(32, HEX) + '»" https://host', "cookie"),
    # URLs.
    ("https://bob:«s3cret»@host.example/path?q=1", "url-password"),
    ("https://user:«pass»@host/", "url-password"),
    ("postgres://bob:«p@ss»@db:5432/x", "url-password"),
    ("https://bob:«s3cret»@host.example.com and bob again", "url-password"),
    ("redis://:«secret»@cache:6379/0", "url-password"),
    (r"https:\/\/bob:«s3cret»@host.example\/path", "url-password"),
    ("https://bob@corp.example:«s3cret»@host/", "url-password"),
    ("https://«a1b2C3d4e5F6g7H8i9J0k1L2»@host/repo.git", "url-password"),
    # Others.
    ("mail «bob.smith+tag@mail.example.co.uk», please", "email"),
    ("«o'brien@x.ie» wrote", "email"),
    ("«müller@bücher.de»", "email"),
    ('{"to": "«bob@example.com»"}', "email"),
    (r"to:\n«bob@example.com»\n", "email"),
    ("AWS key, then '«wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY»'", "aws-secret"),
    ("the token I was given, «x7F9q2Kp0LmZ4tR8vB1n», works", "random"),
    ("AccountName=a;AccountKey=«" + drawn(86) + "==»;EndpointSuffix=x", "azure"),
    ("https://a.blob.core.windows.net/c?sv=2022&sig=«" + drawn(43) + "%3D»&se=2030", "signed-url"),
    ("https://«hooks.slack.com/services/T00000000/B00000000/" + drawn(24) + "» posts", "slack-webhook"),
    ("https://discord.com/api/webhooks/123456789012345678/«" + drawn(68) + "»", "discord-webhook"),
]


@pytest.mark.parametrize(("marked", "rule"), MASKED)
def test_only_the_secret_goes(marked: str, rule: str) -> None:
    """The value is masked; its name, its quotes, the host and the sentence stay."""
    before, _, rest = marked.partition("«")
    _, _, after = rest.partition("»")
    assert redact(before + rest.removesuffix(after).removesuffix("»") + after) == (
        f"{before}[REDACTED:{rule}]{after}",
        {rule: 1},
    )


COLOURED = [
    "\x1b[36mpassword\x1b[0m=\x1b[33m«hunter2»\x1b[0m next",
    '\x1b[34;1m"password"\x1b[0m\x1b[1;39m: \x1b[0m\x1b[0;32m"«hunter2»"\x1b[0m',
    r"\u001b[36mpassword\u001b[0m=\u001b[33m«hunter2»\u001b[0m next",
    r"\\x1b[1mAPI_KEY\\x1b[0m: «abc123DEF»",
    r"\e[1mtoken\e[0m: \033[32m«abc123DEF»\033[0m",
    "the \x1b[1mAuthorization:\x1b(B\x1b[m Bearer «abc123def456»\x1b[K\n",
    "use «ghp_" + drawn(18) + "\x1b[m\x1b[K" + drawn(18) + "» here",
    "pass\u200bword: «hunter2»",
    "API_KEY\ufeff=«abc123»",
    "use «npm_" + drawn(20) + "\u00ad" + drawn(20) + "» here",
    "\u202epassword\u202c = «hunter2»",
]


@pytest.mark.parametrize("marked", COLOURED)
def test_what_is_not_seen_hides_no_secret(marked: str) -> None:
    """Colours of a terminal and signs without a width, wherever they stand, keep nothing from being masked."""
    before, _, rest = marked.partition("«")
    secret, _, after = rest.partition("»")
    masked = redact(before + secret + after)
    assert re.fullmatch(rf"{re.escape(before)}\[REDACTED:[a-z-]+\]{re.escape(after)}", masked.text)
    assert redact(masked.text) == (masked.text, {})


def test_colours_alone_change_nothing() -> None:
    """What is not seen stays where it is when nothing is masked."""
    text = "\x1b[32mpassed\x1b[0m 12 tokens\u200b, \\u001b[1mtoken\\u001b[0m: it is made once a day \x1b[ \\x1b["
    assert redact(text) == (text, {})


STAYS = [
    # Stand-ins.
    '"token": "<your key>", "token": null, "token": "***", "token": "${VAR}", "token": ""',
    "password=$PASSWORD token=${TOKEN} secret=$(pass show x) api_key={{ key }} API_KEY=<key> PASSWORD=%PASS%",
    'api_key = "your-api-key-here"; password: "********"; "password": "[hidden]"; "secret": "xxxxxxxx"',
    "password: null\ntoken: none\nsecret: undefined\n",
    "https://user:${PASSWORD}@host https://user:***@host https://user:xxxx@host.example.com https://user:<password>@host",
    # Prose.
    "the token: it is made once a day. Password: required. The secret: be patient.",
    "The password is sha256-hashed, and the token is a number.",
    'The key to success: work. "The secret": a story. Keyword: passwordless',
    '"password": "is too short (at least 8 characters)"',
    "Use -----BEGIN RSA PRIVATE KEY----- to find keys. Basic understanding of Bearer authentication.",
    "password: |\n  Enter the one that was sent to you.\n",
    "token: >-\n  the token of the session, see below",
    "token: &main\n  ttl: 30s2",
    "password: !Ref DBPassword1\ntoken: !Sub x1",
    "fn f(token: &str, secret: &[u8], key: Option<Key1>) -> Token; let token: &str = get1(); const KEY: &str = KEY2;",
    "a user bob password reset; log in as user x2 password forgotten; login form password field2 is empty",
    "#define TOKEN_MAX 128\n#define KEY_SIZE 32u\nthe user's password 'is' hashed. ALTER USER bob PASSWORD NULL",
    "docker login -u bob -p $PASS && docker run -p 8080:80 x; mysql -u root -p shop; mysql --port 3306 -P3307; mkdir -p a1b2c3",
    'mysql -p${PASS} x; sshpass -p "$PASS" ssh x; curl -sSLo out.tar https://h:80/x; the login page -p is short for --port',
    "ssh bob-at-login.cluster -p 2222; ssh login host -p 2222\ngh auth login -p https\ncargo test login -p auth-service1",
    r'{"text": "fix the login\nmkdir -p src/pages/home1\nthe docker login\nmkdir -p src/pages"} the login command with -p option',
    "find / -name mysql -print0 2>/dev/null\nfind /var/lib/mysql -prune -o -print\ndocker run --name mysql -p3306:3306 -d x",
    "DB_PASSWORD=<your-password> PASSWORD=your-password-here",
    "Cookie: theme=dark; lang=en-GB. Set-Cookie: id=x; Path=/srv/app1/static/files; Domain=app1.internal.example.com; Max-Age=3600",
    "the cookie = response.cookies.get(name1); cookie: 'httpOnly' and secure; cookies=cookiejar_of_session1; cookie banner=v2",
    "cookie accepted request_id=550e8400-e29b-41d4-a716-446655440000 of commit=3f786850e387550fdab836ed7e6dc881de23001b",
    "cookie set; request_id=550e8400-e29b-41d4-a716-446655440000, Cookie: lang=en seen by task_id=task-2026-11-23-000123",
    "cookie jar of task_id=task-2026-11-23-000123, the cookie banner: src=/static/js/consent.v2.min.js",
    "Cookie: session=<your-session-cookie>; sid=${SESSION_COOKIE_OF_THE_USER} Cookie: sid=********************",
    # Numbers and names that only contain such a word.
    '"max_tokens": 4096, "token_allocation": 50000, "total_tokens": 12, tokens: 1234, "token_type": "bearer"',
    '"primary_key": "id12345", "cache_key": "abc12345", "keyboard": "us-101", "author": "bob12345", bypass=1234567',
    "monkey=abc12345 compass: north123 passed: 12/12 tests",
    # Code.
    "def login(password: str, token: Optional[str] = None, secret: bytes = b'') -> Token: ...",
    "client = Client(password=password, token=self.token, api_key=settings.api_key, secret=get_secret(1))",
    'token = tokens[0]; password = getpass(); api_key = os.environ["API_KEY"]; key = f"{prefix}-{token}"',
    'const token = process.env.TOKEN; secret := os.Getenv("SECRET_NAME"); let password: string;',
    'headers = {"Authorization": f"Bearer {token}"}; x = {"authorization": header}',
    "@pytest.mark.parametrize def f(): return a@b",
    "git@github.com:org/repo.git ssh://git@host/x deploy@host.example.com:/srv/www user@localhost root@10.0.0.1",
    "<img src='icon@2x.png'> npm i @scope/pkg@1.2.3 image@sha256:" + drawn(64, HEX),
    # Bold type, fields and arguments side by side, statements.
    "**Token:** it is made once a day. **Password:** required. **Tokens**: 1,234. __Secret__: be patient",
    "tokens*=factor2; tokens**=factor2; password=*** and more; password: ** (two stars) token:***",
    '{"name": "token_count", "value": 1000000}, {"name": "MAX_TOKENS", "value": "4096"}, {"name": "token", "value": null}',
    '{"name": "password", "value": ""}, {"id": "password", "value": "<your password>"}, {"name": "password", "type": "text"}',
    "- name: TOKEN_TTL\n  value: 3600s\n- name: SECRET_NAME\n  value: db-creds-2\n- name: API_TOKEN\n  valueFrom:\n    secretKeyRef: x1",
    '{"key": "id12345", "value": "abc12345"}, {"name": "Bob", "value": "abc12345"}, "the password and its value: abc12345"',
    '["password", "address1", "sha256"]; ("token", "x12345"); parser.add_argument("--password", "-p", help="the password")',
    'click.option("--api-key", "api_key"); os.getenv("API_KEY", ""); os.getenv("TOKEN", default); define("SECRET", secret)',
    'getenv("TOKEN_URL", "abc12345"); fetch("tokens", {"a1": 1}); ["--token", "--verbose2"]',
    "ENV DB_PASSWORD $PASSWORD\nARG API_KEY\nENV KEY_COUNT abc123\nwe set -x TOKEN usage up",
    "identified by 'null'; the cause was identified by Bob; identified by \"the team\" in 2025; a user identified by `the_id`",
    "log in with token `GITHUB_TOKEN`, with password `DB_PASSWORD`; it begins with token 'SEMICOLON'; with auth 'basic-auth'",
    "sent with credentials 'same-origin', and with secret 'refresh-button'",
    "Identified by 'team-lead' as the root cause. Identified by `user_id`",
    "- **Authorization:** role-based access\n- **Authorization**: OAuth2/OIDC\n__Authorization__: mutual-TLS",
    # What is as long as a token, or begins like one.
    "tvly-search-results-from-last-week-and-before jina_embeddings_v3_results_with_reranker_scores_and_more",
    "fc-" + drawn(64, HEX) + " fc-d41d8cd98f00b204e9800998ecf8427e-report e2b_" + drawn(64, HEX) + " csk-" + UUID,
    "sk_"
    + drawn(64, HEX)
    + " sk_3f786850e387550fdab836ed7e6dc881de23001b pcsk_ab_"
    + drawn(60)
    + " rpa_process_automation_v2_of_all",
    "sk-lf-018f134a-069e-3fab-8c3b wandb_v1_runs_of_last_week_are_kept wandb_v2_" + drawn(70),
    "vcp_review_of_all_findings_in_the_last_two_weeks_by_worker_7 re_compiled_internationalizationX re_match_groups_of_two_or_more",
    "xkeysib-3f786850e387550fdab836ed7e6dc881de23001b lin_oauth_" + drawn(40, HEX) + " bkua_" + drawn(64, HEX),
    "squ_" + drawn(64, HEX) + " pul-" + drawn(64, HEX) + " pat-na1-of-the-north-atlantic-region-tables pat-sa1-" + UUID,
    "sgp_singapore_region_tables_and_views_of_all sgp_"
    + drawn(64, HEX)
    + " ops_eyJ"
    + drawn(100)
    + " pnu_"
    + drawn(48),
    "rdme_"
    + drawn(64, HEX)
    + " shippo_live_results_and_more_of_it EZAK"
    + drawn(64)
    + " LTAI"
    + drawn(40)
    + " fo1_"
    + drawn(60),
    "data:application/octet-stream;base64,EAAAAAAAAAAAAAAAAAAAAAAA"
    + "A" * 60
    + " x/EAAB"
    + drawn(70)
    + " EAAB_"
    + "aB" * 40,
    "AQ.package.name.of.a.class xAQ."
    + drawn(50)
    + " 1.AQ."
    + drawn(50)
    + " AQ."
    + "kebab-name-" * 5
    + " AQ."
    + drawn(30),
    "1//0 half, 21//0" + drawn(50) + " http://h/1//0" + drawn(20) + " 1//1" + drawn(50),
    "cfut_"
    + drawn(40)
    + " cfut_settings_of_all_zones_and_accounts_that_are_there KGAT_"
    + drawn(64, HEX)
    + " crsr_"
    + drawn(40, HEX),
    "SWMTKN-1-is-how-they-begin mdb_sa_sk_ sha256~"
    + drawn(20)
    + " image@sha256:"
    + drawn(64, HEX)
    + " CLOJARS_"
    + drawn(64, HEX),
    "napi_get_value_string_utf8_and_create_external_arraybuffer_of_it napi_"
    + "a" * 64
    + " snyk_uat.x access_token$production$x",
    drawn(120) + "AZDO" + drawn(90) + " sk_org_live_chart_of_all_teams",
    "dt0c01. is a prefix, dp.st.prod.config and dp.st."
    + "words." * 5
    + " dp.scim.users JQQJ99"
    + drawn(30)
    + " ab JQQJ99 cd",
    # What is long and looks like a secret.
    "commit 3f786850e387550fdab836ed7e6dc881de23001b, tree 89e6c98d92887913cadf06b2adb97f26cde4849b",
    "sha256:" + drawn(64, HEX) + " md5 d41d8cd98f00b204e9800998ecf8427e",
    "id 123e4567-e89b-12d3-a456-426614174000 task moe-test-ddqd-v5-1763246973-121f1b91 worker dev-worker-04B8F99C",
    "token store in src/components/Auth2/TokenStoreFactory2/index.test.tsx; secret scan of agents/workers/worker-22",
    '"token_file": "/run/secrets/token", token: /etc/app/token.pem, secret: 2025-11-16T10:33:23Z, password: v1.2.3',
    "2025-11-16T10:33:23-0600 2025-11-12T07:54:12Z 1763246973 +49 30 1234567 10.0.0.1:8080 [::1]:443",
    "data:image/png;base64," + drawn(4000, LETTERS + "+/"),
    "-----BEGIN CERTIFICATE-----\n" + drawn(64) + "\n-----END CERTIFICATE-----",
    "-----BEGIN PUBLIC KEY-----\n" + drawn(64) + "\n-----END PUBLIC KEY-----",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + drawn(43) + " a comment",
    "class='sk-top-container sk-toggleable-content-and-more' task-based-risk-assessment-for-everyone",
    "http://localhost:8080/path http://host:80?email=x http://[::1]:80/",
    "\x00 \ud800 \udfff \u202e İ \r\n",
]


def test_a_number_in_json_becomes_a_string() -> None:
    """What was masked can be read as JSON again, also where no quotes stood."""
    text = json.dumps({"password": 123456, "inner": json.dumps({"passcode": 1234, "n": 1})})
    redacted = json.loads(redact(text).text)
    assert redacted["password"] == "[REDACTED:assignment]"
    assert json.loads(redacted["inner"]) == {"passcode": "[REDACTED:assignment]", "n": 1}
    fields = redact(json.dumps([{"name": "PASSWORD", "value": 123456}, {"name": "PASSWORD", "value": True}]))
    assert json.loads(fields.text) == [
        {"name": "PASSWORD", "value": "[REDACTED:assignment]"},
        {"name": "PASSWORD", "value": True},
    ]


@pytest.mark.parametrize("text", STAYS)
def test_what_is_no_secret_stays(text: str) -> None:
    """Stand-ins, prose, code, digests, ids, dates and paths survive, character by character."""
    assert redact(text) == (text, {})


KINDS = ["RSA ", "EC ", "DSA ", "OPENSSH ", "ENCRYPTED ", "ED25519 ", "", "PGP "]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\\n", "\\r\\n", "\\\\n", "\\\\\\\\n", "\n    "])
@pytest.mark.parametrize("cut", ["whole", "tail", "one line", "head", "within a line"])
def test_a_private_key_goes_with_its_frame(kind: str, line_break: str, cut: str) -> None:
    """PEM and OpenPGP blocks are masked whole, also in JSON of any depth, and when either end is missing."""
    block = " BLOCK" if kind == "PGP " else ""
    lines = [f"-----BEGIN {kind}PRIVATE KEY{block}-----", *KEY_LINES.split("\n")]
    if kind == "PGP ":
        lines[1:1] = ["Version: GnuPG v2"]
    if kind == "RSA ":
        lines[1:1] = ["Proc-Type: 4,ENCRYPTED", "DEK-Info: AES-128-CBC,0123456789ABCDEF"]
    lines.append(f"-----END {kind}PRIVATE KEY{block}-----")
    match cut:
        case "tail":
            lines = lines[:-2]
        case "one line":
            lines = lines[: 4 if kind in {"RSA ", "PGP "} else 2]
        case "head":
            lines = lines[4:]
        case "within a line":
            lines = [*lines[:5], lines[5][:11]]
    text = line_break.join(lines)
    around = ("", "") if cut == "head" else ("see: ", "")
    assert redact(around[0] + text + around[1]) == (around[0] + "[REDACTED:private-key]", {"private-key": 1})


@pytest.mark.parametrize("quote", [urllib.parse.quote, urllib.parse.quote_plus])
def test_a_private_key_in_a_form_goes(quote: Callable[[str], str]) -> None:
    """As URLs and forms have it, a key goes with its frame, and the other fields stay."""
    assert redact(f"key={quote(PEM)}&name=bob").text == "key=[REDACTED:private-key]&name=bob"
    prose = quote("-----BEGIN PRIVATE KEY----- is how it begins")
    assert redact(prose).text == prose


def test_a_putty_key_goes() -> None:
    """PuTTY's own format is masked from its first line to the last."""
    putty = "PuTTY-User-Key-File-2: ssh-rsa\nEncryption: none\nComment: x\nPublic-Lines: 1\n" + drawn(64)
    putty += "\nPrivate-Lines: 2\n" + drawn(64) + "\n" + drawn(30) + "==\nPrivate-MAC: " + drawn(40, HEX)
    assert redact("a\n" + putty + "\nb c") == ("a\n[REDACTED:private-key]\nb c", {"private-key": 1})


def test_a_key_that_was_cut_takes_nothing_along() -> None:
    """Behind a key without an end, the JSON around it goes on as it was."""
    text = json.dumps({"key": PEM[:300], "status": "completed", "note": "all is well with this one"})
    redacted = json.loads(redact(text).text)
    assert redacted == {"key": "[REDACTED:private-key]", "status": "completed", "note": "all is well with this one"}


def test_many_keys_and_frames_without_keys() -> None:
    """Each key is one placeholder, and a frame that stands alone does not reach for the next."""
    text = f"-----BEGIN PRIVATE KEY----- is how it begins.\n{PEM}\n{PEM}\n-----END RSA PRIVATE KEY----- ends it."
    assert redact(text).counts == {"private-key": 2}
    assert redact(text).text.startswith("-----BEGIN PRIVATE KEY----- is how it begins.\n[REDACTED:private-key]\n")


# --------------------------------------------------------------------------------------------------------- properties

secrets = st.sampled_from([token for _, token in TOKENS])
names = st.sampled_from(["password", "api_key", "clientSecret", "AUTH_TOKEN", "db-password", "token", "key", "note"])
pieces = st.one_of(
    secrets,
    names,
    st.text(max_size=12),
    st.sampled_from(
        [
            *': = " \' \\" \\\\\\" \\n \n , ; & @ . / :// {} [ ] ( ) < > </ - _ é'.split(" "),
            " ",
            "bob@example.com",
            "https://u:p@h",
            "hunter2",
            "aB3dE6gH9jK2mN5pQ8rS",
            "Bearer ",
            "Authorization: ",
            "-----BEGIN PRIVATE KEY-----",
            "-----END PRIVATE KEY-----",
            "[REDACTED:github]",
            "[REDACTED:",
            "]",
            "is",
            "curl -u a:b",
            "aws",
            "eyJ",
            "sk-",
            "SG.",
            "123456789:",
            "a" * 40,
            "\x1b[1m",
            "\\u001b[0m",
            "\u200b",
        ]
    ),
)
texts = st.lists(pieces, max_size=14).map("".join)


def placeholders(text: str) -> Counter[str]:
    return Counter(PLACEHOLDERS.findall(text))


@settings(max_examples=1500, deadline=None)
@given(texts)
def test_twice_is_once(text: str) -> None:
    """Redacting what is redacted changes nothing and counts nothing."""
    once = redact(text)
    assert redact(once.text) == (once.text, {})


@settings(max_examples=500, deadline=None)
@given(texts)
def test_counts_are_exact(text: str) -> None:
    """The counts are the placeholders that have come, rule by rule, and the rules are those that are listed."""
    text = text.replace("[REDACTED", "")
    redacted = redact(text)
    assert redacted.counts == dict(placeholders(redacted.text))
    assert set(redacted.counts) <= set(RULES)
    assert (redacted.text == text) == (not redacted.counts)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12) | secrets | secrets.map("see {} here".format),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names | st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


def strings(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case list():
            for item in value:
                yield from strings(item)
        case dict():
            for item in value.values():
                yield from strings(item)
        case _:
            pass


@settings(max_examples=400, deadline=None)
@given(json_values, st.integers(0, 4), st.booleans())
def test_json_stays_json_at_any_depth(value: Any, depth: int, escaped: bool) -> None:  # noqa: FBT001
    """JSON that is a string in JSON, several times over, can be read as before, and no token is left in it."""
    text = json.dumps(value, ensure_ascii=escaped)
    for _ in range(depth):
        text = json.dumps({"output": text}, ensure_ascii=escaped)
    read = redact(text).text
    for _ in range(depth):
        read = json.loads(read)["output"]
    left = "\n".join(strings(json.loads(read)))
    for _, token in TOKENS:
        assert token not in left


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60).filter(lambda text: "@" not in text), secrets, st.text(max_size=60))
def test_text_of_any_kind_around_a_token_does_not_save_it(before: str, token: str, after: str) -> None:
    """Whatever stands around it, a token on a line of its own is gone."""
    assert token not in redact(f"{before}\n{token}\n{after}").text


def test_small_letters_stand_where_the_large_ones_stood() -> None:
    """Only one character of Unicode grows when it is made small, and it is dealt with: places stay the same."""
    grows = [chr(code) for code in range(sys.maxunicode + 1) if len(chr(code).lower()) != 1]
    assert grows == ["\u0130"], unicodedata.unidata_version
    text = "\u0130" * 50 + " PASSWORD=hunter2 " + "\u0130" * 50
    assert redact(text).text == text.replace("hunter2", "[REDACTED:assignment]")


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="aZ0_- é\n\ud800", max_size=200))
def test_stretches_are_what_a_pattern_finds(text: str) -> None:
    """The fast way to find runs of at least 20 characters finds what the plain way does."""
    members = table("aZ0_-")
    assert list(stretches(text, members)) == [found.span() for found in re.finditer(r"[aZ0_-]{20,}", text)]


def test_spans_that_overlap_are_one() -> None:
    """One placeholder for what several rules found, under the name of the first in order; neighbours stay two."""
    spans = [Span(4, 9, "b"), Span(0, 5, "a"), Span(9, 12, "b"), Span(1, 2, "b")]
    assert joined(spans, ("b", "a")) == [Span(0, 9, "b"), Span(9, 12, "b")]


# ------------------------------------------------------------------------------------------------------- only secrets


def test_what_the_module_tells_about_itself() -> None:
    """Every rule has one name, which a placeholder can hold, and there is a version to note beside what was redacted."""
    assert len(set(RULES)) == len(RULES)
    assert all(PLACEHOLDERS.fullmatch(f"[REDACTED:{rule}]") for rule in RULES)
    assert VERSION
    assert isinstance(redact(""), Redacted)


# --------------------------------------------------------------------------------------------------------- the oracle

DRAWN = st.integers(0, 10**6)
# A plugin of detect-secrets that goes by shape alone, and what it finds at the lengths that providers give out.
ORACLE = [
    ("artifactory", "ArtifactoryDetector", lambda n: "AKCp" + drawn(69, seed=n)),
    ("artifactory", "ArtifactoryDetector", lambda n: "AP" + drawn(1, "0123456789ABCDEF", n) + drawn(33, seed=n)),
    ("aws", "AWSKeyDetector", lambda n: "AKIA" + drawn(16, LETTERS[26:], n)),
    ("aws", "AWSKeyDetector", lambda n: f'aws_key = "{drawn(40, LETTERS + "+/", n)}"'),
    ("azure_storage_key", "AzureStorageKeyDetector", lambda n: f"AccountKey={drawn(86, LETTERS + '+/', n)}=="),
    ("basic_auth", "BasicAuthDetector", lambda n: f"https://bob:{drawn(9, LETTERS + '._~%', n)}@host"),
    ("discord", "DiscordBotTokenDetector", lambda n: f"M{drawn(23 + n % 3, seed=n)}.{drawn(6, seed=n)}.{drawn(27, seed=n)}"),
    ("github_token", "GitHubTokenDetector", lambda n: f"gh{'pousr'[n % 5]}_{drawn(36, LETTERS, n)}"),
    ("gitlab_token", "GitLabTokenDetector", lambda n: f"{('glpat-', 'gldt-', 'glrt-', 'GR1348941', 'glcbt-', 'gloas-')[n % 6]}{drawn(64 if n % 6 == 5 else 20, LETTERS, n)}"),
    ("jwt", "JwtTokenDetector", lambda n: ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in ('{"alg":"HS256"}', f'{{"sub":"{n}"}}', drawn(20, seed=n)))),
    ("mailchimp", "MailchimpDetector", lambda n: f"{drawn(32, HEX, n)}-us{n % 21}"),
    ("npm", "NpmDetector", lambda n: f"//registry.example/:_authToken=npm_{drawn(36, seed=n)}"),
    ("npm", "NpmDetector", lambda n: f"//registry.example/:_authToken={drawn(36, HEX, n)}"),
    ("openai", "OpenAIDetector", lambda n: f"sk-{drawn(20, seed=n)}T3Blbk" + f"FJ{drawn(20, seed=n + 1)}"),
    ("openai", "OpenAIDetector", lambda n: f"sk-proj-{drawn(70, LETTERS + '_-', n)}{drawn(20, seed=n)}T3Blbk" + f"FJ{drawn(20)}"),
    ("private_key", "PrivateKeyDetector", lambda n: f"-----BEGIN {('RSA ', 'EC ', 'DSA ', 'OPENSSH ', '')[n % 5]}PRIVATE KEY-----\n{drawn(64, seed=n)}"),
    ("pypi_token", "PypiTokenDetector", lambda n: "pypi-" + f"AgEIcHlwaS5vcmc{drawn(70 + n % 99, seed=n)}"),
    ("sendgrid", "SendGridDetector", lambda n: f"SG.{drawn(22, seed=n)}.{drawn(43, seed=n)}"),
    ("slack", "SlackDetector", lambda n: f"xox{'abpors'[n % 6]}-{n}-{n * 7}-{drawn(24, seed=n).lower()}"),
    ("slack", "SlackDetector", lambda n: f"https://hooks.slack.com/services/T{drawn(8, seed=n)}/B{drawn(8, seed=n)}/{drawn(24, seed=n)}"),
    ("square_oauth", "SquareOAuthDetector", lambda n: f"sq0csp-{drawn(43, LETTERS + '_-', n)}"),
    ("stripe", "StripeDetector", lambda n: f"{'rs'[n % 2]}k_live_{drawn(24, seed=n)}"),
    ("telegram_token", "TelegramBotTokenDetector", lambda n: f"{10**8 + n}:{drawn(35, LETTERS + '_-', n)}"),
    ("twilio", "TwilioKeyDetector", lambda n: f"{'AC' if n % 2 else 'SK'}{drawn(32, HEX, n)}"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("module", "name", "make"), ORACLE, ids=[f"{name}-{n}" for n, (_, name, _) in enumerate(ORACLE)]
)
def test_nothing_is_left_that_detect_secrets_finds_by_shape(module: str, name: str, make: Any) -> None:
    """Whatever the token-shaped plugins of detect-secrets see in a text, they no longer see in the redacted one."""
    # It imports what opens sockets, and asks nobody: finding is not verifying.
    plugin = getattr(__import__(f"detect_secrets.plugins.{module}", fromlist=[name]), name)()
    for number in range(0, 100_000, 997):
        secret = make(number)
        for text in (secret, f"use {secret}", f'"{secret}"'):
            assert any(list(plugin.analyze_string(line)) for line in text.splitlines()), "the oracle sees it"
            left = redact(text).text
            assert not any(list(plugin.analyze_string(line)) for line in left.splitlines()), (text, left)


# --------------------------------------------------------------------------------------------------------------- time

# Each is what a rule waits for, over and over, and never, or always, gets.
SEEDS = [
    "a", "aB1", "A1", "0123456789abcdef0123456789abcdef ", "-", "_", "/", "/a", "\\", '"', "'", "\r\n", "\u0130", "\\u0022", " ",
    "sk-", "sk-ant-", "sk-aaaaaaaaaaaaaaaaaaaaa-T3Blbk ", "ghp_", "glpat-", "AKIA", "xoxb-", "xoxb-1-", "npm_", "AIza", "LS0tLS1CRUdJTi",
    "AKIAABCDEFGHIJKLMNOP/", "b3BlbnNzaC1rZXktdjEAAAAAAAAA+", "curl -u a:b",
    "eyJ", "eyJ.", "eyJaaaaaaaaaaaaaaaaaaa.", "SG.", "SG." + "a" * 20, "hvs." + "a" * 20 + ".", "JQQJ99", "1//0", "1//0" + "a" * 50 + " ", "AQ." + "a" * 40 + ".", "dp.st." + "a" * 40 + ".", "123456789:" + "a" * 35 + " ", "M" + "a" * 24 + ".",
    "hooks.slack.com/a", "/webhooks/123456789012345678/", "AccountKey=", "&sig=", "?X-Amz-Signature=", "1Q~", "pat" + "a" * 14 + ".",
    "-----BEGIN PRIVATE KEY-----\n", "-----BEGIN PRIVATE KEY-----\nA\n", "-----END PRIVATE KEY-----\n", "AAAA\n-----END PRIVATE KEY-----\n",
    "-----BEGIN PRIVATE KEY-----" + "\\n" * 40, "PuTTY-User-Key-File-2: a\n", "A" * 64 + "\n",
    "@", "a@", "a@a.", "a@a.aa ", "://", "://a:", "://a:b@", ":\\/\\/a:", "bearer ", "basic ", " -u a:b", "curl -u ",
    "token", "token:", "token=", 'token:"', 'token:\\"', 'token:"a\\"', "password:['", 'password("', "password is ", "<token>", "<password>a",
    "token: aaaaaaaaaa ", 'tokens:["a1b2c3",', "token:“", "api key", "api_key=abc1234 ", "--token --token", "password: \"\\\"\\\\\\\"",
    "password" + "\\" * 64, "secret aB3dE6gH9jK2mN5pQ8rS\n", "aws ", "aws " + "aB1/" * 10 + " ", "[REDACTED:", "[REDACTED:github]",
    "password=" + "a" * 300 + "(", "**token**:", "token**", 'name:"token",value:', 'name:"token",' + " " * 40, "name:token" + "\\n" * 40,
    "token" + "\\" * 64 + "n", '"--token","', "identified by '", "identified with a ", "getenv(\"token\",", "ENV token a", "token:" + "\t" * 32, "passwordpassword=a1", "&quot;token&quot;:&quot;",
    "docker login ", "docker login -p ", "mysql -p", "mysql ", "token: |\n", "password: & ", "token: &'static a", "login a password ", "user a\n", "sshpass -p ",
    "AZDO", "A" * 76 + "AZDO", "sha256~", "snyk_uat.aaaaaaaa.", "access_token$production$", "%0A", "-----BEGIN+PRIVATE+KEY-----%0A",
    "cookie:", "cookie: a=b; ", "cookie: a=" + "a1" * 20 + "; ", "cookie " + "a" * 80,
    "\x1b[1m", "\x1b[1", "\\u001b[0m", "\\" * 64 + "x1b[", "\u200b", "token\x1b[0m=\x1b[1ma1b2c3 ",
]  # fmt: skip
# The promise is for 5 MB; a tenth tells linear from quadratic as well.
SIZE = 5_000_000 if os.environ.get("AUTOLEARN_SLOW_TESTS") == "1" else 400_000


@pytest.mark.parametrize("seed", SEEDS, ids=[repr(seed[:30]).replace("/", "|") for seed in SEEDS])
def test_no_text_takes_long(seed: str) -> None:
    """A second of CPU for a megabyte is more than the worst text takes; what is typical takes a twentieth of it."""
    text = (seed * (SIZE // len(seed) + 1))[:SIZE]
    begin = time.process_time()
    redact(text)
    # The machine may be busy: a quadratic pattern would take minutes.
    assert time.process_time() - begin < 2.0 * SIZE / 1_000_000 + 0.2


def test_typical_text_goes_through_fast() -> None:
    """Some 25 MB a second where nothing else runs; a third of it is asked for, because something may."""
    text = "".join(
        f"Task {n}: the worker checked 14 files (see coordination/logs/worker-{n}.log), found {n % 7} findings of medium "
        "severity and wrote a report; all tests passed.\nNext: review the recommendations, then close the task.\n"
        for n in range(10_000)
    )
    redact(text[:1000])
    begin = time.process_time()
    assert redact(text).counts == {}
    assert len(text) / (time.process_time() - begin) > 8_000_000


def test_importing_costs_nothing_to_speak_of() -> None:
    """No library comes along, and no pattern is compiled before the first text."""
    code = (
        "import cortex_autolearn, string, sys; before = set(sys.modules); import cortex_autolearn.redact as redact;"
        "print([name for name in set(sys.modules) - before if not name.startswith('cortex_autolearn.redact')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
