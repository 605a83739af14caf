"""Claude as the judge, many questions in a batch: the real package against a loopback service that behaves as the API."""

from __future__ import annotations

import json
import time
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any

import anthropic_rules as rules
import pytest
from anthropic_api import AnthropicApi, api_process
from claude_support import HAIKU, RUBRIC, several, with_judge

from cortex_autolearn.adapters.claude import bodies
from cortex_autolearn.adapters.claude.judge import ClaudeJudge
from cortex_autolearn.model.judgement import MAX_BATCH_BYTES, Answer, Ask, Batch, Refusal
from cortex_autolearn.ports import BoundaryError, JudgeAuthError, JudgeBusyError, JudgeMissingError, JudgeUnsureError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from pathlib import Path

BATCHES = r"POST /v1/messages/batches\Z"
RESULTS = r"GET .*/results\Z"


@pytest.fixture
def api() -> Iterator[AnthropicApi]:
    with AnthropicApi() as running:
        yield running


def submit(api: AnthropicApi, asks: Sequence[Ask], **options: Any) -> Batch:
    return with_judge(api, lambda judge: judge.submit(asks, model=HAIKU), **options)


def look(api: AnthropicApi, batch_id: str) -> Batch:
    return with_judge(api, lambda judge: judge.batch(batch_id))


def read(api: AnthropicApi, batch_id: str) -> list[Answer | Refusal]:
    async def use(judge: ClaudeJudge) -> list[Answer | Refusal]:
        return [each async for each in judge.results(batch_id)]

    return with_judge(api, use)


def scored(api: AnthropicApi, asks: Sequence[Ask]) -> dict[str, Answer | Refusal]:
    batch = submit(api, asks)
    assert look(api, batch.id).state == "ended"
    return {each.key: each for each in read(api, batch.id)}


def recent(api: AnthropicApi, since_us: int) -> list[Batch]:
    async def use(judge: ClaudeJudge) -> list[Batch]:
        return [each async for each in judge.recent(since_us)]

    return with_judge(api, use)


# ---------------------------------------------------------------------------------------------------------- there and back


def test_a_batch_goes_out_is_looked_at_and_comes_back(api: AnthropicApi) -> None:
    """Every ask of a batch is answered by its own key, in whatever order, and charged once."""
    api.end_after_polls = 1
    before_us = time.time_ns() // 1_000
    batch = submit(api, several(30))
    assert (batch.state, batch.asked, batch.counts["processing"]) == ("in_progress", 30, 30)
    assert before_us <= batch.created_us <= time.time_ns() // 1_000
    assert look(api, batch.id).state == "in_progress"
    ended = look(api, batch.id)
    assert (ended.state, ended.asked, ended.counts["succeeded"]) == ("ended", 30, 30)
    found = read(api, batch.id)
    assert [each.key for each in found] == [ask.key for ask in reversed(several(30))]
    for each in found:
        assert isinstance(each, Answer)
        assert each.judgement.overall == rules.judgement(f"Work number {each.key[5:]}.")["overall"]
        assert each.request_id is not None
        assert each.request_id.startswith("msg_")
    assert api.paid() == {ask.key: 1 for ask in several(30)}


def test_a_batch_keeps_its_rubric_for_an_hour(api: AnthropicApi) -> None:
    """A batch outlives five minutes; what it writes to the cache is told apart, as it costs more."""
    found = scored(api, several(3))
    usages = [each.usage for each in found.values() if each.usage is not None]
    assert sorted(each.cache_write_1h_tokens for each in usages) == [0, 0, 800]
    assert sorted(each.cache_read_tokens for each in usages) == [0, 800, 800]
    assert {each.cache_write_tokens for each in usages} == {0}


def test_the_body_is_as_long_as_announced_and_as_measured(api: AnthropicApi) -> None:
    """The sizes of the asks add up to the request's; the body is sent whole, in pieces."""
    asks = [Ask(f"task-{number}", RUBRIC, 'Ünïcödé " \\ \n' * 40) for number in range(300)]
    submit(api, asks)
    sizes = sum(ClaudeJudge(None, api.url).ask_bytes(ask, model=HAIKU) for ask in asks)
    assert sizes <= len(api.bodies[-1]) <= sizes + 64
    sent = json.loads(api.bodies[-1])["requests"]
    assert [each["custom_id"] for each in sent] == [ask.key for ask in asks]
    assert sent[-1]["params"]["messages"] == [{"role": "user", "content": asks[-1].user}]


def test_a_batch_need_not_lie_in_memory(api: AnthropicApi) -> None:
    """Asks are counted, and gone through twice: a sequence that makes them anew each time will do."""

    class Lazy(list[Ask]):
        rounds = 0

        def __iter__(self) -> Iterator[Ask]:
            Lazy.rounds += 1
            return iter(several(5))

        def __len__(self) -> int:
            return 5

    assert submit(api, Lazy()).asked == 5
    assert Lazy.rounds == 2


# -------------------------------------------------------------------------------------------------------------- one POST


def test_a_batch_is_posted_once_whatever_happens() -> None:
    """No failure sends it again, not even one that passes by itself."""
    faults: list[dict[str, Any]] = [
        {"status": 429, "kind": "rate_limit_error", "headers": {"retry-after": "0"}},
        {"status": 529, "kind": "overloaded_error"},
        {"status": 500},
        {"how": "drop"},
        {"how": "late_drop"},
        {"how": "garble"},
    ]
    for fault in faults:
        with AnthropicApi() as fresh:
            fresh.fail(BATCHES, **fault)
            with pytest.raises(BoundaryError):
                submit(fresh, several(2))
            assert len([each for each in fresh.requests if each["method"] == "POST"]) == 1


@pytest.mark.parametrize(("status", "kind"), [(429, "rate_limit_error"), (529, "overloaded_error"), (503, "api_error")])
def test_a_batch_that_was_not_taken_says_so(api: AnthropicApi, status: int, kind: str) -> None:
    """A limit is found out before anything is done: the batch can be sent again."""
    api.fail(BATCHES, status=status, kind=kind, headers={"retry-after": "7"})
    with pytest.raises(JudgeBusyError) as caught:
        submit(api, several(2))
    assert caught.value.retry_after_s == 7
    assert recent(api, 0) == []


def test_nobody_there_to_take_a_batch_is_busy(api: AnthropicApi) -> None:
    """What could not be sent was not taken."""

    async def use(judge: ClaudeJudge) -> None:
        await judge.life(HAIKU)
        away = ClaudeJudge("sk-1", "http://127.0.0.1:9", effort=None)
        try:
            await away.submit(several(2), model=HAIKU)
        finally:
            await away.close()

    with pytest.raises(JudgeBusyError, match="ConnectError"):
        with_judge(api, use)


@pytest.mark.parametrize(
    ("fault", "taken"),
    [
        ({"how": "late_drop"}, True),
        ({"how": "drop"}, False),
        ({"how": "late_refuse", "status": 500}, True),
        ({"how": "refuse", "status": 500}, False),
        ({"how": "late_refuse", "status": 504, "kind": "timeout_error"}, True),
        ({"how": "garble"}, True),
    ],
)
def test_a_batch_of_which_nobody_knows_can_be_found(api: AnthropicApi, fault: dict[str, Any], taken: bool) -> None:
    """Taken or not, the error is the same; the list of batches tells which it was."""
    started_us = time.time_ns() // 1_000
    api.fail(BATCHES, **fault)
    with pytest.raises(JudgeUnsureError) as caught:
        submit(api, several(3))
    assert caught.value.retryable
    found = recent(api, started_us - 1_000_000)
    assert [each.asked for each in found] == ([3] if taken else [])


def test_a_batch_that_is_refused_for_good_says_why(api: AnthropicApi) -> None:
    """A 400 is neither busy nor unsure; a key without the right stops everything."""
    api.fail(BATCHES, status=400, kind="invalid_request_error", text="requests: no")
    with pytest.raises(BoundaryError, match="HTTP 400: requests: no") as caught:
        submit(api, several(1))
    assert type(caught.value) is BoundaryError
    api.fail(BATCHES, status=403, kind="permission_error", text="no batches")
    with pytest.raises(JudgeAuthError, match="no batches"):
        submit(api, several(1))


# ----------------------------------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize(
    ("asks", "words"),
    [
        ([], "1 to 100000 asks, not 0"),
        ([Ask("a b", "", "x")], "no key of an ask: 'a b'"),
        ([Ask("", "", "x")], "no key of an ask"),
        ([Ask("k" * 65, "", "x")], "no key of an ask"),
        ([Ask("clé", "", "x")], "no key of an ask"),
        ([Ask("a\n", "", "x")], "no key of an ask"),
        ([Ask("a", "", "x"), Ask("b", "", "x"), Ask("a", "", "y")], "3 asks have 2 different keys"),
        ([Ask("a", "", "\ud800")], "surrogates"),
        ([Ask("a", "", "x")] * 100_001, "not 100001"),
    ],
)
def test_what_the_api_would_refuse_is_never_sent(api: AnthropicApi, asks: list[Ask], words: str) -> None:
    """Keys, their number and their texts are checked before anything goes out."""
    with pytest.raises(ValueError, match=words):
        submit(api, asks)
    assert not [each for each in api.requests if each["method"] == "POST"]


def test_a_batch_beyond_256_megabytes_is_never_sent() -> None:
    """The size that counts is that of the request, as it would be sent."""
    text = "x" * 3_000_000

    def asks(count: int) -> list[Ask]:
        return [Ask(f"task-{number}", "", text) for number in range(count)]

    assert MAX_BATCH_BYTES - 5_000_000 < bodies.measure(asks(85), HAIKU, "low") <= MAX_BATCH_BYTES
    with pytest.raises(ValueError, match="at most 256000000 bytes"):
        bodies.measure(asks(86), HAIKU, "low")


# ---------------------------------------------------------------------------------------------------------------- results


@pytest.mark.parametrize(
    ("order", "kind", "retryable", "reason", "paid"),
    [
        ("[[expired]]", "expired", True, "before its turn", False),
        ("[[canceled]]", "canceled", True, "canceled", False),
        ("[[errored api_error]]", "errored", True, "api_error: It did not work out", False),
        ("[[errored overloaded_error]]", "errored", True, "overloaded_error", False),
        ("[[errored invalid_request_error]]", "errored", False, "invalid_request_error", False),
        ("[[errored request_too_large]]", "too_large", False, "request_too_large", False),
        ("[[refusal]]", "invalid", False, "declined", True),
        ("[[max_tokens]]", "invalid", True, "max_tokens", True),
        ("[[without overall]]", "invalid", True, "overall", True),
        (" ", "errored", False, "non-empty", False),
        ('[[line {"custom_id": "bad", "result": {"type": "new"}}]]', "invalid", True, "unknown kind", None),
        ('[[line {"custom_id": "bad", "result": {"type": "succeeded"}}]]', "invalid", True, "unknown kind", None),
        ('[[line {"custom_id": "bad", "result": {"type": "errored"}}]]', "invalid", True, "unknown kind", None),
        ('[[line {"custom_id": "bad", "result": 4}]]', "invalid", True, "cannot be read", None),
        ('[[line {"custom_id": "bad", "result": {"type": "succeeded", "message": 1}}]]', "invalid", True, "no m", None),
    ],
)
def test_each_kind_of_result_is_told_apart(
    api: AnthropicApi, order: str, kind: str, retryable: bool, reason: str, paid: bool | None
) -> None:
    """One result's trouble is its own: the others of the batch are answered."""
    found = scored(api, [*several(2), Ask("bad", RUBRIC, order)])
    bad = found.pop("bad")
    assert isinstance(bad, Refusal)
    assert (bad.kind, bad.retryable) == (kind, retryable)
    assert reason in bad.reason
    if paid is not None:
        assert (bad.usage is not None) == paid == ("bad" in api.paid())
    if kind == "errored":
        assert bad.request_id is not None
        assert bad.request_id.startswith("req_")
    assert all(isinstance(each, Answer) for each in found.values())


@pytest.mark.parametrize(
    ("kind", "told", "about_all"),
    [
        ("invalid_request_error", "Your credit balance is too low to access the Claude API.", True),
        ("invalid_request_error", "messages: text content blocks must be non-empty", False),
        ("authentication_error", "invalid x-api-key", True),
        ("not_found_error", "model: claude-gone", True),
        ("overloaded_error", "Overloaded", False),
    ],
)
def test_what_says_nothing_about_the_ask_itself_is_told_apart(
    api: AnthropicApi, kind: str, told: str, about_all: bool
) -> None:
    """An account without credit, or a model that is gone, is no fault of the question that was asked just then."""
    error = json.dumps({"type": "error", "error": {"type": kind, "message": told}, "request_id": "req_1"})
    line = f'{{"custom_id": "bad", "result": {{"type": "errored", "error": {error}}}}}'
    bad = scored(api, [*several(2), Ask("bad", RUBRIC, f"[[line {line}]]")])["bad"]
    assert isinstance(bad, Refusal)
    assert bad.about_all == about_all
    assert bad.retryable or not about_all


def test_what_an_unreadable_message_cost_is_still_known(api: AnthropicApi) -> None:
    """Where only its usage can be read, that is kept."""
    line = '{"custom_id": "bad", "result": {"type": "succeeded", "message": {"usage": %s}}}'
    usage = '{"input_tokens": 3, "output_tokens": 2, "cache_creation_input_tokens": 5}'
    found = scored(api, [Ask("bad", RUBRIC, f"[[line {line % usage}]]")])["bad"]
    assert found.usage is not None
    assert tuple(found.usage) == (3, 0, 0, 2, 5)


@pytest.mark.parametrize(
    "line", ["rubbish", '{"result": {"type": "expired"}}', '{"custom_id": 4, "result": {}}', "[1)"]
)
def test_a_line_that_is_nobodys_is_an_error_that_says_where(api: AnthropicApi, line: str) -> None:
    """What came before it has been read; nothing is made up for what follows."""
    batch = submit(api, [*several(3), Ask("bad", RUBRIC, f"[[line {line}]]"), Ask("last", RUBRIC, "Work.")])
    look(api, batch.id)
    came: list[str] = []

    async def use(judge: ClaudeJudge) -> None:
        async for each in judge.results(batch.id):
            came.append(each.key)  # noqa: PERF401 - what came before the error is what is looked at

    with pytest.raises(BoundaryError, match="line 2: "):
        with_judge(api, use)
    assert came == ["last"]


def test_results_that_are_too_few_are_an_error(api: AnthropicApi) -> None:
    """A stream that ends in order, and early, is not taken for all there is."""
    batch = submit(api, [*several(2), Ask("gone", RUBRIC, "[[line ]]")])
    look(api, batch.id)
    with pytest.raises(BoundaryError, match="2 of 3 results came") as caught:
        read(api, batch.id)
    assert caught.value.retryable


def test_results_that_break_off_can_be_read_again(api: AnthropicApi) -> None:
    """A connection lost in the middle is no end; reading again costs nothing and brings them all."""
    batch = submit(api, several(40))
    look(api, batch.id)
    api.fail(RESULTS, "cut")
    with pytest.raises(JudgeBusyError, match="no answer"):
        read(api, batch.id)
    assert len(read(api, batch.id)) == 40
    assert set(api.paid().values()) == {1}


def test_a_busy_service_is_asked_again_for_results(api: AnthropicApi) -> None:
    """Reading and looking are repeated; only sending is not."""
    batch = submit(api, several(2))
    api.fail(r"GET .*msgbatch_\d+\Z", status=529, kind="overloaded_error", times=2)
    api.fail(RESULTS, status=429, kind="rate_limit_error", times=2)
    look(api, batch.id)
    assert len(read(api, batch.id)) == 2


def test_results_are_read_from_the_configured_address_only(api: AnthropicApi) -> None:
    """Wherever the batch says that its results are, the key goes to the address that was configured."""
    with AnthropicApi() as other:
        api.results_host = other.url
        batch = submit(api, several(2))
        look(api, batch.id)
        assert len(read(api, batch.id)) == 2
        assert other.requests == []


def test_results_before_the_end_are_an_error_and_after_29_days_are_missing(api: AnthropicApi) -> None:
    """Too early can be retried, too late cannot."""
    api.hold = True
    batch = submit(api, several(2))
    with pytest.raises(BoundaryError, match="it is in progress") as caught:
        read(api, batch.id)
    assert caught.value.retryable
    api.hold = False
    look(api, batch.id)
    api.archive(batch.id)
    with pytest.raises(JudgeMissingError, match="none any more"):
        read(api, batch.id)


def test_leaving_results_early_closes_the_connection(api: AnthropicApi) -> None:
    """Whoever has seen enough leaves nothing open, and the judge works on."""
    batch = submit(api, several(200))
    look(api, batch.id)

    async def use(judge: ClaudeJudge) -> Batch:
        async with aclosing(judge.results(batch.id)) as found:
            async for _ in found:
                break
        return await judge.batch(batch.id)

    assert with_judge(api, use).state == "ended"


async def _call(method: Callable[[ClaudeJudge, str], Awaitable[object]], batch_id: str, judge: ClaudeJudge) -> None:
    await method(judge, batch_id)


def test_an_unknown_batch_is_missing(api: AnthropicApi) -> None:
    """Whatever its id looks like; one that could be no id is not even asked for."""
    for batch_id in ("msgbatch_none", "../models", "", "a/results?x"):
        for use in (ClaudeJudge.batch, ClaudeJudge.cancel):
            with pytest.raises(JudgeMissingError):
                with_judge(api, partial(_call, use, batch_id))
        with pytest.raises(JudgeMissingError):
            read(api, batch_id)
    assert {each["path"].removesuffix("/cancel") for each in api.requests} == {"/v1/messages/batches/msgbatch_none"}


# ---------------------------------------------------------------------------------------------------------- list and cancel


def test_recent_batches_come_latest_first_over_all_pages_and_no_further(api: AnthropicApi) -> None:
    """More than a page is followed by the next; what is older than asked for ends it."""

    async def use(judge: ClaudeJudge) -> list[Batch]:
        return [await judge.submit(several(1), model=HAIKU) for _ in range(230)]

    sent = with_judge(api, use)
    assert recent(api, 0) == sent[::-1]
    api.requests.clear()
    assert recent(api, sent[200].created_us) == sent[:199:-1]
    assert len(api.requests) == 1


def test_a_canceled_batch_ends_and_says_what_was_not_answered(api: AnthropicApi) -> None:
    """It goes through ``canceling``; a second time, or after its end, is no error."""
    api.hold = True
    batch = submit(api, several(3))
    for state in ("canceling", "ended"):
        with_judge(api, lambda judge: judge.cancel(batch.id))
        if state == "canceling":
            assert [each.state for each in recent(api, 0)] == [state]
        assert look(api, batch.id).state == "ended"
    found = read(api, batch.id)
    assert {each.kind for each in found if isinstance(each, Refusal)} == {"canceled"}
    assert api.charges == []


def test_a_batch_that_cannot_be_canceled_is_an_error(api: AnthropicApi) -> None:
    """A refusal that is not about its end is told."""
    api.hold = True
    batch = submit(api, several(3))
    api.fail(r"POST .*/cancel\Z", status=400, kind="invalid_request_error", text="not now")
    with pytest.raises(BoundaryError, match="not now"):
        with_judge(api, lambda judge: judge.cancel(batch.id))


# ------------------------------------------------------------------------------------------------------ its own process


def test_the_service_in_another_process_takes_orders_and_keeps_accounts(tmp_path: Path) -> None:
    """What kill tests rely on: faults by order, and a journal of every request, batch and charge."""
    with api_process(tmp_path) as api:

        async def use(_: object) -> None:
            judge = ClaudeJudge(rules.KEY, api.url)
            try:
                batch = await judge.submit(several(2), model=HAIKU)
                assert (await judge.batch(batch.id)).state == "in_progress"
                api.set(hold=False)
                assert (await judge.batch(batch.id)).state == "ended"
                assert len([each async for each in judge.results(batch.id)]) == 2
                api.fail(BATCHES, "late_drop")
                with pytest.raises(JudgeUnsureError):
                    await judge.submit(several(1), model=HAIKU)
            finally:
                await judge.close()

        api.set(hold=True)
        with AnthropicApi() as unused:
            with_judge(unused, use)
        assert api.paid() == {"task-0": 1, "task-1": 1}
        assert [each["custom_ids"] for each in api.noted("batch")] == [["task-0", "task-1"], ["task-0"]]
        assert [each["status"] for each in api.noted("request") if each["method"] == "POST"] == [200, 0]
