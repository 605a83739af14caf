"""The rules of a dataset: what is near, what is kept of equals, what is held out, and who gets how much."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex_autolearn.model.training import Example, Member
from cortex_autolearn.redact import redact
from cortex_autolearn.training import dataset
from cortex_autolearn.training.dataset import Bounds, Candidate, HeldOut, Selection, balanced, select
from cortex_autolearn.training.leakage import leaks
from cortex_autolearn.training.nearness import CROWDED, Nearness, Words, normalised
from cortex_autolearn.training.rare import Rarity

if TYPE_CHECKING:
    from array import array
    from collections.abc import Sequence

BOUNDS = Bounds(
    near_duplicate_threshold=0.8,
    max_share=1.0,
    max_train=1_000,
    max_validation=1_000,
    max_example_chars=1_000,
    max_example_tokens=300,
    seed=0,
)
NOBODY = HeldOut(frozenset(), frozenset(), frozenset())


def candidate(
    task_id: str,
    text: str | None = None,
    *,
    is_validation: bool = False,
    master: str | None = "a-master",
    task_type: str | None = "scan",
    when_us: int = 0,
) -> Candidate:
    digest = dataset.digest_of(normalised(text or task_id))
    return Candidate(task_id, is_validation, master, task_type, when_us, digest, digest, 10)


def chosen(candidates: Sequence[Candidate], selection: Selection) -> tuple[set[str], set[str]]:
    train = {candidates[number].task_id for number in selection.train}
    return train, {candidates[number].task_id for number in selection.validation}


def reasons(selection: Selection) -> dict[str, str]:
    return {one.task_id: one.reason for one in selection.dropped}


def likeness(one: array[int], other: array[int]) -> float:
    left, right = set(one), set(other)
    return len(left & right) / len(left | right) if left | right else 0.0


class Search:
    """Texts in an order, each kept unless it is near to one that was kept."""

    def __init__(self, texts: Sequence[str], threshold: float, expected: int = 1_000) -> None:
        words, rarity = Words(), Rarity(expected)
        self.triples = [words.triples(normalised(text)) for text in texts]
        for triples in self.triples:
            rarity.count(triples)
        nearness = Nearness(threshold, rarity, self.triples.__getitem__, expected=len(texts))
        self.found: list[int | None] = []
        for number, triples in enumerate(self.triples):
            sketch = nearness.sketch(triples)
            self.found.append(nearness.near(sketch))
            if self.found[-1] is None:
                nearness.keep(number, sketch)


class TestNormalised:
    @pytest.mark.parametrize(
        "other",
        [
            "look at  the\nLOGIN code",
            "\tLook at the login code ",
            "\uff2cook at the login code",
            "Look at the lo\u200agin code",
        ],
    )
    def test_form_case_and_white_space_make_no_difference(self, other: str) -> None:
        """Equal inputs are told whatever they look like."""
        expected = "look at the lo gin code" if "\u200a" in other else "look at the login code"
        assert normalised(other) == expected

    @given(st.text())
    def test_normalised_once_is_normalised(self, text: str) -> None:
        """Doing it again changes nothing but what has no stable form (a few letters that fold anew)."""
        once = normalised(text)
        assert normalised(once).split() == once.split() or normalised(normalised(once)) == normalised(once)

    def test_letters_under_a_heap_of_marks_take_no_longer(self) -> None:
        """One record must not hold up everybody else: marks are put in order by exchanging neighbours."""
        text = "a" + "\u0301" * 30_000 + "\u0316" * 30_000
        began = time.process_time()
        normalised(text)
        assert time.process_time() - began < 1

    @pytest.mark.parametrize(
        "text", ["\uff2c\u4e2d\uac00\u3067\u3059\u3002", "e\u0301l e\u0316\u0301 \ufdfa ", "\u0439\u0451"]
    )
    def test_a_long_text_is_read_like_its_parts(self, text: str) -> None:
        """Of any script, with blanks or without."""
        assert normalised(text * 1_000) == " ".join((normalised(f"<{text}>")[1:-1] * 1_000).split())

    def test_other_words_do(self) -> None:
        """A number that differs is another task."""
        assert normalised("scan repo 17") != normalised("scan repo 18")


class TestNearness:
    @given(st.data())
    def test_it_finds_what_comparing_each_with_each_finds(self, data: st.DataObject) -> None:
        """Exactly those pairs, whatever the texts, the threshold and the size of the table: none missed, none too many."""
        threshold = data.draw(st.sampled_from([0.5, 0.6, 0.7, 0.8, 0.9, 1.0]))
        word = st.sampled_from([f"w{number}" for number in range(data.draw(st.sampled_from([2, 5, 40])))])
        texts = [" ".join(words) for words in data.draw(st.lists(st.lists(word, max_size=25), max_size=25))]
        search = Search(texts, threshold, data.draw(st.sampled_from([1, 100_000])))
        kept: list[int] = []
        for number, triples in enumerate(search.triples):
            near = [one for one in kept if triples and likeness(search.triples[one], triples) >= threshold - 1e-9]
            assert search.found[number] == (near[0] if near else None)
            if not near:
                kept.append(number)

    def test_at_the_threshold_is_near_and_just_below_is_not(self) -> None:
        """18 words of 20: 16 triples shared of 20 is 0.8; one shared triple less is not."""
        text = [f"w{number}" for number in range(20)]
        at, below = [*text[:18], "x", "y"], [*text[:17], "x", "y", "z"]
        assert Search([" ".join(text), " ".join(at)], 0.8).found[1] == 0
        assert Search([" ".join(text), " ".join(below)], 0.8).found[1] is None

    def test_short_texts_and_texts_without_words(self) -> None:
        """Two words are near to the same two words only; marks alone are near to nothing."""
        assert Search(["fix it", "Fix it!", "fix that", "!!!", "!!!", ""], 0.8).found == [
            None,
            0,
            None,
            None,
            None,
            None,
        ]

    def test_scripts_without_blanks_have_words_too(self) -> None:
        """A Chinese sentence with one sign changed is near to itself."""
        text = "依赖项检查在会话处理中发现了两个漏洞均已修复并通过测试覆盖此外还需要更新生产环境的密钥"
        assert Search([text, text.replace("两", "三")], 0.8).found == [None, 0]

    def test_the_same_in_every_process(self) -> None:
        """No salt of a process enters: triples are the same under any hash seed."""
        script = (
            "from cortex_autolearn.training.nearness import Words;"
            "print(Words().triples('look at the login code of ledger').tolist())"
        )
        outputs = {
            subprocess.run(
                [sys.executable, "-c", script], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
            ).stdout
            for seed in ("1", "2")
        }
        assert len(outputs) == 1

    def test_tasks_of_one_template_are_not_compared_each_with_each(self) -> None:
        """Four times as many tasks of one template take about four times as long, not sixteen."""

        def seconds(count: int) -> float:
            draw = random.Random(1)
            template = [f"word{number}" for number in range(30)]
            texts = [" ".join([*template[:15], str(draw.randrange(10**9)), *template[15:]]) for _ in range(count)]
            took = []
            for _ in range(3):
                began = time.process_time()
                # 0.9 is just above what two tasks of the template have in common.
                assert set(Search(texts, 0.9, 40 * count).found) == {None}
                took.append(time.process_time() - began)
            return min(took)

        assert seconds(8_000) < 8 * seconds(2_000)


class TestRefusal:
    @pytest.mark.parametrize(
        ("asked", "answered", "reason"),
        [
            ("Rotate the key", "It is rotated", None),
            ("  \n", "It is rotated", dataset.NO_INPUT),
            ("[REDACTED:aws]", "It is rotated", dataset.ONLY_MASKED),
            ("Rotate the key", " [REDACTED:aws]: [REDACTED:email]! ", dataset.ONLY_MASKED),
            ("Rotate [REDACTED:aws]", "It is rotated", None),
            ("Rotate the key", "x" * 980, dataset.TOO_LONG),
            ("Rotate the key", "7" * 900, dataset.TOO_LONG),
        ],
    )
    def test_which_texts_make_no_example(self, asked: str, answered: str, reason: str | None) -> None:
        """Nothing asked, nothing but secrets, too many characters, too many tokens."""
        example = Example("t", "a-master", "scan", "You are a master.", asked, answered)
        tokens = 610 if answered.startswith("7") else 100
        assert dataset.refusal(example, tokens, BOUNDS) == reason


class TestSelect:
    def test_of_equal_inputs_the_newest_stays(self) -> None:
        """Older work on the same question is left out, and its reason names who stays."""
        candidates = [candidate("old", "same", when_us=1), candidate("new", "same", when_us=2), candidate("other")]
        selection = select(candidates, lambda _: None, NOBODY, BOUNDS)
        assert chosen(candidates, selection) == ({"new", "other"}, set())
        assert selection.dropped == [dataset.Dropped("old", False, dataset.DUPLICATE, "new")]

    def test_validation_goes_before_training(self) -> None:
        """However new it is, training never has an input of the validation split."""
        candidates = [candidate("held", "same", is_validation=True, when_us=1), candidate("t", "same", when_us=9)]
        selection = select(candidates, lambda _: None, NOBODY, BOUNDS)
        assert chosen(candidates, selection) == (set(), {"held"})
        assert reasons(selection) == {"t": dataset.SAME_AS_VALIDATION}

    def test_equal_inputs_are_equal_though_masking_tells_them_apart(self) -> None:
        """A name in capitals tells of a secret that the same name in small letters does not tell of."""
        held, other = ("Rotate TOKEN=abcdefgh now", "rotate token=abcdefgh now")
        assert redact(held).text.lower() != redact(other).text.lower()
        candidates = [
            candidate("v", held, is_validation=True),
            candidate("t", other),
            candidate("t2", other, when_us=9),
        ]
        for one, text in zip(candidates, (held, other, other), strict=True):
            one.masked = dataset.digest_of(normalised(redact(text).text))
        selection = select(candidates, lambda _: None, NOBODY, BOUNDS)
        assert chosen(candidates, selection) == (set(), {"v"})
        assert reasons(selection)["t2"] == dataset.SAME_AS_VALIDATION

    def test_near_ones_yield_as_equal_ones_do(self) -> None:
        """The search is asked once for each input, validation first; what it finds near is left out with its reason."""
        candidates = [
            candidate("t1", when_us=3),
            candidate("t2", when_us=2),
            candidate("v1", is_validation=True, when_us=2),
            candidate("v2", is_validation=True, when_us=1),
            candidate("t3", when_us=1),
        ]
        near = {3: 2, 1: 0, 4: 2}
        asked: list[int] = []

        def search(number: int) -> int | None:
            asked.append(number)
            return near.get(number)

        selection = select(candidates, search, NOBODY, BOUNDS)
        assert asked == [2, 3, 0, 1, 4]
        assert chosen(candidates, selection) == ({"t1"}, {"v1"})
        assert reasons(selection) == {
            "v2": dataset.NEAR_DUPLICATE,
            "t2": dataset.NEAR_DUPLICATE,
            "t3": dataset.NEAR_VALIDATION,
        }

    def test_who_cannot_be_told_from_the_others_is_left_out(self) -> None:
        """Of whatever split: what may be near to a validation example is not trained on, whoever it is near to."""
        candidates = [candidate("t"), candidate("like all", when_us=-1), candidate("v", is_validation=True)]
        selection = select(candidates, lambda number: CROWDED if number == 1 else None, NOBODY, BOUNDS)
        assert chosen(candidates, selection) == ({"t"}, {"v"})
        assert selection.dropped == [dataset.Dropped("like all", False, dataset.TOO_MANY_ALIKE)]

    @pytest.mark.parametrize("by", ["task", "plain", "masked"])
    def test_what_was_in_validation_once_is_never_trained_on(self, by: str) -> None:
        """Not the task, should its split ever change, and not its input in another task."""
        one, other = candidate("t"), candidate("free")
        held_out = HeldOut(
            frozenset({"t"} if by == "task" else ()),
            frozenset({one.plain} if by == "plain" else ()),
            frozenset({one.masked} if by == "masked" else ()),
        )
        selection = select([one, other], lambda _: None, held_out, BOUNDS)
        assert chosen([one, other], selection) == ({"free"}, set())
        assert reasons(selection) == {"t": dataset.HELD_OUT}

    def test_what_was_in_validation_once_may_be_again(self) -> None:
        """The rule is about training."""
        one, other = candidate("v", is_validation=True), candidate("t")
        selection = select([one, other], lambda _: None, HeldOut({"v"}, {one.plain}, {one.masked}), BOUNDS)
        assert chosen([one, other], selection) == ({"t"}, {"v"})

    def test_a_maximum_keeps_the_newest(self) -> None:
        """Of both splits, each by its own maximum; undated work counts as the oldest."""
        candidates = [candidate(f"t{number}", when_us=number) for number in range(-1, 9)]
        candidates += [candidate(f"v{number}", is_validation=True, when_us=number) for number in range(9)]
        selection = select(candidates, lambda _: None, NOBODY, BOUNDS._replace(max_train=3, max_validation=2))
        assert chosen(candidates, selection) == ({"t8", "t7", "t6"}, {"v8", "v7"})
        assert Counter(reasons(selection).values()) == {dataset.OVER_MAXIMUM: 14}

    @given(st.randoms(use_true_random=False))
    def test_the_order_of_arrival_makes_no_difference(self, dice: random.Random) -> None:
        """The same candidates give the same lines in the same order, however they were read."""
        candidates = [
            candidate(f"t{number}", f"text {number % 17}", is_validation=number % 5 == 0, when_us=number % 3,
                      master=f"m{number % 4}-master", task_type=f"k{number % 3}")
            for number in range(40)
        ]  # fmt: skip
        bounds = BOUNDS._replace(max_share=0.4, max_train=9)
        expected = select(candidates, lambda _: None, NOBODY, bounds)
        shuffled = dice.sample(candidates, len(candidates))
        found = select(shuffled, lambda _: None, NOBODY, bounds)
        for one, other in ((expected.train, found.train), (expected.validation, found.validation)):
            assert [candidates[number].task_id for number in one] == [shuffled[number].task_id for number in other]
        assert sorted(expected.dropped) == sorted(found.dropped)

    def test_every_candidate_is_chosen_or_has_its_reason(self) -> None:
        """Nothing disappears."""
        candidates = [
            candidate(f"t{number}", f"text {number % 7}", is_validation=number % 3 == 0) for number in range(50)
        ]
        selection = select(candidates, lambda _: None, NOBODY, BOUNDS._replace(max_train=2))
        train, validation = chosen(candidates, selection)
        assert len(train) + len(validation) + len(selection.dropped) == 50
        assert train | validation | set(reasons(selection)) == {one.task_id for one in candidates}

    def test_the_seed_decides_the_order_of_lines(self) -> None:
        """Lines do not stand in the order of time; another seed is another order of the same."""
        candidates = [candidate(f"t{number}", when_us=number) for number in range(50)]
        orders = [select(candidates, lambda _: None, NOBODY, BOUNDS._replace(seed=seed)).train for seed in (0, 0, 1)]
        assert orders[0] == orders[1] != orders[2]
        assert sorted(orders[0]) == sorted(orders[2])
        assert orders[0] not in (sorted(orders[0]), sorted(orders[0], reverse=True))


class TestBalanced:
    @given(
        st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), max_size=60),
        st.floats(0.05, 1.0),
        st.integers(1, 80),
    )
    def test_no_group_has_more_than_its_share(self, groups: list[tuple[str, str]], share: float, maximum: int) -> None:
        """Of what stays, and of both kinds at once; and each group loses from its end."""
        candidates = [
            candidate(str(number), master=master, task_type=kind) for number, (master, kind) in enumerate(groups)
        ]
        stay, over = balanced(range(len(groups)), candidates, share, maximum)
        assert sorted([*stay, *(number for number, _ in over)]) == list(range(len(groups)))
        assert len(stay) <= maximum
        assert stay == sorted(stay)
        for kind in (0, 1):
            counts = Counter(groups[number][kind] for number in stay)
            bar = max(share, 1 / max(1, len(counts)))
            assert all(count <= max(1, bar * len(stay) + 1e-6) for count in counts.values())

    def test_one_group_alone_is_left_alone(self) -> None:
        """A fleet of one master, or of one type, has nothing to be balanced against."""
        candidates = [candidate(str(number)) for number in range(10)]
        assert balanced(range(10), candidates, 0.5, 100) == (list(range(10)), [])

    def test_what_is_rare_by_the_other_property_stays(self) -> None:
        """A type's cut does not take the last of a master, whose work is old and of that type, with it."""
        work = [*[("a", "scan")] * 900, *[("a", "audit")] * 100, *[("b", "scan")] * 50]
        candidates = [candidate(str(place), master=master, task_type=kind) for place, (master, kind) in enumerate(work)]
        stay, _ = balanced(range(len(work)), candidates, 0.8, 10_000)
        assert Counter(work[number] for number in stay) == {("a", "scan"): 100, ("a", "audit"): 100, ("b", "scan"): 50}
        assert stay == [*range(100), *range(900, 1_050)]

    def test_a_group_that_is_left_alone_is_not_cut_to_nothing(self) -> None:
        """Where the other property takes all of every other group, there is nobody left to be balanced against."""
        work = [*[("a", "x")] * 5, ("b", "x"), *[("a", "y")] * 5]
        candidates = [candidate(str(place), master=master, task_type=kind) for place, (master, kind) in enumerate(work)]
        for maximum in range(1, 12):
            stay, _ = balanced(range(len(work)), candidates, 0.5, maximum)
            assert len(stay) >= min(maximum, 2)

    @pytest.mark.parametrize(("share", "left"), [(0.5, (10, 10)), (0.8, (40, 10)), (1.0, (990, 10))])
    def test_the_larger_of_two_is_cut_to_its_share_of_what_is_left(self, share: float, left: tuple[int, int]) -> None:
        """Not of what there was: 990 and 10 at a half are 10 and 10."""
        candidates = [candidate(str(number), master="a" if number < 990 else "b") for number in range(1_000)]
        stay, _ = balanced(range(1_000), candidates, share, 10_000)
        counts = Counter(candidates[number].master for number in stay)
        assert (counts["a"], counts["b"]) == left

    def test_a_maximum_does_not_cost_more_than_it_must(self) -> None:
        """Shares are taken of what may stay: 60 and 40 of each, at most 50 at 0.8, are 50."""
        candidates = [candidate(str(number), master="a" if number < 60 else "b") for number in range(100)]
        stay, over = balanced(range(100), candidates, 0.8, 50)
        assert len(stay) == 50
        assert Counter(candidates[number].master for number in stay) == {"a": 40, "b": 10}
        assert {reason for _, reason in over} == {dataset.OVER_SHARE, dataset.OVER_MAXIMUM}

    def test_a_share_near_one_takes_no_longer(self) -> None:
        """A hundred thousand of one master and ten of another settle at once."""
        candidates = [candidate(str(number), master="a" if number < 100_000 else "b") for number in range(100_010)]
        began = time.process_time()
        stay, _ = balanced(range(100_010), candidates, 0.999, 200_000)
        assert len(stay) == 10_000
        assert time.process_time() - began < 3


class Shelf:
    """Triples in memory."""

    def __init__(self) -> None:
        self._kept: list[array[int]] = []

    def put(self, triples: array[int]) -> int:
        self._kept.append(triples)
        return len(self._kept) - 1

    def get(self, key: int) -> array[int]:
        return self._kept[key]


def lines(*texts: str) -> list[bytes]:
    return [b'{"system":"s","messages":[{"role":"user","content":"%b"},{"role":"assistant","content":"a"}]}\n'
            % text.encode() for text in texts]  # fmt: skip


class TestLeaks:
    def test_it_finds_what_the_rules_should_have_taken_out(self) -> None:
        """Equal, equal but for case and blanks, near, and without any word; and nothing else."""
        long = " ".join(f"w{number}" for number in range(40))
        validation = lines("Look at the login code", long, "???")
        train = lines("something else", "look  at the LOGIN code", long.replace("w7 ", "x "), "???", "!!!", "and more")
        found = leaks(lambda: train, lambda: validation, 0.8, Shelf())
        assert list(found) == [1, 2, 3]

    def test_it_looks_as_long_as_it_takes(self) -> None:
        """Among hundreds that are all alike the one that is near is found, and the others are not taken for it."""
        draw = random.Random(1)
        phrases = [[f"a{place} b c d", f"e{place} f g h"] for place in range(30)]
        texts = [[draw.choice(pair) for pair in phrases] for _ in range(300)]
        near = [*texts[7][:-1], "quite another end"]
        validation, train = (lines(*map(" ".join, some)) for some in (texts[:200], [*texts[200:], near]))
        assert list(leaks(lambda: train, lambda: validation, 0.8, Shelf())) == [100]

    def test_clean_splits_have_none(self) -> None:
        """Duplicates within one split are no leak."""
        train = lines("one thing to do", "one thing to do")
        assert not list(leaks(lambda: train, lambda: lines("quite another thing"), 0.8, Shelf()))


class TestDifference:
    def test_what_came_went_and_changed(self) -> None:
        """By task, in the order of the lines."""
        before = [Member("a", None, None, "1"), Member("b", None, None, "2"), Member("c", None, None, "3")]
        after = [Member("d", None, None, "4"), Member("b", None, None, "x"), Member("c", None, None, "3")]
        assert dataset.difference(before, after) == dataset.Difference(["d"], ["a"], ["b"], 1)

    def test_reasons_are_counted_in_their_order(self) -> None:
        """Whatever the order in which they were met."""
        found = [dataset.Dropped("a", False, reason) for reason in reversed(dataset.REASONS)]
        assert list(dataset.dropped_counts(found)) == list(dataset.REASONS)
        assert all(one != other for one, other in pairwise(dataset.REASONS))
