"""Claude as the judge, one question at a time: the real package against a loopback service that behaves as the API."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import ssl
import subprocess
import sys
import time
import traceback
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, cast

import anthropic_rules as rules
import pytest
import trustme
from anthropic_api import AnthropicApi
from anthropic_http import Handler
from anthropic_rules import KEY
from claude_support import HAIKU, RUBRIC, SOON, ask_all, ask_one, refused, several, with_judge

from cortex_autolearn.adapters.claude import api_key, base_url, open_judge
from cortex_autolearn.adapters.claude.judge import ClaudeJudge
from cortex_autolearn.adapters.claude.patience import Patience
from cortex_autolearn.model.judgement import Answer, Ask, Judgement, ModelLife, Refusal, Usage
from cortex_autolearn.ports import BoundaryError, JudgeAuthError, JudgeBusyError, JudgeMissingError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MESSAGES = r"POST /v1/messages\Z"


@pytest.fixture
def api() -> Iterator[AnthropicApi]:
    with AnthropicApi() as running:
        yield running


# ------------------------------------------------------------------------------------------------------------- answers


def test_an_answer_is_what_the_service_said_and_charged(api: AnthropicApi) -> None:
    """Scores, reason, tokens, request id and model arrive as the service gave them."""
    found = ask_one(api, "Some work. [[score 4.5]]")
    assert found == Answer(
        "one",
        Judgement(4, 4, 4, 2, 4.5, "Scripted: 4.5."),
        Usage(16, 800, 0, found.usage.output_tokens if found.usage else 0),
        api.requests[-1]["id"],
        HAIKU,
    )
    assert api.charges[-1]["usage"]["output_tokens"] == found.usage.output_tokens


def test_every_ask_is_answered_once_and_no_more_than_allowed_are_under_way(api: AnthropicApi) -> None:
    """Forty asks, three at a time: forty answers, each by its own text, each charged once."""
    api.fail(MESSAGES, "slow", wait_s=0.05, times=40)
    found = ask_all(api, several(40), concurrency=3)
    assert {each.key for each in found} == {ask.key for ask in several(40)}
    for each in found:
        assert isinstance(each, Answer)
        assert each.judgement.overall == rules.judgement(f"Work number {each.key[5:]}.")["overall"]
    assert set(api.paid().values()) == {1}
    assert api.most_at_once == 3


def test_the_request_holds_what_the_api_documents_and_no_sampling_parameter(api: AnthropicApi) -> None:
    """One system text that is kept, one user text, a schema with scales as enums, a low effort: and nothing else."""
    ask_one(api, "Judge me.")
    body = json.loads(api.bodies[-1])
    assert set(body) == {"model", "max_tokens", "system", "messages", "output_config"}
    assert body["system"] == [{"type": "text", "text": RUBRIC, "cache_control": {"type": "ephemeral"}}]
    assert body["messages"] == [{"role": "user", "content": "Judge me."}]
    assert body["output_config"]["effort"] == "low"
    properties = body["output_config"]["format"]["schema"]["properties"]
    assert properties["clarity"]["enum"] == [1, 2, 3, 4, 5]
    assert properties["overall"]["enum"] == [1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5]
    assert next(iter(properties)) == "rationale"


def test_a_rubric_is_paid_for_once_and_then_read_from_the_cache(api: AnthropicApi) -> None:
    """The second ask with the same system text writes nothing to the cache and reads it."""
    first, second = (each.usage for each in ask_all(api, several(2), concurrency=1))
    assert first is not None
    assert second is not None
    assert (first.cache_write_tokens, first.cache_read_tokens) == (800, 0)
    assert (second.cache_write_tokens, second.cache_read_tokens) == (0, 800)


def test_a_model_that_takes_no_effort_is_not_asked_for_one(api: AnthropicApi) -> None:
    """Haiku 4.5 refuses the parameter; the models API says so, and the request does without."""
    found = ask_one(api, "Judge me.", model="claude-haiku-4-5")
    assert isinstance(found, Answer)
    assert found.model == "claude-haiku-4-5-20251001"
    assert "effort" not in json.loads(api.bodies[-1])["output_config"]


def test_an_ask_without_a_system_text_is_sent_without_one(api: AnthropicApi) -> None:
    """An empty text may not be sent, nor kept."""
    (found,) = ask_all(api, [Ask("one", "", "Judge me.")])
    assert isinstance(found, Answer)
    assert "system" not in json.loads(api.bodies[-1])


@pytest.mark.parametrize(
    ("order", "reason", "retryable"),
    [
        ("[[refusal]]", "the model declined to answer (cyber)", False),
        ("[[max_tokens]]", "cut short: max_tokens", True),
        ("[[stop pause_turn]]", "cut short: pause_turn", True),
        ("[[stop tool_use]]", "cut short: tool_use", True),
        ("[[say I think it is good.]]", "no judgement", True),
        ("[[say {}]]", "missing required field", True),
        ("[[say (1, 2)]]", "Expected `object`", True),
        ('[[change "overall": 2.2]]', "multiple", True),
        ('[[change "overall": 5.5]]', "<= 5", True),
        ('[[change "overall": 0.5]]', ">= 1", True),
        ('[[change "overall": "4"]]', "Expected `float`", True),
        ('[[change "overall": null]]', "Expected `float`", True),
        ('[[change "clarity": 6]]', "<= 5", True),
        ('[[change "clarity": 0]]', ">= 1", True),
        ('[[change "clarity": 4.0]]', "Expected `int`", True),
        ('[[change "clarity": "4"]]', "Expected `int`", True),
        ('[[change "clarity": true]]', "Expected `int`", True),
        ('[[change "rationale": " "]]', "gives no reason", True),
        ('[[change "rationale": 1]]', "Expected `str`", True),
        ('[[change "style": 4]]', "unknown field", True),
        ("[[without rationale]]", "missing required field", True),
        ("[[without clarity]]", "missing required field", True),
        ("[[twice]]", "a key comes twice", True),
    ],
)
def test_an_answer_that_is_no_judgement_is_refused_and_its_cost_is_known(
    api: AnthropicApi, order: str, reason: str, retryable: bool
) -> None:
    """Nothing is guessed: one wrong type, step, range, key or ending, and there is no score."""
    found = refused(api, f"Work. {order}")
    assert (found.key, found.kind, found.retryable) == ("one", "invalid", retryable)
    assert reason in found.reason
    assert found.usage is not None
    assert found.usage.output_tokens > 0
    assert found.request_id == api.requests[-1]["id"]


def test_a_text_longer_than_the_model_reads_is_too_large(api: AnthropicApi) -> None:
    """The stop reason for a full context is no fault of the answer: asking again is in vain."""
    found = refused(api, "[[stop model_context_window_exceeded]]")
    assert (found.kind, found.retryable) == ("too_large", False)


def test_an_answer_that_is_no_json_is_refused(api: AnthropicApi) -> None:
    """A body that is no message is that ask's, and says so."""
    api.fail(MESSAGES, "garble")
    found = refused(api, "Work.")
    assert (found.kind, found.retryable, found.usage) == ("invalid", True, None)
    assert "no message" in found.reason


# ------------------------------------------------------------------------------------------------------ one ask's fault


def test_what_the_service_refuses_of_one_ask_stops_no_other(api: AnthropicApi) -> None:
    """A 400 for one is its refusal, never to be repeated; the others are answered."""
    asks = [Ask("bad", RUBRIC, " "), *several(3)]
    found = {each.key: each for each in ask_all(api, asks)}
    bad = found.pop("bad")
    assert isinstance(bad, Refusal)
    assert (bad.kind, bad.retryable, bad.usage) == ("errored", False, None)
    assert "text content blocks must be non-empty" in bad.reason
    assert bad.request_id is not None
    assert all(isinstance(each, Answer) for each in found.values())
    assert len(found) == 3


def test_an_ask_beyond_the_size_limit_is_never_sent(api: AnthropicApi) -> None:
    """More than 32 MB is refused here; the service sees nothing of it."""
    found = refused(api, "x" * 32_000_001)
    assert (found.kind, found.retryable) == ("too_large", False)
    assert api.bodies == []


def test_a_413_is_too_large(api: AnthropicApi) -> None:
    """Where the service, or a gateway before it, takes less, that ask alone is refused."""
    api.fail(MESSAGES, status=413, kind="request_too_large", text="Request exceeds the maximum size")
    found = refused(api, "Work.")
    assert (found.kind, found.retryable) == ("too_large", False)


def test_a_text_that_is_no_unicode_is_refused(api: AnthropicApi) -> None:
    """Half of a surrogate pair cannot be sent; it is that ask's refusal, and asking for its size says the same."""
    found = refused(api, "half \ud800 pair")
    assert (found.kind, found.retryable) == ("errored", False)
    with pytest.raises(ValueError, match="surrogates"):
        ClaudeJudge(KEY, api.url).ask_bytes(Ask("one", "", "half \ud800 pair"), model=HAIKU)


# --------------------------------------------------------------------------------------------------- everybody's faults


@pytest.mark.parametrize(
    ("status", "kind"),
    [(429, "rate_limit_error"), (529, "overloaded_error"), (500, "api_error"), (503, "api_error"), (408, "x")],
)
def test_a_busy_service_is_asked_again(api: AnthropicApi, status: int, kind: str) -> None:
    """What passes by itself within the patience is no error, and is charged once."""
    api.fail(MESSAGES, status=status, kind=kind, times=2)
    assert isinstance(ask_one(api, "Work."), Answer)
    assert api.paid() == {"Work.": 1}
    assert [each["status"] for each in api.requests[1:]] == [status, status, 200]


@pytest.mark.parametrize("how", ["drop", "late_drop", "slow", "drip"])
def test_an_ask_whose_answer_got_lost_is_not_sent_again(api: AnthropicApi, how: str) -> None:
    """It may have been charged, and whoever asks has put aside what one asking costs, not two."""
    hasty = SOON._replace(answer_s=0.2)
    api.fail(MESSAGES, how, wait_s=1.5)
    with pytest.raises(JudgeBusyError) as caught:
        ask_one(api, "Work.", patience=hasty)
    assert not caught.value.is_free
    assert len([each for each in api.requests if each["path"] == "/v1/messages"]) <= 1
    assert len(api.charges) <= 1


@pytest.mark.parametrize(("status", "kind"), [(500, "x"), (502, "x"), (504, "x"), (504, "timeout_error"), (520, "x")])
def test_an_ask_that_a_gateway_gave_up_is_not_sent_again(api: AnthropicApi, status: int, kind: str) -> None:
    """The provider may have answered, and charged, what nobody in between waited for."""
    api.fail(MESSAGES, "late_refuse", status=status, kind=kind, text="<html>Gateway Time-out</html>", times=9)
    with pytest.raises(JudgeBusyError) as caught:
        ask_one(api, "Work.")
    assert not caught.value.is_free
    assert len(api.charges) == 1


def test_what_is_only_looked_at_is_asked_again_over_a_broken_connection(api: AnthropicApi) -> None:
    """Looking costs nothing but time."""
    api.fail("GET /v1/models", "drop", times=2)
    assert isinstance(ask_one(api, "Work."), Answer)
    assert api.paid() == {"Work.": 1}


def test_the_service_says_how_long_to_wait(api: AnthropicApi) -> None:
    """``retry-after`` is kept to by all who ask together, not only by the one who was told."""
    api.fail(MESSAGES, status=429, kind="rate_limit_error", headers={"retry-after": "0.4"})
    begun = time.monotonic()
    found = ask_all(api, several(6), concurrency=1)
    assert 0.4 <= time.monotonic() - begun < 3
    assert len(found) == 6


def test_patience_has_an_end(api: AnthropicApi) -> None:
    """After so many tries the service counts as busy: the error can be retried, and nothing was charged."""
    api.fail(MESSAGES, status=529, kind="overloaded_error", text="Overloaded", times=100)
    with pytest.raises(JudgeBusyError) as caught:
        ask_one(api, "Work.")
    assert (caught.value.retryable, caught.value.retry_after_s) == (True, None)
    assert "HTTP 529: Overloaded" in str(caught.value)
    assert len([each for each in api.requests if each["status"] == 529]) == SOON.tries
    assert api.charges == []


def test_whether_a_busy_service_may_have_charged_is_known() -> None:
    """Error answers are free; a connection that breaks over an ask that was sent may have cost something."""
    for faults, is_free in (
        ([{"status": 529, "times": 100}], True),
        ([{"how": "late_drop", "times": 100}], False),
        ([{"status": 500}, {"how": "late_drop"}, {"status": 500, "times": 100}], False),
    ):
        with AnthropicApi() as fresh:
            for fault in faults:
                fresh.fail(MESSAGES, **cast("dict[str, Any]", fault))
            with pytest.raises(JudgeBusyError) as caught:
                ask_all(fresh, several(5), concurrency=2)
            assert caught.value.is_free == is_free
            assert bool(fresh.charges) != is_free


def test_a_key_that_is_refused_beside_a_lost_ask_may_have_charged_too(api: AnthropicApi) -> None:
    """Whatever ends the asking: one that was sent and not answered is not free."""
    api.fail(MESSAGES, "late_drop")
    api.fail(MESSAGES, "slow", wait_s=0.3, status=403, kind="permission_error", times=1)
    api.fail(MESSAGES, status=403, kind="permission_error", times=9)
    with pytest.raises(BoundaryError) as caught:
        ask_all(api, several(4), concurrency=2)
    assert not caught.value.is_free
    assert len(api.charges) >= 1


def test_a_longer_wait_than_patience_allows_is_not_waited_for(api: AnthropicApi) -> None:
    """An hour of ``retry-after`` ends the run at once, and the error tells of the hour."""
    api.fail(MESSAGES, status=429, kind="rate_limit_error", headers={"retry-after": "3600"}, times=100)
    begun = time.monotonic()
    with pytest.raises(JudgeBusyError) as caught:
        ask_all(api, several(10))
    assert caught.value.retry_after_s == 3600
    assert time.monotonic() - begun < 5


def test_an_answer_that_does_not_come_is_not_waited_for(api: AnthropicApi) -> None:
    """Neither where nothing comes at all, nor where something always does, and never the end."""
    hasty = Patience(tries=2, total_s=5.0, first_s=0.01, most_s=0.02, answer_s=0.2)
    for how, words in (("slow", "ReadTimeout"), ("drip", "not done after 0.6 seconds")):
        api.fail(MESSAGES, how, wait_s=1.5)
        with pytest.raises(JudgeBusyError, match=words) as caught:
            ask_one(api, "Work.", patience=hasty)
        assert not caught.value.is_free


def test_nobody_at_the_address_is_busy(api: AnthropicApi) -> None:
    """Where nobody listens the error names the connection and can be retried."""
    with AnthropicApi() as gone:
        url = gone.url

    async def use(_: ClaudeJudge) -> None:
        judge = ClaudeJudge(KEY, url, patience=SOON)
        try:
            await judge.life(HAIKU)
        finally:
            await judge.close()

    with pytest.raises(JudgeBusyError, match="no answer: ConnectError"):
        with_judge(api, use)


@pytest.mark.parametrize("is_known", [True, False])
def test_a_certificate_is_checked_before_anything_is_sent(
    is_known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over HTTPS nobody is asked whose certificate no known authority signed, and the error says what to do."""
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    bundle = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(bundle))
    if is_known:
        monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    with AnthropicApi(tls=tls) as api:
        if is_known:
            assert isinstance(ask_one(api, "Work."), Answer)
        else:
            with pytest.raises(JudgeBusyError, match="CERTIFICATE_VERIFY_FAILED.*SSL_CERT_FILE"):
                ask_one(api, "Work.")
        assert (bool(api.requests), len(api.charges)) == (is_known, is_known)


@pytest.mark.parametrize(
    ("fault", "hint"),
    [
        ({"status": 401, "kind": "authentication_error", "text": "invalid x-api-key"}, "ANTHROPIC_API_KEY"),
        ({"status": 402, "kind": "billing_error", "text": "Payment needed"}, "billing"),
        ({"status": 403, "kind": "permission_error", "text": "Not allowed"}, "right to the model"),
        ({"status": 429, "kind": "rate_limit_error", "text": "x", "code": "enforced_spend_limit_reached"}, "spending"),
        ({"status": 400, "kind": "invalid_request_error", "text": "x", "code": "organization_on_hold"}, "spending"),
        (
            {
                "status": 400,
                "kind": "invalid_request_error",
                "text": "You have reached your specified API usage limits.",
            },
            "spending",
        ),
        (
            {
                "status": 400,
                "kind": "invalid_request_error",
                "text": "Your credit balance is too low to access the Claude API.",
            },
            "spending",
        ),
    ],
)
def test_trouble_with_the_account_stops_everything_at_once(api: AnthropicApi, fault: dict[str, Any], hint: str) -> None:
    """No try is repeated, no further ask is sent, and the remedy is in the error."""
    api.fail(MESSAGES, times=100, **fault)
    with pytest.raises(JudgeAuthError) as caught:
        ask_all(api, several(50), concurrency=2)
    assert hint in caught.value.hint
    assert not caught.value.retryable
    assert len(api.bodies) <= 2


def test_a_wrong_key_is_refused_by_the_service_and_a_missing_one_here(api: AnthropicApi) -> None:
    """Both say where a key belongs."""
    for key, cause in (("sk-wrong", "HTTP 401"), (None, "there is no key"), ("", "there is no key")):
        with pytest.raises(JudgeAuthError, match=cause) as caught:
            ask_one(api, "Work.", key=key)
        assert "ANTHROPIC_API_KEY" in caught.value.hint


def test_answers_that_were_under_way_when_it_went_wrong_are_not_lost(api: AnthropicApi) -> None:
    """They are paid for: they come before the error, and nothing is sent after it."""
    api.fail(MESSAGES, "slow", wait_s=0.3)
    api.fail(MESSAGES, status=403, kind="permission_error", times=100)
    came: list[Answer | Refusal] = []

    async def use(judge: ClaudeJudge) -> None:
        async for each in judge.ask(several(20), model=HAIKU, concurrency=2):
            came.append(each)  # noqa: PERF401 - what came before the error is what is looked at

    with pytest.raises(JudgeAuthError):
        with_judge(api, use)
    assert len(came) == len(api.charges) == 1
    assert len(api.bodies) == 2


def test_who_waits_for_a_busy_service_gives_up_when_another_error_ends_it(api: AnthropicApi) -> None:
    """A long wait does not hold up the error that makes it pointless."""
    api.fail(MESSAGES, status=429, kind="rate_limit_error", headers={"retry-after": "30"})
    api.fail(MESSAGES, status=403, kind="permission_error")
    begun = time.monotonic()
    with pytest.raises((JudgeAuthError, JudgeBusyError)):
        ask_all(api, several(20), concurrency=2, patience=Patience(tries=5, total_s=60))
    assert time.monotonic() - begun < 5


def test_an_unknown_model_is_an_error_of_all(api: AnthropicApi) -> None:
    """A 404 for the model names the setting."""
    with pytest.raises(JudgeMissingError, match="claude-none-1") as caught:
        ask_all(api, several(3), model="claude-none-1")
    assert "judge.model" in caught.value.hint


def test_a_page_that_was_not_found_is_not_a_model_or_a_batch_that_is_gone(api: AnthropicApi) -> None:
    """A gateway's 404 says nothing about what the provider has: only its own word does."""
    for where in ("GET /v1/models", MESSAGES):
        api.fail(where, status=404, kind="x", text="<html>nginx</html>")
        with pytest.raises(BoundaryError, match="ANTHROPIC_BASE_URL") as caught:
            ask_one(api, "Work.")
        assert not isinstance(caught.value, JudgeMissingError)


def test_what_nobody_can_answer_for_is_an_error_of_all(api: AnthropicApi) -> None:
    """A status that the API does not document is neither retried nor taken for a refusal of one ask."""
    api.fail(MESSAGES, status=418, kind="teapot", text="Short and stout")
    with pytest.raises(BoundaryError, match="HTTP 418: Short and stout") as caught:
        ask_one(api, "Work.")
    assert type(caught.value) is BoundaryError
    assert not caught.value.retryable


# ------------------------------------------------------------------------------------------------------------- laziness


def test_asks_are_taken_only_as_fast_as_they_are_answered(api: AnthropicApi) -> None:
    """Of a hundred thousand asks no more are taken than were answered and are under way."""
    taken = 0

    def endless() -> Iterator[Ask]:
        nonlocal taken
        for number in range(100_000):
            taken += 1
            yield Ask(f"task-{number}", "", f"Work {number}.")

    async def use(judge: ClaudeJudge) -> None:
        answered = 0
        async with aclosing(judge.ask(endless(), model=HAIKU, concurrency=5)) as answers:
            async for _ in answers:
                answered += 1
                assert taken <= answered + 5
                if answered == 20:
                    break

    with_judge(api, use)
    assert taken <= 25


def test_an_error_while_taking_asks_comes_after_the_answers(api: AnthropicApi) -> None:
    """What the asks are read from may fail; what was asked by then is answered and handed over first."""

    def failing() -> Iterator[Ask]:
        yield from several(3)
        raise LookupError("no more")

    came: list[Answer | Refusal] = []

    async def use(judge: ClaudeJudge) -> None:
        async for each in judge.ask(failing(), model=HAIKU, concurrency=4):
            came.append(each)  # noqa: PERF401 - what came before the error is what is looked at

    with pytest.raises(LookupError, match="no more"):
        with_judge(api, use)
    assert len(came) == len(api.charges) == 3


def test_leaving_early_leaves_no_task(api: AnthropicApi) -> None:
    """Whoever closes the iterator, or is cancelled, ends what is under way."""
    api.fail(MESSAGES, "slow", wait_s=5, times=10)

    async def close(judge: ClaudeJudge) -> None:
        answers = judge.ask(several(10), model=HAIKU, concurrency=3)
        first = asyncio.ensure_future(anext(answers))
        while api.most_at_once < 3:
            await asyncio.sleep(0.01)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await answers.aclose()

    begun = time.monotonic()
    with_judge(api, close)
    assert time.monotonic() - begun < 4


def test_one_judge_serves_one_loop_after_the_other(api: AnthropicApi) -> None:
    """Closed in one loop, it opens anew in the next."""
    judge = ClaudeJudge(KEY, api.url, patience=SOON)

    async def use() -> ModelLife:
        try:
            return await judge.life(HAIKU)
        finally:
            await judge.close()

    assert asyncio.run(use()) == asyncio.run(use())


# --------------------------------------------------------------------------------------------------------------- models


@pytest.mark.parametrize(
    ("model", "life"),
    [
        (HAIKU, ModelLife(HAIKU, "active", None)),
        ("claude-haiku-4-5", ModelLife("claude-haiku-4-5-20251001", "active", None)),
        ("claude-sonnet-4-5", ModelLife("claude-sonnet-4-5-20250929", "deprecated", "2026-11-30")),
        (
            "claude-3-haiku-20240307",
            ModelLife("claude-3-haiku-20240307", "retired", "2026-09-10", ("structured_outputs", "batch")),
        ),
        ("claude-none-1", ModelLife("claude-none-1", "unknown", None)),
        ("../messages?x=1#", ModelLife("../messages?x=1#", "unknown", None)),
    ],
)
def test_the_life_of_a_model_is_what_the_models_api_says(api: AnthropicApi, model: str, life: ModelLife) -> None:
    """Alias, lifecycle, date and what is lacking; a name that nobody knows is unknown, whatever it looks like."""

    async def use(judge: ClaudeJudge) -> ModelLife:
        return await judge.life(model)

    assert with_judge(api, use) == life
    assert len(api.requests) == 1


def test_an_answer_about_a_model_that_cannot_be_read_is_an_error(api: AnthropicApi) -> None:
    """A page of a proxy is no lifecycle."""
    api.fail("GET /v1/models", "garble")

    async def use(judge: ClaudeJudge) -> ModelLife:
        return await judge.life(HAIKU)

    with pytest.raises(BoundaryError, match="the answer cannot be read"):
        with_judge(api, use)


# ------------------------------------------------------------------------------------------------------------ the secret


def test_the_key_is_never_told(api: AnthropicApi, caplog: pytest.LogCaptureFixture) -> None:
    """Not in errors, their traces, logs of any library at any level, or what a debugger prints."""
    caplog.set_level(logging.DEBUG)
    told: list[str] = []
    faults: list[dict[str, Any]] = [
        {"status": 401, "kind": "authentication_error", "text": f"the key {KEY} is wrong"},
        {"status": 400, "kind": "invalid_request_error", "text": f"what is {KEY}"},
        {"how": "drop", "times": 9},
        {"how": "garble"},
        {"how": "redirect", "text": f"{api.url}/elsewhere"},
        {"status": 418, "text": KEY * 20},
    ]
    for fault in faults:
        with AnthropicApi() as api_now:
            api_now.fail(MESSAGES, **fault)
            try:
                told.append(repr(ask_one(api_now, "Work.")))
            except BoundaryError as error:
                told += [repr(error), *traceback.format_exception(error)]
    judge = ClaudeJudge(KEY, api.url)
    told += [repr(judge), str(judge), caplog.text, *map(repr, (record.__dict__ for record in caplog.records))]
    assert len(told) > len(faults)
    assert "[key]" in "".join(told)
    assert KEY not in "".join(told)


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize(
    ("headers", "body", "cause"),
    [
        ({"content-encoding": "gzip"}, gzip.compress(b" " * (1 << 20)), "packed"),
        ({}, b" " * (17 << 20), "longer than 16,777,216 bytes"),
    ],
)
def test_an_answer_is_held_as_far_as_one_may_be_long(
    api: AnthropicApi, monkeypatch: pytest.MonkeyPatch, status: int, headers: dict[str, str], body: bytes, cause: str
) -> None:
    """What is packed, or goes on and on, ends in an error and not in the memory of the daemon, whatever its status."""

    def answer(handler: Handler) -> None:
        handler._send(status, body, "", headers)

    monkeypatch.setattr(Handler, "do_GET", answer)
    with pytest.raises(BoundaryError, match=cause):
        with_judge(api, lambda judge: judge.life(HAIKU))


@pytest.mark.parametrize("key", ["sk-ant\nx-evil: 1", "sk ant", "schlüssel", "\x00", "k" * 2_000])
def test_a_key_that_can_be_none_is_refused_without_showing_it(api: AnthropicApi, key: str) -> None:
    """An HTTP library would print it in its complaint."""
    with pytest.raises(JudgeAuthError, match="characters that no key has") as caught:
        ask_one(api, "Work.", key=key)
    assert key not in "".join(traceback.format_exception(caught.value))


def test_the_key_goes_nowhere_but_to_the_address(api: AnthropicApi) -> None:
    """A redirect is not followed: it is an error."""
    with AnthropicApi() as other:
        api.fail(MESSAGES, "redirect", text=f"{other.url}/v1/messages")
        with pytest.raises(BoundaryError, match="HTTP 307"):
            ask_one(api, "Work.")
        assert other.requests == []


def test_a_key_may_be_found_when_it_is_first_needed(api: AnthropicApi) -> None:
    """A function that finds the key is called once, and only by who asks."""
    calls = []

    def find() -> str:
        calls.append(1)
        return KEY

    ClaudeJudge(find, api.url).ask_bytes(several(1)[0], model=HAIKU)
    assert calls == []
    assert len(ask_all(api, several(3), key=find)) == 3
    assert calls == [1]


def test_where_the_key_comes_from(tmp_path: Path) -> None:
    """The environment, else systemd's credentials, stripped; nothing where there is nothing."""
    assert api_key({}) is None
    assert api_key({"ANTHROPIC_API_KEY": " \n"}) is None
    assert api_key({"ANTHROPIC_API_KEY": " sk-1\n"}) == "sk-1"
    folder = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert api_key(folder) is None
    (tmp_path / "anthropic_api_key").write_text("sk-2\n", encoding="utf-8")
    assert api_key(folder) == "sk-2"
    assert api_key(folder | {"ANTHROPIC_API_KEY": ""}) == "sk-2"
    assert api_key(folder | {"ANTHROPIC_API_KEY": "sk-1"}) == "sk-1"
    (tmp_path / "anthropic_api_key").write_text("\n", encoding="utf-8")
    assert api_key(folder) is None
    (tmp_path / "anthropic_api_key").write_text("k" * 65_536, encoding="utf-8")
    assert api_key(folder) == "k" * 65_536
    (tmp_path / "anthropic_api_key").write_text("k" * 65_537, encoding="utf-8")
    with pytest.raises(BoundaryError, match="it holds more than 65536 bytes") as caught:
        api_key(folder)
    assert "kkk" not in str(caught.value)
    (tmp_path / "anthropic_api_key").unlink()
    (tmp_path / "anthropic_api_key").mkdir()
    with pytest.raises(BoundaryError, match="cannot read the credential"):
        api_key(folder)


def test_the_environment_is_all_that_a_judge_needs(api: AnthropicApi) -> None:
    """A key and an address: with them it asks, without a key it says so when it first would."""

    async def run(environ: dict[str, str]) -> ModelLife:
        judge = open_judge(environ)
        try:
            return await judge.life(HAIKU)
        finally:
            await judge.close()

    assert asyncio.run(run({"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": api.url})).state == "active"
    with pytest.raises(JudgeAuthError, match="there is no key"):
        asyncio.run(run({"ANTHROPIC_BASE_URL": api.url}))


def test_where_the_requests_go() -> None:
    """The provider's address, or a gateway's; what is no address, or holds a password, is refused unseen."""
    assert base_url({}) == "https://api.anthropic.com"
    assert base_url({"ANTHROPIC_BASE_URL": "http://gateway:4000/claude/"}) == "http://gateway:4000/claude"
    for bad in ("gateway:4000", "ftp://gateway", "https://", "https://me:secret@gateway", "http://[x", "http://a:b"):
        with pytest.raises(BoundaryError, match="ANTHROPIC_BASE_URL") as caught:
            base_url({"ANTHROPIC_BASE_URL": bad})
        assert "secret" not in str(caught.value)


def test_a_gateway_below_a_path_is_asked_below_it(api: AnthropicApi) -> None:
    """The path of the address stays in front of the API's own."""

    async def use(_: ClaudeJudge) -> None:
        judge = ClaudeJudge(KEY, f"{api.url}/claude", patience=SOON)
        try:
            await judge.life(HAIKU)
        finally:
            await judge.close()

    with_judge(api, use)
    assert api.requests[-1]["path"] == f"/claude/v1/models/{HAIKU}"


# -------------------------------------------------------------------------------------------------------- what it costs

_CHILD = """
import sys
from cortex_autolearn.adapters import claude
from cortex_autolearn.model.judgement import Ask
light = [name for name in ("asyncio", "anthropic") if name in sys.modules]
judge = claude.open_judge({"ANTHROPIC_API_KEY": "sk-1"})
judge.ask_bytes(Ask("one", "a", "b"), model="claude-haiku-5-5")
print(light, [name for name in ("anthropic", "httpx2", "pydantic") if name in sys.modules])
"""


def test_the_package_is_not_imported_before_it_is_needed() -> None:
    """Importing the adapter costs nothing; making a judge does not import anthropic or what it brings."""
    done = subprocess.run([sys.executable, "-c", _CHILD], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[] []"
