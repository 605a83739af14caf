"""The files that Cortex's shell library shares with rollout, as values."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from cortex_autolearn.model.experiments import AliasChange, Experiment, Held, Pause
from cortex_autolearn.model.rollout_policy import RolloutPolicy
from cortex_autolearn.rollout.files import Unusable, aliases, champion_in, document_of, manual_stop, occupied
from cortex_autolearn.rollout.plan import NO_METRICS

MASTER, CHAMPION, MODEL = "security-master", "v1.0.0", "ft-20251127-001"
AT = 1_764_244_800_000_000
TEST = Experiment(
    test_id=f"{MASTER}-{MODEL}",
    kind="test",
    master=MASTER,
    a=CHAMPION,
    b=MODEL,
    treated="b",
    percentage_a=90,
    number=1,
    started_us=AT,
    started_by="daemon",
    baseline={},
    policy=RolloutPolicy(),
    metrics=NO_METRICS,
)
ENDED = msgspec.structs.replace(TEST, ended_us=AT + 1_000_000, ending="promote", winner="b")
HISTORY = [
    AliasChange(MASTER, "champion", CHAMPION, AT, "found", "daemon", "it served when rollout began", None),
    AliasChange(MASTER, "challenger", MODEL, AT, "deploy", "daemon", "its training has ended", None),
]


class TestTestFile:
    def test_it_has_the_names_that_the_shell_reads(self) -> None:
        """FORMATS, "A/B test": none of these renamed."""
        found = document_of(None, TEST)
        assert found == {
            "test_id": "security-master-ft-20251127-001",
            "master": MASTER,
            "variants": {
                "a": {"name": CHAMPION, "traffic_percentage": 90},
                "b": {"name": MODEL, "traffic_percentage": 10},
            },
            "status": "active",
            "created_at": "2025-11-27T12:00:00Z",
            "metrics": {
                "tasks_assigned": {"a": 0, "b": 0},
                "tasks_completed": {"a": 0, "b": 0},
                "tasks_failed": {"a": 0, "b": 0},
                "avg_duration": {"a": 0, "b": 0},
                "avg_quality_score": {"a": 0, "b": 0},
            },
        }

    def test_keys_of_others_are_kept_and_ours_win(self) -> None:
        """At the top, in the variants and in the metrics."""
        before = {"note": 1, "status": "completed", "winner": "x", "variants": {"a": {"owner": "x", "name": "y"}}}
        found = document_of(before, TEST)
        assert (found["note"], found["variants"]["a"]) == (
            1,
            {"owner": "x", "name": CHAMPION, "traffic_percentage": 90},
        )
        assert found["status"] == "active"
        assert "winner" not in found

    def test_its_end_is_told(self) -> None:
        """Status, winner and when."""
        found = document_of(document_of(None, TEST), ENDED)
        assert (found["status"], found["winner"]) == ("completed", "b")
        assert found["completed_at"] == "2025-11-27T12:00:01Z"

    def test_a_paused_test_gives_everything_to_the_champion(self) -> None:
        """So that the shell does so, too; an ended one shows its split again."""
        paused = msgspec.structs.replace(TEST, pauses=(Pause(AT),))
        variants = document_of(None, paused)["variants"]
        assert [variants[name]["traffic_percentage"] for name in "ab"] == [100, 0]
        ended = msgspec.structs.replace(paused, ended_us=AT)
        assert document_of(None, ended)["variants"]["b"]["traffic_percentage"] == 10

    @pytest.mark.parametrize(
        ("found", "winner"),
        [
            (None, None),
            ({}, None),
            ({"status": "active", "winner": "a"}, None),
            ({"status": "completed"}, None),
            ({"status": "completed", "winner": "c"}, None),
            ({"status": "completed", "winner": ["a"]}, None),
            ({"status": "completed", "winner": "a"}, "a"),
            ({"status": "completed", "winner": "b"}, "b"),
        ],
    )
    def test_a_stop_needs_status_and_winner(self, found: dict[str, Any] | None, winner: str | None) -> None:
        """And a test that runs: of one that has ended the file stops nothing."""
        assert manual_stop(found, TEST) == winner
        assert manual_stop(found, ENDED) is None

    @pytest.mark.parametrize(
        ("found", "master"),
        [
            (None, None),
            ({"status": "completed", "master": "security-master"}, None),
            ({"status": "active", "master": "Security"}, "security-master"),
            ({"status": "active", "master": "../x"}, None),
            ({"status": "active", "master": 5}, None),
            ({"status": "active"}, None),
        ],
    )
    def test_whose_test_runs(self, found: dict[str, Any] | None, master: str | None) -> None:
        """A file that is active occupies its master, however that is written."""
        assert occupied(found) == master


class TestAliases:
    def test_it_has_the_names_that_cortex_reads(self) -> None:
        """FORMATS, "A/B test": champion, challenger and shadow with version, description, promoted_at and status."""
        found = aliases(None, Held(MASTER, CHAMPION, "testing", MODEL, TEST.test_id, AT), HISTORY)
        assert found["master_id"] == MASTER
        assert found["aliases"] == {
            "champion": {
                "version": CHAMPION,
                "description": "it served when rollout began",
                "promoted_at": "2025-11-27T12:00:00Z",
                "status": "active",
            },
            "challenger": {
                "version": MODEL,
                "description": "its training has ended",
                "promoted_at": "2025-11-27T12:00:00Z",
                "status": "testing",
            },
            "shadow": None,
        }
        assert [one["version"] for one in found["version_history"]] == [CHAMPION]
        assert found["last_updated"] == "2025-11-27T12:00:00Z"

    def test_keys_of_others_are_kept(self) -> None:
        """Unknown ones, a shadow, other aliases, and what stands in the history already; ours stand there once."""
        before = {
            "x": 1,
            "aliases": {"shadow": {"version": "s"}, "canary": {}, "champion": {"version": CHAMPION, "owner": "o"}},
            "version_history": [{"version": "v0"}],
        }
        held = Held(MASTER, CHAMPION, "steady", None, None, AT)
        found = aliases(before, held, HISTORY)
        assert found["x"] == 1
        assert found["aliases"]["shadow"] == {"version": "s"}
        assert found["aliases"]["canary"] == {}
        assert found["aliases"]["champion"]["owner"] == "o"
        assert found["aliases"]["challenger"] is None
        assert [one["version"] for one in found["version_history"]] == ["v0", CHAMPION]
        assert aliases(found, held, HISTORY) == found

    def test_another_champion_brings_nothing_of_the_former_one(self) -> None:
        """Its description was of that one."""
        before = {"aliases": {"champion": {"version": CHAMPION, "owner": "o", "description": "old"}}}
        found = aliases(before, Held(MASTER, MODEL, "steady", None, None, AT), HISTORY)
        assert "owner" not in found["aliases"]["champion"]

    @pytest.mark.parametrize(
        ("found", "version"),
        [
            (None, None),
            ({}, None),
            ({"aliases": []}, None),
            ({"aliases": {"champion": None}}, None),
            ({"aliases": {"champion": {"version": ""}}}, None),
            ({"aliases": "v1"}, Unusable("v1")),
            ({"aliases": {"champion": "v1"}}, Unusable("v1")),
            ({"aliases": {"champion": {"version": 7}}}, Unusable(7)),
            ({"aliases": {"champion": {"version": "../x"}}}, Unusable("../x")),
            ({"aliases": {"champion": {"version": "v2"}}}, "v2"),
        ],
    )
    def test_the_champion_that_stands_there(self, found: dict[str, Any] | None, version: str | Unusable | None) -> None:
        """Only a name that may be part of a path can be one; any other is not taken for none."""
        assert champion_in(found) == version
