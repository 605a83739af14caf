"""The plain job in DuckDB: ``read_json`` -> silver by day + gold + collected.

No state, no quarantine, no ``canonical``, no fsync.
Run as a child: ``python peer_duckdb.py INPUT ROOT THREADS [--faithful]``.

Its choices were measured one by one and the fastest kept: explicit types, text rather than JSON where the job needs no
more, order given up as soon as duplicates are settled (up to half of the CPU of COPY). What it loses: broken lines
become rows of nulls, which are dropped without a trace; an ``output`` object comes out as text; unknown keys are
dropped and absent ones written as null.
``--faithful`` is what DuckDB does by default: lines stay in order, and an object stays one.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import peer_gold

TEXT = (
    "task_id master task_type description input output status created_at started_at completed_at "
    "error model priority ingested_at layer"
)
COLUMNS = {
    **dict.fromkeys(TEXT.split(), "VARCHAR"),
    "tokens": "STRUCT(input BIGINT, output BIGINT)",
    "cost": "DOUBLE",
    "metadata": "STRUCT(worker VARCHAR, attempt BIGINT, tags VARCHAR[])",
    "quality_score": "JSON",
    "retries": "BIGINT",
    "retry_count": "BIGINT",
}
READ = """
CREATE TEMP TABLE tasks AS
WITH bronze AS (
    SELECT *, try_cast(created_at AS TIMESTAMPTZ) AS _created, try_cast(started_at AS TIMESTAMPTZ) AS _started,
        try_cast(completed_at AS TIMESTAMPTZ) AS _completed
    FROM read_json($source, format = 'newline_delimited', ignore_errors = true, maximum_object_size = 67108864,
        columns = {columns})
    WHERE task_id IS NOT NULL
)
SELECT * EXCLUDE (_created, _started, layer), 'silver' AS layer, $now AS processed_at,
    CASE WHEN epoch_us(_completed) >= epoch_us(coalesce(_started, _created))
        THEN (epoch_us(_completed) - epoch_us(coalesce(_started, _created))) / 1e6 END AS duration_seconds,
    coalesce(status = 'completed', false) AS is_success, coalesce(status = 'failed', false) AS is_failure,
    coalesce(error, '') <> '' AS has_error,
    strftime(coalesce(_completed, _created, now()), '%Y%m%d') AS _day,
    coalesce(status IN ('completed', 'failed', 'cancelled'), false) AS _final
FROM bronze
"""
# Final beats not final, then the later completion, then the later line; only among the few tasks with several records.
SETTLE = """
DELETE FROM tasks WHERE rowid IN (
    SELECT line FROM (
        SELECT rowid AS line,
            row_number() OVER (
                PARTITION BY task_id ORDER BY _final DESC, _completed DESC NULLS LAST, rowid DESC
            ) AS rank
        FROM tasks WHERE task_id IN (SELECT task_id FROM tasks GROUP BY task_id HAVING count(*) > 1)
    ) WHERE rank > 1
)
"""
SILVER = "SELECT * EXCLUDE (_completed, _day, _final) FROM tasks WHERE _day = '{day}'"
MASTERS = """
SELECT master, count(*), count(*) FILTER (is_success), count(*) FILTER (is_failure)
FROM tasks WHERE _final AND _day = $day GROUP BY master
"""
STATUSES = "SELECT status, count(*) FROM tasks WHERE _final AND _day = $day GROUP BY status"
DURATIONS = "SELECT duration_seconds FROM tasks WHERE _final AND _day = $day AND duration_seconds >= 0 ORDER BY 1"
REPORT = """
SELECT master, '{day}' AS date, 'gold' AS layer, '{now}' AS generated_at,
    {{total_tasks: count(*), completed: count(*) FILTER (is_success), failed: count(*) FILTER (is_failure),
      completion_rate: round(100.0 * count(*) FILTER (is_success) / count(*), 1),
      avg_duration: coalesce(round(avg(duration_seconds), 1), 0)}} AS metrics,
    list({{task_id: task_id, status: status, duration_seconds: duration_seconds, created_at: created_at,
      completed_at: completed_at}}) AS task_list
FROM tasks WHERE _final AND _day = '{day}' AND master IS NOT DISTINCT FROM {master} GROUP BY master
"""
# The last test stops at the twentieth visible character: a thirtieth of the cost of counting them all.
COLLECT = """
CREATE TEMP TABLE outcomes AS
SELECT task_id, master, task_type, status, quality_score::DOUBLE AS quality_score, created_at, started_at, completed_at,
    duration_seconds, error, 0 AS retry_count, model, cost AS cost_usd, coalesce(input, description) AS input, output,
    CASE WHEN ('0x' || sha256(task_id)[1:8])::UBIGINT % 100 < 80 THEN 'training' ELSE 'validation' END AS split,
    $now AS collected_at, _day
FROM (
    SELECT * REPLACE ({output} AS output) FROM tasks
    WHERE is_success AND NOT has_error AND coalesce(retry_count, retries, 0) = 0 AND duration_seconds BETWEEN 10 AND 600
        AND json_type(quality_score) IN ('UBIGINT', 'BIGINT', 'DOUBLE') AND quality_score::DOUBLE BETWEEN 4 AND 5
        AND regexp_matches({output}, '(?:[^\\p{{Z}}\\p{{C}}][\\p{{Z}}\\p{{C}}]*){{20}}')
)
"""
OUTCOMES = "SELECT * EXCLUDE (_day) FROM outcomes WHERE _day = '{day}' AND split = '{split}'"


def main(source: Path, root: Path, threads: int, *, faithful: bool) -> None:
    """Do the job and leave the files where the package itself leaves them."""
    types = COLUMNS | ({"output": "JSON"} if faithful else {})
    now = datetime.now(UTC).isoformat()
    engine = duckdb.connect(config={"threads": threads})
    engine.execute("SET TimeZone = 'UTC'")
    columns = json.dumps(types).replace('"', "'")
    engine.execute(READ.replace("{columns}", columns), {"source": str(source), "now": now})
    engine.execute(SETTLE)
    if not faithful:
        engine.execute("SET preserve_insertion_order = false")
    engine.execute(COLLECT.format(output="output ->> '$'" if faithful else "output"), {"now": now})
    for (day,) in engine.execute("SELECT DISTINCT _day FROM tasks ORDER BY 1").fetchall():
        copy(engine, SILVER.format(day=day), root / f"coordination/medallion/silver/processed-tasks/{day}.jsonl")
        gold(engine, root / "coordination/medallion/gold", day, now)
        for split in ("training", "validation"):
            path = root / f"llm-mesh/auto-learning/hq-outcomes/{split}/{day}.jsonl"
            copy(engine, OUTCOMES.format(day=day, split=split), path)


def gold(engine: duckdb.DuckDBPyConnection, folder: Path, day: str, now: str) -> None:
    """Daily analytics and a report a master, over final tasks."""
    masters = engine.execute(MASTERS, {"day": day}).fetchall()
    statuses = engine.execute(STATUSES, {"day": day}).fetchall()
    durations = [row[0] for row in engine.execute(DURATIONS, {"day": day}).fetchall()]
    peer_gold.write_daily(folder, day, now, masters, statuses, durations)
    for master, *_ in masters:
        # COPY writes a report of 5 MB for half of what fetching its text and writing it here costs.
        quoted = "NULL" if master is None else "'" + master.replace("'", "''") + "'"
        query = REPORT.format(day=day, now=now, master=quoted)
        copy(engine, query, folder / f"reports/{master or 'null'}-{day}.json")


def copy(engine: duckdb.DuckDBPyConnection, query: str, path: Path) -> None:
    """One query into one NDJSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    target = str(path).replace("'", "''")
    engine.execute(f"COPY ({query}) TO '{target}' (FORMAT json)")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), faithful="--faithful" in sys.argv)
