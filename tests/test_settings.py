"""The configuration: precedence, refusals, everything at once, masking."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Struct

from cortex_autolearn.model import policy
from cortex_autolearn.model.training_policy import TrainingPolicy
from cortex_autolearn.settings import (
    ConfigError,
    Field,
    Loaded,
    Problem,
    Settings,
    fields,
    load,
    resolve,
    rows,
    show,
)
from cortex_autolearn.settings_sources import read_file

CONFIG = "cortex-autolearn.toml"
ENV = "CORTEX_AUTOLEARN__"


def write(root: Path, text: str | bytes) -> Path:
    path = root / CONFIG
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(root: Path, **given: Any) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        load(root, **{"environ": {}, **given})
    lines = str(caught.value).split("\n")
    assert lines == [str(problem) for problem in caught.value.problems]
    return caught.value.problems


# Defaults and precedence.


def test_defaults_are_the_missions(tmp_path: Path) -> None:
    """Nothing given: quality 4.0, 10 to 600 s, 80/20, 1,000 examples, hourly, 03:00, 02:00, every 6 h."""
    loaded = load(tmp_path, environ={"PATH": "/bin"})
    assert loaded.settings == Settings()
    gate, schedule = loaded.settings.collect, loaded.settings.schedule
    assert (gate.min_quality, gate.min_duration_s, gate.max_duration_s, gate.training_percent) == (4.0, 10, 600, 80)
    assert (schedule.collection_every_s, schedule.readiness_at, schedule.medallion_at) == (3600, "03:00", "02:00")
    assert (schedule.status_every_s, schedule.timezone) == (21_600, "")
    assert loaded.settings.training.min_examples == 1000
    assert set(loaded.origins.values()) == {"default"}


@pytest.mark.parametrize(
    ("file", "environment", "flag", "value", "origin"),
    [
        (None, None, None, 4.0, "default"),
        ("3.0", None, None, 3.0, "file {path}"),
        (None, "3.5", None, 3.5, f"environment {ENV}COLLECT__MIN_QUALITY"),
        ("3.0", "3.5", None, 3.5, f"environment {ENV}COLLECT__MIN_QUALITY"),
        ("3.0", "3.5", 4.5, 4.5, "--set collect.min_quality"),
        ("3.0", None, "4.5", 4.5, "--set collect.min_quality"),
        (None, "3.5", 4.5, 4.5, "--set collect.min_quality"),
    ],
)
def test_precedence(
    tmp_path: Path, file: str | None, environment: str | None, flag: object, value: float, origin: str
) -> None:
    """A flag beats the environment, which beats the file, which beats the default; the origin says who won."""
    path = write(tmp_path, f"[collect]\nmin_quality = {file}\n" if file else "")
    environ = {f"{ENV}COLLECT__MIN_QUALITY": environment} if environment else {}
    loaded = load(tmp_path, environ=environ, flags={"collect.min_quality": flag})
    assert loaded.settings.collect.min_quality == value
    assert loaded.origins["collect.min_quality"] == origin.format(path=path)


def test_sources_combine(tmp_path: Path) -> None:
    """Each source may give another field of one section."""
    write(tmp_path, "[collect]\nmin_quality = 3\n[log]\nlevel = 'debug'\n")
    loaded = load(tmp_path, environ={f"{ENV}COLLECT__MIN_DURATION_S": "5"}, flags={"collect.training_percent": 70})
    gate = loaded.settings.collect
    assert (gate.min_quality, gate.min_duration_s, gate.training_percent) == (3.0, 5.0, 70)
    assert loaded.settings.log.level == "debug"


def test_config_replaces_the_roots_file(tmp_path: Path) -> None:
    """--config names the only file that is read."""
    write(tmp_path, "[collect]\nmin_quality = 9\n")
    other = tmp_path / "other.toml"
    other.write_text("\ufeff[collect]\r\nmin_quality = 2.5\r\n")  # with a BOM and CRLF, as Windows writes it
    loaded = load(tmp_path, environ={}, config=other)
    assert loaded.settings.collect.min_quality == 2.5
    assert loaded.origins["collect.min_quality"] == f"file {other}"


# Values by source.


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("WATCH__ENABLED", "false", False),
        ("WATCH__ENABLED", "0", False),
        ("WATCH__ENABLED", "No", False),
        ("WATCH__ENABLED", " OFF ", False),
        ("WATCH__ENABLED", "yes", True),
        ("TRAINING__EPOCHS", " 7 ", 7),
        ("TRAINING__EPOCHS", "+7", 7),
        ("COLLECT__MIN_QUALITY", "4", 4.0),
        ("COLLECT__MIN_QUALITY", "4.", 4.0),
        ("COLLECT__MIN_QUALITY", "0.4e1", 4.0),
        ("COLLECT__MIN_DURATION_S", ".5", 0.5),
        ("LOG__FILE", "", ""),
        ("LOG__FILE", " a b ", " a b "),
        ("LOG__LEVEL", "error", "error"),
        ("SCHEDULE__TIMEZONE", "America/Chicago", "America/Chicago"),
        ("MEDALLION__SCORE_SCALE", '[{"low": 0, "high": 1}]', (policy.ScoreScale(low=0.0, high=1.0),)),
        ("MEDALLION__SCORE_SCALE", "[]", ()),
    ],
)
def test_environment_values(tmp_path: Path, name: str, text: str, expected: object) -> None:
    """A variable is parsed by the type of its setting; the same text in a flag means the same."""
    section, _, key = name.lower().partition("__")
    from_environment = load(tmp_path, environ={ENV + name: text}).settings
    from_flag = load(tmp_path, environ={}, flags={f"{section}.{key}": text}).settings
    assert getattr(getattr(from_environment, section), key) == expected
    assert type(getattr(getattr(from_environment, section), key)) is type(expected)
    assert from_flag == from_environment


def test_what_contradicts_itself_is_told_of_beside_other_faults(tmp_path: Path) -> None:
    """A bad value in an entry, or in another one, hides no contradiction."""
    (tmp_path / CONFIG).write_text(
        "[[medallion.score_scale]]\nlow = 5\nhigh = 1\nfiles = 'a/b'\n"
        "[[medallion.score_scale]]\nlow = 3\nhigh = 2\n"
        "[[medallion.score_scale]]\nlow = 'x'\nhigh = 2\n",
    )
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, environ={})
    assert [problem.field.partition("[")[2] for problem in raised.value.problems] == [
        "0].files",
        "0].low",
        "1].low",
        "2].low",
    ]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("collect.min_qualty", "collect.min_quality"),
        ("collect.epochs", "training.epochs"),
        ("collect.banana", ""),
        ("schedule.frobnicate", ""),
        ("watch.verbose", ""),
        ("retention.gold", ""),
    ],
)
def test_only_what_is_near_is_suggested(tmp_path: Path, name: str, meant: str) -> None:
    """What two names of a section have in common suggests nothing, in the environment either."""
    for source in (
        {"flags": {name: "1"}, "environ": {}},
        {"environ": {f"{ENV}{name.replace('.', '__').upper()}": "1"}},
    ):
        with pytest.raises(ConfigError) as raised:
            load(tmp_path, **source)  # type: ignore[arg-type]
        reason = raised.value.problems[0].reason.lower().replace(ENV.lower(), "").replace("__", ".")
        assert reason.partition("; did you mean ")[2] == (f"{meant}?" if meant else "")


def test_score_scales_in_the_file(tmp_path: Path) -> None:
    """Every [[medallion.score_scale]] counts, in order; an integer is a number."""
    write(
        tmp_path,
        "[[medallion.score_scale]]\nfiles = 'a*'\nfield = 'm.s'\nlow = 0\nhigh = 100\n"
        "[[medallion.score_scale]]\nlow = -1.5\nhigh = 1\n",
    )
    scales = load(tmp_path, environ={}).settings.medallion.score_scale
    assert scales == (
        policy.ScoreScale(files="a*", field="m.s", low=0.0, high=100.0),
        policy.ScoreScale(files="*", field="quality_score", low=-1.5, high=1.0),
    )


@pytest.mark.parametrize(
    ("text", "field", "said"),
    [
        ("[collect]\nmin_quality = '4.5'", "collect.min_quality", 'not a number (write it without quotes); allowed: a'),
        ("[collect]\nmin_quality = 'high'", "collect.min_quality", '= "high": not a number; allowed: a number from 1'),
        ("[collect]\nmin_quality = true", "collect.min_quality", "= true: not a number"),
        ("[collect]\nmin_quality = 5.1", "collect.min_quality", "= 5.1: out of bounds; allowed: a number from 1 to 5"),
        ("[collect]\nmin_quality = [4]", "collect.min_quality", "= a list of 1: not a number"),
        ("[collect]\nmin_quality.x = 4", "collect.min_quality", "= a table with 1 keys: not a number"),
        ("[collect]\nmin_quality = nan", "collect.min_quality", "= nan: not a finite number"),
        ("[collect]\nmax_duration_s = inf", "collect.max_duration_s", "= inf: not a finite number"),
        ("[collect]\nmax_duration_s = 1e999", "collect.max_duration_s", "= inf: not a finite number"),
        (f"[collect]\nmax_duration_s = {10**400}", "collect.max_duration_s", "an integer of 1329 bits: out of bounds"),
        ("[collect]\nmin_output_chars = true", "collect.min_output_chars", "= true: not an integer"),
        ("[collect]\nmin_output_chars = 20.0", "collect.min_output_chars", "= 20.0: not an integer"),
        ("[collect]\nmin_output_chars = 0", "collect.min_output_chars", "= 0: out of bounds"),
        ("[collect]\nmin_output_chars = 0x" + "f" * 9000, "collect.min_output_chars", "36000 bits: out of bounds"),
        ("[collect]\nmin_output_chars = 1979-05-27", "collect.min_output_chars", "= 1979-05-27: not an integer"),
        ("[watch]\nenabled = 1", "watch.enabled", "= 1: not true or false"),
        ("[watch]\npolling = 'sometimes'", "watch.polling", 'one of the choices; allowed: one of "auto", "always"'),
        ("[rollout]\nmaturation_s = 7776000", "rollout.maturation_s", "less than the days of rollout.max_days = 90.0 (de"),
        ("[rollout]\nmax_days = 1", "rollout.maturation_s", "= 86400: must be less than the days of rollout.max_days = 1"),
        ("[log]\nfile = 3", "log.file", "= 3: not text (write it in quotes)"),
        ("[log]\nfile = 'a\\u0000'\n'x' = 1", "log.x", "unknown setting"),
        ('[log]\nfile = "a\\u0000"', "log.file", "holds a NUL"),
        ("[log]\nfile = '" + "x" * 5000 + "'", "log.file", "…\": out of bounds"),
        ("[training]\nsystem_prompt = ''", "training.system_prompt", "out of bounds; allowed: text of 1 to 20000"),
        ("[schedule]\nreadiness_at = '3:00'", "schedule.readiness_at", 'allowed: a time of day, "HH:MM"'),
        ("[schedule]\nreadiness_at = '24:00'", "schedule.readiness_at", "not in the form"),
        ('[schedule]\nreadiness_at = "03:00\\n"', "schedule.readiness_at", "not in the form"),
        ("[schedule]\nreadiness_at = 03:00:00", "schedule.readiness_at", "= 03:00:00: not text (write it in quotes)"),
        ("[schedule]\ntimezone = 'Europ/Berlin'", "schedule.timezone", "did you mean Europe/Berlin?"),
        ("[medallion]\nnaive_timezone = ''", "medallion.naive_timezone", "not a time zone"),
        ("[medallion]\nnaive_timezone = '../../etc/passwd'", "medallion.naive_timezone", "not a time zone"),
        ("[medallion]\nnaive_timezone = 'America'", "medallion.naive_timezone", "not a time zone"),
        ("[medallion]\nscore_scale = 3", "medallion.score_scale", "= 3: not a list"),
        ("[medallion.score_scale]\nlow = 1", "medallion.score_scale", "= a table with 1 keys: not a list"),
        ("[medallion]\nscore_scale = [3]", "medallion.score_scale[0]", "= 3: not a table"),
        ("[[medallion.score_scale]]\nlow = 1", "medallion.score_scale[0].high", "missing; allowed: a number"),
        ("[[medallion.score_scale]]\nlow=1\nhigh=2\nlo=3", "medallion.score_scale[0].lo", "did you mean low?"),
        ("[[medallion.score_scale]]\nlow=2\nhigh=2", "medallion.score_scale[0].low", "must be below"),
        ("[[medallion.score_scale]]\nlow=1\nhigh=2\nfiles='a/b'", "medallion.score_scale[0].files", "without /"),
        ("[[medallion.score_scale]]\nlow=1\nhigh=2\nfield='a..b'", "medallion.score_scale[0].field", "dotted path"),
        ("[medallion]\nscore_scale = [" + "1," * 101 + "]", "medallion.score_scale", "a list of 101: out of bounds"),
        ("collect = 3", "collect", "not a table; allowed: a section, [collect]"),
        ("[[collect]]", "collect", "not a table"),
        ("[colect]\nx = 1", "colect", "unknown section; did you mean collect?"),
        ("min_quality = 3", "min_quality", "unknown setting; did you mean collect.min_quality?"),
        ("[collect]\nmin_qualty = 3", "collect.min_qualty", "unknown setting; did you mean collect.min_quality?"),
        ("'collect.min_quality' = 3", "collect.min_quality", "unknown setting; did you mean collect.min_quality?"),
        ("[collect]\n'a\\nb\\u001b' = 3", "collect.a\\nb\\u001b", "unknown setting"),
        ('[collect]\n"a\\nb\\u001b" = 3', "collect.a\nb\x1b", "a\\nb\\x1b: unknown setting"),
        ("[" + "x" * 5000 + "]", "x" * 80 + "…", "unknown section"),
        ("[collect]\nmin_duration_s = 700", "collect.min_duration_s", "at most collect.max_duration_s = 600.0 (default)"),
        ("[rollout]\nmasters = ['security']", "rollout.masters[0]", "the name of a master, such as"),
        ("[[judge.rubrics]]\nmaster='cicd'\nfile='r'", "judge.rubrics[0].master", 'such as "security-master"'),
        ("[[dataset.system_prompts]]\nmaster='cicd'\nprompt='p'", "dataset.system_prompts[0].master", "the name of a"),
        ("[collect]\nmax_duration_s = 5", "collect.min_duration_s", "= 10.0: must be at most collect.max_duration_s"),
    ],
)  # fmt: skip
def test_the_file_is_refused(tmp_path: Path, text: str, field: str, said: str) -> None:
    """Each wrong thing in a file is one problem that says file, field, value and what is allowed."""
    path = write(tmp_path, text)
    (problem,) = (found for found in refused(tmp_path) if found.field == field)
    assert problem.source == f"file {path}"
    assert said in str(problem)
    assert str(problem).isprintable()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"[collect]\nmin_quality = \n", "line 2, column 15: not valid TOML: Invalid value"),
        (b"[collect]\nmin_quality = [", "line 2, column 16: not valid TOML: Invalid value"),
        (b"a = 1\r\na = 2\r\n", "line 2, column 6: not valid TOML: Cannot overwrite a value"),
        (b"a = " + b"[" * 5000, "not valid TOML: nested too deeply"),
        (b"a = " + b"9" * 9000, "not valid TOML: an integer has too many digits"),
        (b"a = 1\nb = '\xff'\n", "not UTF-8: line 2, byte 6 of the line"),
        (b"\xff", "not UTF-8: line 1, byte 1 of the line"),
        (b"#" * (1024**2 + 1), "larger than 1048576 bytes"),
    ],
)
def test_a_file_that_is_no_toml(tmp_path: Path, data: bytes, said: str) -> None:
    """A file that cannot be parsed is one problem, with line and column where there is one."""
    path = write(tmp_path, data)
    (problem,) = refused(tmp_path)
    assert str(problem) == f"file {path}: {said}"


def test_deep_dotted_keys(tmp_path: Path) -> None:
    """Nesting that the parser accepts does not break the report."""
    write(tmp_path, "[collect]\nmin_quality" + ".a" * 3000 + " = 1")
    (problem,) = refused(tmp_path)
    assert problem.field in {"collect.min_quality", ""}  # newer parsers refuse the file as a whole


def test_a_flood_of_unknown_keys_is_reported_quickly(tmp_path: Path) -> None:
    """A large file of junk does not keep the start waiting for suggestions."""
    write(tmp_path, "[collect]\n" + "".join(f"min_quality{number} = 1\n" for number in range(20_000)))
    problems = refused(tmp_path)
    assert len(problems) == 20_000
    assert problems[0].reason.endswith("did you mean collect.min_quality?")
    assert problems[-1].reason == "unknown setting"


@pytest.mark.parametrize(
    ("kind", "said"),
    [("missing", "does not exist"), ("folder", "not a regular file"), ("fifo", "not a regular file"),
     ("link", "a link to a file that does not exist"), ("below a file", "cannot be read: Not a directory"),
     ("nul", "cannot be read"), ("long", "cannot be read")],
)  # fmt: skip
def test_a_file_that_cannot_be_read(tmp_path: Path, kind: str, said: str) -> None:
    """Whatever stands at the path of --config: a clear refusal, at once."""
    path = tmp_path / "x.toml"
    match kind:
        case "folder":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "link":
            path.symlink_to(tmp_path / "nowhere")
        case "below a file":
            path.touch()
            path = path / "y.toml"
        case "nul":
            path = tmp_path / "a\0b"
        case "long":
            path = tmp_path / ("x" * 5000)
    (problem,) = refused(tmp_path, config=path)
    assert said in problem.reason
    assert str(problem).isprintable()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    """A file that is there but may not be read is not taken for a missing one."""
    write(tmp_path, "").chmod(0)
    assert "Permission denied" in refused(tmp_path)[0].reason


def test_the_roots_file_may_be_a_broken_link(tmp_path: Path) -> None:
    """A link that leads nowhere is a mistake, not an absent configuration."""
    (tmp_path / CONFIG).symlink_to(tmp_path / "nowhere")
    assert "a link" in refused(tmp_path)[0].reason


def test_descriptors_are_closed(tmp_path: Path) -> None:
    """Refusing a folder many times leaks no descriptor."""
    (tmp_path / CONFIG).mkdir()
    before = len(os.listdir("/dev/fd"))
    for _ in range(20):
        refused(tmp_path)
    assert len(os.listdir("/dev/fd")) == before


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("COLLECT__MIN_QUALITY", "high", 'collect.min_quality = "high": not a number; allowed: a number from 1 to 5'),
        ("COLLECT__MIN_QUALITY", "", 'collect.min_quality = "": not a number'),
        ("COLLECT__MIN_QUALITY", "nan", "not a number"),
        ("COLLECT__MIN_QUALITY", "1e999", "not a finite number"),
        ("COLLECT__MIN_QUALITY", "4,5", "not a number"),
        ("COLLECT__MIN_QUALITY", "٤", "not a number"),
        ("COLLECT__MIN_OUTPUT_CHARS", "20.0", "not an integer"),
        ("COLLECT__MIN_OUTPUT_CHARS", "1_000", "not an integer"),
        ("COLLECT__MIN_OUTPUT_CHARS", "9" * 500, "out of bounds"),
        ("COLLECT__MIN_OUTPUT_CHARS", "9" * 9000, "not an integer"),
        ("WATCH__ENABLED", "maybe", "not true or false"),
        ("LOG__LEVEL", "INFO", "not one of the choices"),
        ("LOG__FILE", "a\udcff", "bytes that are not UTF-8"),
        ("MEDALLION__SCORE_SCALE", "0..100", "not a list (write it as JSON)"),
        ("MEDALLION__SCORE_SCALE", "[" * 9000, "not a list (write it as JSON)"),
        ("MEDALLION__SCORE_SCALE", "[1", "not a list (write it as JSON)"),
        ("MEDALLION__SCORE_SCALE", "\udcff", "not a list"),
        ("MEDALLION__SCORE_SCALE", "{}", "a table with 0 keys: not a list"),
        ("MEDALLION__SCORE_SCALE", '[{"low": "1", "high": 2}]', 'score_scale[0].low = "1": not a number'),
        ("COLLECT", "1", f"names a section, not a setting; write {ENV}COLLECT__KEY, such as"),
        ("COLLECT__", "1", "names a section"),
        ("", "1", "unknown variable"),
        ("COLLECT__MIN_QUALTY", "1", f"unknown variable; did you mean {ENV}COLLECT__MIN_QUALITY?"),
        ("COLLECT_MIN_QUALITY", "1", f"unknown variable; did you mean {ENV}COLLECT__MIN_QUALITY?"),
        ("COLLECT__MIN_QUALITY__X", "1", "unknown variable"),
        ("collect__min_quality", "4", f"names are upper case; did you mean {ENV}COLLECT__MIN_QUALITY?"),
    ],
)
def test_the_environment_is_refused(tmp_path: Path, name: str, text: str, said: str) -> None:
    """Each wrong variable is one problem that names it."""
    (problem,) = refused(tmp_path, environ={ENV + name: text})
    assert problem.source == f"environment {ENV}{name}"
    assert said in str(problem)
    assert str(problem).isprintable()


def test_lower_case_prefix(tmp_path: Path) -> None:
    """A variable in lower case would have no effect: it is refused instead."""
    (problem,) = refused(tmp_path, environ={"cortex_autolearn__log__level": "debug"})
    assert f"did you mean {ENV}LOG__LEVEL?" in problem.reason


@pytest.mark.parametrize("name", ["CORTEX_AUTOLEARN_JUDGE__ENABLED", "cortex_autolearn_judge_enabled"])
def test_one_underscore_for_two(tmp_path: Path, name: str) -> None:
    """Whoever writes one underscore for two is told so: else a judge that was switched off would go on sending."""
    (problem,) = refused(tmp_path, environ={name: "false"})
    assert str(problem) == f"environment {name}: unknown variable; did you mean {ENV}JUDGE__ENABLED?"


def test_one_underscore_is_never_two_settings() -> None:
    """Written with one underscore for two, each setting is still told from every other."""
    names = [field.environment.replace("__", "_") for field in fields()]
    assert len(set(names)) == len(names)


def test_variables_of_somebody_else(tmp_path: Path) -> None:
    """A variable that only begins like ours is none of our business."""
    loaded = load(tmp_path, environ={"CORTEX_AUTOLEARN_LIVE": "1", "CORTEX_AUTOLEARN_HOME": "/srv"})
    assert set(loaded.origins.values()) == {"default"}


def test_variables_of_a_service_of_kubernetes(tmp_path: Path) -> None:
    """What it gives every process beside a service called like ours keeps none from starting; a port that is meant does."""
    beside = {"HTTP_SERVICE_HOST": "10.0.0.1", "HTTP_PORT": "tcp://10.0.0.1:9464", "PORT_9464_TCP_PORT": "9464"}
    loaded = load(tmp_path, environ={f"CORTEX_AUTOLEARN_{name}": text for name, text in beside.items()})
    assert set(loaded.origins.values()) == {"default"}
    assert refused(tmp_path, environ={"CORTEX_AUTOLEARN_HTTP_PORT": "9465"})


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("collect.min_quality", 9, "--set collect.min_quality: collect.min_quality = 9: out of bounds"),
        ("collect.min_quality", object(), "= a object: not a number"),
        ("collect.min_quality", {1}, "= a set: not a number"),
        ("medallion.score_scale", [{1: 2}], "score_scale[0].1: unknown setting"),
        ("collect.min_qualty", 3, "collect.min_qualty: unknown setting; did you mean collect.min_quality?"),
    ],
)
def test_flags_are_refused(tmp_path: Path, key: str, value: object, said: str) -> None:
    """A wrong flag is named as the operator wrote it."""
    assert any(said in str(problem) for problem in refused(tmp_path, flags={key: value}))


# All at once.


def test_everything_wrong_is_reported_at_once(tmp_path: Path) -> None:
    """Bad fields in every source: one error, one line each, file, environment, flags, contradictions."""
    path = write(
        tmp_path,
        "[collect]\nmin_quality = 9\nmin_output_chars = 'x'\nmin_duration_s = 900\n[log]\nlevle = 'info'\n[what]\n",
    )
    environ = {f"{ENV}TRAINING__EPOCHS": "0", f"{ENV}WATCH__ENABLED": "perhaps"}
    problems = refused(tmp_path, environ=environ, flags={"log.format": "xml"})
    assert [(problem.source, problem.field) for problem in problems] == [
        (f"file {path}", "log.levle"),
        (f"file {path}", "what"),
        (f"file {path}", "collect.min_quality"),
        (f"file {path}", "collect.min_output_chars"),
        (f"environment {ENV}TRAINING__EPOCHS", "training.epochs"),
        (f"environment {ENV}WATCH__ENABLED", "watch.enabled"),
        ("--set log.format", "log.format"),
        (f"file {path}", "collect.min_duration_s"),
    ]


def test_five_bad_fields_across_file_and_environment(tmp_path: Path) -> None:
    """Five wrong values are five problems."""
    write(tmp_path, "[collect]\nmin_quality = 9\nmin_output_chars = 0\n[log]\nqueue_size = 1\n")
    environ = {f"{ENV}TRAINING__EPOCHS": "x", f"{ENV}DAEMON__HEARTBEAT_S": "0"}
    assert len(refused(tmp_path, environ=environ)) == 5


def test_a_bad_value_is_reported_though_overridden(tmp_path: Path) -> None:
    """A wrong file is wrong, whatever a stronger source says."""
    path = write(tmp_path, "[collect]\nmin_quality = 9\n")
    (problem,) = refused(tmp_path, environ={f"{ENV}COLLECT__MIN_QUALITY": "4"}, flags={"collect.min_quality": 3})
    assert problem.source == f"file {path}"


def test_contradictions_are_judged_on_what_takes_effect(tmp_path: Path) -> None:
    """Settings that contradict each other in one source are fine when a stronger one settles it, and the reverse."""
    path = write(tmp_path, "[collect]\nmin_duration_s = 700\n")
    environ = {f"{ENV}COLLECT__MAX_DURATION_S": "800"}
    assert load(tmp_path, environ=environ).settings.collect.max_duration_s == 800
    (problem,) = refused(tmp_path, environ={f"{ENV}COLLECT__MAX_DURATION_S": "650"})
    assert str(problem) == (
        f"file {path}: collect.min_duration_s = 700.0: must be at most collect.max_duration_s = 650.0 "
        f"(environment {ENV}COLLECT__MAX_DURATION_S)"
    )


def test_no_contradiction_with_a_value_that_was_refused(tmp_path: Path) -> None:
    """A field that has a problem already is not compared by its default."""
    write(tmp_path, "[collect]\nmin_duration_s = 700\nmax_duration_s = 'x'\n")
    assert [problem.field for problem in refused(tmp_path)] == ["collect.max_duration_s"]


# The description of the settings.


def everything(found: list[Field]) -> list[Field]:
    return [each for item in found for each in (item, *everything(list(item.members)))]


def test_every_setting_is_described() -> None:
    """Each leaf has a description, what is allowed, a variable and a flag; names are unique; extras are known ones."""
    found = fields()
    assert {section.key.partition(".")[0] for section in found} == set(Settings.__struct_fields__)
    for item in everything(found):
        assert item.description
        assert item.allowed
        assert policy.shape_of(item.annotation).extra.keys() <= {
            "secret",
            "allowed",
            "check",
            "at_most",
            "days_below",
            "loopback_unless",
            "https_unless",
            "below",
        }
    for name in ("key", "environment", "flag"):
        assert len({getattr(item, name) for item in found}) == len(found)


def test_defaults_would_be_accepted(tmp_path: Path) -> None:
    """Each default, as the table shows it, can be written into the file and changes nothing."""
    write(tmp_path, "".join(f"{item.key} = {item.default}\n" for item in fields()))
    loaded = load(tmp_path, environ={})
    assert loaded.settings == Settings()
    assert all(origin.startswith("file ") for origin in loaded.origins.values())


def test_one_description_whole() -> None:
    """What a table in the README is made of."""
    (found,) = (item for item in fields() if item.key == "collect.min_quality")
    assert (found.type, found.default, found.allowed) == ("number", "4.0", "a number from 1 to 5")
    assert (found.environment, found.flag) == (f"{ENV}COLLECT__MIN_QUALITY", "--set collect.min_quality")
    (scales,) = (item for item in fields() if item.key == "medallion.score_scale")
    assert [member.key.rpartition(".")[2] for member in scales.members] == ["files", "field", "low", "high"]
    assert [member.default for member in scales.members] == ['"*"', '"quality_score"', "", ""]


def test_policies_are_immutable() -> None:
    """What was loaded stays as it is, and can be compared and hashed."""
    settings = Settings()
    with pytest.raises(AttributeError):
        settings.collect.min_quality = 1.0  # type: ignore[misc]
    assert hash(settings) == hash(Settings())


# Secrets: none of ours exists yet.


class Provider(Struct, frozen=True, kw_only=True):
    name: Annotated[str, Meta(description="its name")] = ""
    token: Annotated[str, Meta(min_length=5, description="its token", extra={"secret": True})]


class JudgePolicy(Struct, frozen=True, kw_only=True):
    api_key: Annotated[str, Meta(max_length=20, description="the key", extra={"secret": True})] = ""
    other_key: Annotated[str, Meta(description="the key", extra={"secret": True})] = "built-in"
    model: Annotated[str | None, Meta(description="none: no judge")] = None
    limit: Annotated[int, Meta(ge=1, description="a limit")] | None = None
    best: Annotated[Provider | None, Meta(description="a table")] = None
    providers: Annotated[tuple[Provider, ...], Meta(description="more")] = ()
    pins: Annotated[tuple[int, ...], Meta(description="numbers", extra={"secret": True})] = ()


class WithSecrets(Struct, frozen=True):
    judge: JudgePolicy = msgspec.field(default_factory=JudgePolicy)


def resolve_with_secrets(
    root: Path, environ: dict[str, str], flags: dict[str, object] | None = None
) -> tuple[WithSecrets, dict[str, str]]:
    return resolve(WithSecrets, root / CONFIG, required=False, environ=environ, flags=flags or {})


def test_secrets_are_masked_when_shown(tmp_path: Path) -> None:
    """A secret is loaded as it is and shown as eight stars, inside tables too; an empty one is seen to be empty."""
    write(tmp_path, "[judge]\nproviders = [{name = 'n', token = 'hunter2'}]\nbest = {token = 'hunter2'}\n")
    settings, origins = resolve_with_secrets(tmp_path, {f"{ENV}JUDGE__PINS": "[1234, 5678]"})
    assert settings.judge.providers[0].token == "hunter2"
    shown = {row.key: row.value for row in rows(settings, origins)}
    assert shown == {
        "judge.api_key": '""',
        "judge.other_key": '"********"',
        "judge.model": "",
        "judge.limit": "",
        "judge.best": '{name = "", token = "********"}',
        "judge.providers": '[{name = "n", token = "********"}]',
        "judge.pins": '"********"',
    }
    assert {item.key: item.secret for item in fields(WithSecrets)} == {
        "judge.api_key": True, "judge.other_key": True, "judge.model": False, "judge.limit": False,
        "judge.best": True, "judge.providers": True, "judge.pins": True,
    }  # fmt: skip
    assert "built-in" not in str(fields(WithSecrets))


@pytest.mark.parametrize(
    ("text", "environ", "flags"),
    [
        ("judge.api_key = 'hunter2hunter2hunter2hunter2'", {}, {}),
        ("judge.api_key = ['hunter2']", {}, {}),
        ("judge.api_kye = 'hunter2'", {}, {}),
        ("judg.api_key = 'hunter2'", {}, {}),
        ("api_key = 'hunter2'", {}, {}),
        ("judge = 'hunter2'", {}, {}),
        ("judge.providers = [{token = 'hu1'}]", {}, {}),
        ("judge.providers = [{tokn = 'hunter2'}]", {}, {}),
        ("judge.best = 'hunter2'", {}, {}),
        ("", {f"{ENV}JUDGE__API_KEY": "hunter2" * 5}, {}),
        ("", {f"{ENV}JUDGE__API_KEYS": "hunter2"}, {}),
        ("", {f"{ENV}JUDGE__PROVIDERS": '[{"token": "hunter2"'}, {}),
        ("", {f"{ENV}JUDGE__PINS": '["hunter2"]'}, {}),
        ("", {}, {"judge.api_key": "hunter2" * 5}),
        ("", {}, {"judge.apikey": "hunter2"}),
    ],
)
def test_secrets_do_not_leak_into_problems(
    tmp_path: Path, text: str, environ: dict[str, str], flags: dict[str, object]
) -> None:
    """Neither a bad secret nor a misspelt one is repeated by the message that refuses it."""
    write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        resolve_with_secrets(tmp_path, environ, flags)
    assert "hu" not in str(caught.value)
    assert "hu" not in repr(caught.value.problems)


def test_optional_settings(tmp_path: Path) -> None:
    """An empty variable means none where that is allowed; limits hold otherwise."""
    settings, _ = resolve_with_secrets(tmp_path, {f"{ENV}JUDGE__LIMIT": "", f"{ENV}JUDGE__MODEL": "m"})
    assert (settings.judge.limit, settings.judge.model) == (None, "m")
    with pytest.raises(ConfigError, match="judge.limit = 0: out of bounds; allowed: an integer of at least 1"):
        resolve_with_secrets(tmp_path, {f"{ENV}JUDGE__LIMIT": "0"})


class _Odd(Struct):
    odd: complex = 0j


class WithOdd(Struct):
    section: _Odd


def test_a_type_no_setting_can_have() -> None:
    """A schema that could not be checked or shown is refused when it is written, not when it is used."""
    with pytest.raises(TypeError, match="a setting cannot be"):
        fields(WithOdd)


# Properties.

JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.dates() | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from([item.key for item in fields()]) | st.text(max_size=30)
NAMES = st.sampled_from([item.environment for item in fields()]) | st.text(max_size=20).map(ENV.__add__)
TEXTS = st.text(max_size=20) | st.sampled_from(["1", "4.5", "yes", "[]", "[{}]", '[{"low": 0, "high": 1}]', "\udcff"])
LINES = st.builds("{} = {}".format, KEYS, st.text(max_size=10) | JUNK.map(repr)) | st.text(max_size=30)


def load_or_refuse(root: Path, **given: Any) -> Loaded | None:
    try:
        return load(root, **given)
    except ConfigError as error:
        assert error.problems
        assert all(line.isprintable() for line in str(error).split("\n"))
        return None


@given(
    lines=st.lists(LINES, max_size=5),
    environ=st.dictionaries(NAMES, TEXTS, max_size=4),
    flags=st.dictionaries(KEYS, JUNK | TEXTS, max_size=4),
)
def test_junk_is_refused_and_never_crashes(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], environ: dict[str, str], flags: dict[str, object]
) -> None:
    """Whatever stands in file, environment and flags: settings, or a ConfigError."""
    root = tmp_path_factory.getbasetemp()
    write(root, "\n".join(lines).encode("utf-8", "surrogatepass"))
    load_or_refuse(root, environ=environ, flags=flags)


@given(data=st.binary(max_size=200))
def test_any_bytes_may_be_the_file(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """The reader of the file raises nothing; it returns what it understood and notes the rest."""
    path = write(tmp_path_factory.getbasetemp(), data)
    problems: list[Problem] = []
    assert read_file(path, required=True, fields={}, problems=problems) == []


def floats(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False, allow_infinity=False)


PLAIN = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=50)
SCALES = st.builds(
    policy.ScoreScale,
    files=PLAIN.filter(lambda text: "/" not in text),
    field=st.just("a.b"),
    low=floats(-10, 0),
    high=floats(1, 100),
)
SETTINGS = st.builds(
    Settings,
    medallion=st.builds(
        policy.MedallionPolicy,
        follow_bronze=st.booleans(),
        naive_timezone=st.sampled_from(["UTC", "Europe/Berlin"]),
        tail_grace_s=st.integers(1, 31_536_000),
        score_scale=st.lists(SCALES, max_size=3).map(tuple),
    ),
    collect=st.builds(
        policy.GatePolicy,
        min_quality=floats(1, 5),
        min_duration_s=floats(0, 100),
        max_duration_s=floats(100, 10_000),
        training_percent=st.integers(1, 99),
    ),
    training=st.builds(TrainingPolicy, system_prompt=PLAIN, epochs=st.integers(1, 100)),
    log=st.builds(policy.LogPolicy, file=PLAIN, level=st.sampled_from(["debug", "error"])),
)


def as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(msgspec.to_builtins(value))


@given(settings=SETTINGS)
def test_valid_settings_round_trip(tmp_path_factory: pytest.TempPathFactory, settings: Settings) -> None:
    """What ``show`` prints is a file that gives the same settings; so do the environment and the flags."""
    root = tmp_path_factory.mktemp("round")
    origins = {item.key: "default" for item in fields()}
    text = "".join(f"{row.key} = {row.value}\n" for row in show(Loaded(settings, origins)))
    values = {item.key: getattr(getattr(settings, item.key.split(".")[0]), item.key.split(".")[1]) for item in fields()}
    environ = {item.environment: as_text(values[item.key]) for item in fields()}
    flags = {key: msgspec.to_builtins(value) for key, value in values.items()}
    write(root, "")
    assert load(root, environ=environ).settings == settings
    assert load(root, environ={}, flags=flags).settings == settings
    write(root, text)
    assert load(root, environ={}).settings == settings
