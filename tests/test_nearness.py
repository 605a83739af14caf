"""Near texts: none is missed, whatever finds them, and no input makes the search quadratic."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from array import array
from itertools import combinations, pairwise
from math import comb, inf
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex_autolearn.training import bands
from cortex_autolearn.training.bands import BANDS, COMMON, Bands
from cortex_autolearn.training.nearness import CROWDED, Nearness, Words
from cortex_autolearn.training.rare import Rare, Rarity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

THRESHOLDS = [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0]
TEXT = "look at the login code of ledger and tell what keeps it from being released before friday"


def triples_of(texts: Sequence[str]) -> list[array[int]]:
    words = Words()
    return [words.triples(text) for text in texts]


def counted(triples: Sequence[array[int]]) -> Rarity:
    rarity = Rarity(sum(map(len, triples)))
    for one in triples:
        rarity.count(one)
    return rarity


def are_near(one: array[int], other: array[int], threshold: float) -> bool:
    left, right = set(one), set(other)
    return len(left & right) >= threshold * len(left | right) - 1e-9


class Search:
    """Texts in an order, each kept unless it is near to one that was kept; counts what is compared."""

    def __init__(self, triples: Sequence[array[int]], threshold: float = 0.8, patience: float = 5_000) -> None:
        self._triples = triples
        self.compared = 0
        nearness = Nearness(threshold, counted(triples), self._load, expected=len(triples), patience=patience)
        self.found: list[int | None] = []
        for number, one in enumerate(triples):
            sketch = nearness.sketch(one)
            self.found.append(nearness.near(sketch))
            if self.found[-1] is None:
                nearness.keep(number, sketch)
        self.kept = [number for number, found in enumerate(self.found) if found is None]

    def _load(self, key: int) -> array[int]:
        self.compared += 1
        return self._triples[key]


class TestBands:
    @pytest.mark.parametrize("threshold", [0.5 + step / 100 for step in range(51)])
    def test_a_pair_at_the_threshold_is_hardly_ever_missed(self, threshold: float) -> None:
        """Less than once in 10^8, whatever the threshold; and the nearer, the less often."""
        number = bands.rows(threshold)
        chances = [bands.missed(threshold + step * (1 - threshold) / 10, number) for step in range(11)]
        assert chances[0] <= 1e-8
        assert all(after <= before for before, after in pairwise(chances))

    @pytest.mark.parametrize(("size", "shared"), [(3, 2), (12, 8), (60, 40), (400, 267)])
    def test_bands_are_common_as_often_as_is_reckoned(self, size: int, shared: int) -> None:
        """Short texts and long ones: common bands of pairs of nearness 1/2 are binomial, tail included."""
        draw, pairs = random.Random(1), 800
        index, number = Bands(0.8, pairs, 1), bands.rows(0.8)
        found = []
        for _ in range(pairs):
            numbers = [draw.getrandbits(62) for _ in range(2 * size - shared)]
            one, other = array("q", numbers[:size]), array("q", numbers[size - shared :])
            found.append(sum(a == b for a, b in zip(index.places(one), index.places(other), strict=True)))
        chance = (shared / (2 * size - shared)) ** number
        assert sum(found) / pairs == pytest.approx(BANDS * chance, rel=0.1)
        few = sum(comb(BANDS, k) * chance**k * (1 - chance) ** (BANDS - k) for k in range(COMMON))
        assert sum(count < COMMON for count in found) / pairs == pytest.approx(few, abs=0.05)

    def test_signatures_are_the_same_everywhere(self) -> None:
        """In every process, on every machine and with every release of the library that may be installed.

        If this fails after an update of rensa, datasets get another method in their digest: change the number here,
        and see that ``METHOD`` changed.
        """
        script = (
            "from cortex_autolearn.training.bands import METHOD, Bands\n"
            "from cortex_autolearn.training.nearness import Words\n"
            f"places = Bands(0.8, 100_000, 1).places(Words().triples({TEXT!r}))\n"
            "print(METHOD, len(places), places[0], places[-1], sum(places))"
        )
        for seed in ("1", "2"):
            printed = subprocess.run(
                [sys.executable, "-c", script], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True, text=True
            ).stdout
            assert printed == "minhash-1/rensa-2 48 2321239 4140350 95985601\n"

    def test_another_seed_is_another_look(self) -> None:
        """What one signature happens to miss, the other's does not miss as well."""
        (triples,) = triples_of([TEXT])
        assert not set(Bands(0.8, 100_000, 1).places(triples)) & set(Bands(0.8, 100_000, 2).places(triples))

    def test_whoever_only_imports_pays_nothing(self) -> None:
        """The library is loaded by the first search, not by a daemon that builds no dataset."""
        script = "import sys, cortex_autolearn.wiring, cortex_autolearn.training.build; print('rensa' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
        assert done.stdout == "False\n"


class TestRare:
    @given(st.data())
    def test_everybody_near_is_named(self, data: st.DataObject) -> None:
        """Whatever the texts, their lengths, the threshold and the size of the table: nobody is missed."""
        threshold = data.draw(st.sampled_from(THRESHOLDS))
        word = st.sampled_from([f"w{number}" for number in range(data.draw(st.sampled_from([2, 5, 40])))])
        sizes = st.sampled_from([6, 25, 90])
        texts = data.draw(st.lists(sizes.flatmap(lambda size: st.lists(word, max_size=size)), max_size=12))
        texts += [one[: len(one) - cut] for one in texts for cut in (1, 3)]
        triples = [one for one in triples_of([" ".join(words) for words in texts]) if one]
        rarity = Rarity(data.draw(st.sampled_from([1, 100_000])))
        for one in triples:
            rarity.count(one)
        rare = Rare(threshold, rarity)
        for number, one in enumerate(triples):
            found, _ = rare.alike(len(one), rare.of(one), inf)
            near = {other for other in range(number) if are_near(one, triples[other], threshold)}
            assert found is not None
            assert near <= set(found)
            rare.keep(len(one), rare.of(one))

    def test_who_runs_out_of_patience_is_told(self) -> None:
        """No half of an answer."""
        triples = triples_of([TEXT] * 20)
        rare = Rare(0.8, counted(triples))
        for one in triples:
            rare.keep(len(one), rare.of(one))
        assert rare.alike(len(triples[0]), rare.of(triples[0]), 10)[0] is None
        found, steps = rare.alike(len(triples[0]), rare.of(triples[0]), inf)
        assert (sorted(found or ()), steps > 10) == (list(range(20)), True)


WORDS = ["".join(letters) for letters in combinations("abcdefghijklmnop", 3)]


def stock(draw: random.Random) -> Callable[[], str]:
    """Five of 100 stock sentences in any order: nothing in a text is rare."""
    sentences = [" ".join(draw.choices(WORDS, k=10)) for _ in range(100)]
    return lambda: " ".join(draw.sample(sentences, 5))


def template(draw: random.Random) -> Callable[[], str]:
    """One template of 60 words with three numbers: just not near, and all alike."""
    words = draw.choices(WORDS, k=60)
    return lambda: " ".join([*words[:15], number(draw), *words[15:30], number(draw), *words[30:], number(draw)])


def number(draw: random.Random) -> str:
    return str(draw.randrange(10**9))


def boilerplate(draw: random.Random) -> Callable[[], str]:
    """A long preface, and a question of a few words."""
    preface = " ".join(draw.choices(WORDS, k=100))
    return lambda: f"{preface} {' '.join(draw.choices(WORDS, k=60))}"


def alike(draw: random.Random) -> Callable[[], str]:
    """One text, of which each has another word."""
    words = draw.choices(WORDS, k=60)
    return lambda: " ".join([*words[:30], number(draw), *words[31:]])


def few_values(draw: random.Random) -> Callable[[], str]:
    """One template with three places, for each of which there are 40 words."""
    words, values = draw.choices(WORDS, k=25), [draw.sample(WORDS, 40) for _ in range(3)]
    return lambda: " ".join(
        [*words[:6], draw.choice(values[0]), *words[6:12], draw.choice(values[1]), *words[12:], draw.choice(values[2])]
    )


def of_two(draw: random.Random) -> Callable[[], str]:
    """Thirty places, each with one of two phrases: everybody is like everybody, and nothing is rare."""
    phrases = [[" ".join(draw.choices(WORDS, k=4)) for _ in range(2)] for _ in range(30)]
    return lambda: " ".join(draw.choice(pair) for pair in phrases)


HARD = [stock, template, boilerplate, alike, few_values]


def some(kind: Callable[[random.Random], Callable[[], str]], count: int) -> list[array[int]]:
    one = kind(random.Random(1))
    return triples_of([one() for _ in range(count)])


def first_near(triples: Sequence[array[int]]) -> Iterator[int | None]:
    """Compare each with each that was kept."""
    kept: dict[int, set[int]] = {}
    for number, one in enumerate(map(set, triples)):
        found = (other for other, whole in kept.items() if len(one & whole) >= 0.8 * len(one | whole) - 1e-9)
        near = next(found, None)
        if near is None:
            kept[number] = one
        yield near


class TestNearness:
    @pytest.mark.parametrize("kind", [*HARD, of_two])
    def test_it_finds_what_comparing_each_with_each_finds(
        self, kind: Callable[[random.Random], Callable[[], str]]
    ) -> None:
        """Also where everything is like everything."""
        triples = some(kind, 300)
        assert Search(triples).found == list(first_near(triples))

    @pytest.mark.parametrize("kind", HARD)
    def test_four_times_the_texts_take_four_times_as_long(
        self, kind: Callable[[random.Random], Callable[[], str]]
    ) -> None:
        """Not sixteen times; and few pairs are compared."""

        def seconds(count: int) -> float:
            triples, took = some(kind, count), []
            for _ in range(2):
                began = time.process_time()
                search = Search(triples)
                took.append(time.process_time() - began)
            assert search.compared < 30 * count
            assert CROWDED not in search.found
            return min(took)

        assert seconds(2_400) < 8 * seconds(600)

    def test_who_is_among_too_many_alike_is_not_kept(self) -> None:
        """Where nobody can be told apart in time the work ends all the same, and no near pair is kept."""
        triples = some(of_two, 700)
        search = Search(triples, patience=200)
        assert CROWDED in search.found
        compared = search.compared - len(search.kept)  # each was loaded once more, for what is rare in it
        assert compared * min(map(len, triples)) < 200 * (400 + len(triples))
        kept = [triples[number] for number in search.kept]
        assert list(first_near(kept)) == [None] * len(kept)

    def test_the_patient_always_know(self) -> None:
        """However long it takes: the last look at a dataset."""
        triples = some(of_two, 400)
        assert Search(triples, patience=inf).found == list(first_near(triples))

    @pytest.mark.parametrize("threshold", THRESHOLDS[:-1])
    def test_pairs_at_the_threshold_are_found(self, threshold: float) -> None:
        """Hundreds that are just near enough; none of those that are just not."""
        draw = random.Random(2)
        at: list[array[int]] = []
        below: list[array[int]] = []
        for _ in range(500):
            size = draw.randrange(40, 80)
            shared = next(count for count in range(size + 1) if count >= threshold * (2 * size - count) - 1e-9)
            numbers = [draw.getrandbits(62) for _ in range(2 * size)]
            at += array("q", numbers[:size]), array("q", numbers[:shared] + numbers[size : 2 * size - shared])
            numbers = [draw.getrandbits(62) for _ in range(2 * size)]
            shared -= 1
            below += array("q", numbers[:size]), array("q", numbers[:shared] + numbers[size : 2 * size - shared])
        assert Search(at, threshold).found == [place - 1 if place % 2 else None for place in range(len(at))]
        assert set(Search(below, threshold).found) == {None}
