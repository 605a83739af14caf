-- Which model serves which master, the tests that decide it, and what became of their tasks.

-- What serves a master now; see `rollout.registry`. In a watch `challenger` is the former champion.
CREATE TABLE servings (
  master TEXT PRIMARY KEY,
  champion TEXT NOT NULL,
  phase TEXT NOT NULL,
  challenger TEXT,
  test_id TEXT,
  since_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Every change of an alias: who, when, why, and the event that tells of it. `version` is NULL where an alias came to an end.
CREATE TABLE alias_history (
  seq INTEGER PRIMARY KEY,
  master TEXT NOT NULL,
  alias TEXT NOT NULL,
  version TEXT,
  at_us INTEGER NOT NULL,
  step TEXT NOT NULL,
  by TEXT NOT NULL,
  why TEXT NOT NULL,
  event_seq INTEGER
) STRICT;
CREATE INDEX alias_history_by_master ON alias_history (master, seq);

-- Tests, and the watches after a promotion. `number` counts the tests of one model for one master. `policy` and `baseline` are as they
-- were when it began: bars do not move while it runs. `seen` is the row id up to which silver went in, `results` how far its results file
-- was read, `revision` counts changes of its trials, `closing_us` is when its next window closes, `looked_us` when it was last decided about.
CREATE TABLE experiments (
  test_id TEXT PRIMARY KEY,
  kind TEXT NOT NULL,
  master TEXT NOT NULL,
  a TEXT NOT NULL,
  b TEXT NOT NULL,
  treated TEXT NOT NULL,
  percentage_a INTEGER NOT NULL,
  number INTEGER NOT NULL,
  started_us INTEGER NOT NULL,
  started_by TEXT NOT NULL,
  baseline TEXT NOT NULL,
  policy TEXT NOT NULL,
  notes TEXT NOT NULL,
  ended_us INTEGER,
  ending TEXT,
  winner TEXT,
  pauses TEXT NOT NULL,
  alarms TEXT NOT NULL,
  metrics TEXT NOT NULL,
  refused TEXT NOT NULL,
  seen INTEGER NOT NULL,
  results TEXT NOT NULL,
  revision INTEGER NOT NULL,
  closing_us INTEGER,
  looked_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX one_test_a_master ON experiments (master) WHERE ended_us IS NULL;

-- One row per task of a test. `at_us` to `from_results` are those of the outcome that stands, NULL while there is none;
-- `own_quality` is the score that it brought, `quality` the one that counts. `arrival` orders tasks by when they came to have an outcome.
CREATE TABLE trials (
  test_id TEXT NOT NULL,
  task_id TEXT NOT NULL,
  treated INTEGER NOT NULL,
  probability REAL NOT NULL,
  assigned_us INTEGER NOT NULL,
  at_us INTEGER,
  completed INTEGER,
  quality REAL,
  own_quality REAL,
  duration_s REAL,
  from_results INTEGER,
  cost_usd REAL,
  first_us INTEGER,
  arrival INTEGER,
  closed INTEGER NOT NULL,
  unrouted INTEGER NOT NULL,
  void INTEGER NOT NULL,
  PRIMARY KEY (test_id, task_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX trials_by_task ON trials (task_id);

-- Outcomes that came when their test had ended: for its report, they change nothing.
CREATE TABLE late_outcomes (
  test_id TEXT NOT NULL,
  task_id TEXT NOT NULL,
  treated INTEGER NOT NULL,
  at_us INTEGER NOT NULL,
  completed INTEGER NOT NULL,
  quality REAL,
  duration_s REAL,
  from_results INTEGER NOT NULL,
  PRIMARY KEY (test_id, task_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX late_outcomes_by_task ON late_outcomes (task_id);

-- Models that wait for their master to be free, and models that were offered to their masters already.
CREATE TABLE deploy_queue (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  master TEXT NOT NULL,
  model_id TEXT NOT NULL,
  asked_us INTEGER NOT NULL,
  by TEXT NOT NULL,
  why TEXT NOT NULL,
  actor TEXT NOT NULL,
  UNIQUE (master, model_id)
) STRICT;
CREATE TABLE offered_models (model_id TEXT PRIMARY KEY, offered_us INTEGER NOT NULL) STRICT, WITHOUT ROWID;

-- What serves models. A row is committed before the backend is asked; `seen` is the endpoint as the backend last told. Whether one
-- is wanted follows from `servings`: one that is not is torn down, and its row goes after that.
CREATE TABLE endpoints (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  model_id TEXT NOT NULL UNIQUE,
  token TEXT NOT NULL UNIQUE,
  seen TEXT,
  asked_us INTEGER NOT NULL,
  polled_us INTEGER
) STRICT;

-- What every decision rested on, by the event that tells of it.
CREATE TABLE rollout_decisions (
  event_seq INTEGER PRIMARY KEY,
  test_id TEXT NOT NULL,
  at_us INTEGER NOT NULL,
  decision TEXT NOT NULL,
  reasons TEXT NOT NULL,
  numbers TEXT NOT NULL,
  policy TEXT NOT NULL
) STRICT;
CREATE INDEX rollout_decisions_by_test ON rollout_decisions (test_id, event_seq);

-- Tasks whose records carry no time, and that were there before a test began: a record of theirs that is read again is none
-- of the test's, however new its row is.
CREATE TABLE undated_before (
  test_id TEXT NOT NULL,
  task_id TEXT NOT NULL,
  PRIMARY KEY (test_id, task_id)
) STRICT, WITHOUT ROWID;
