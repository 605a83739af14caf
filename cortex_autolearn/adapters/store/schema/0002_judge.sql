-- Quality scores that the fleet did not give: a judge's and people's, what is still to be judged, and what it cost.
-- Money is whole millionths of a US dollar.

-- The judge's score of a task. `source`, `source_offset` and `digest` tell which record was judged and what it held:
-- the score counts for that record, and for a later one that holds the same.
CREATE TABLE scores (
  task_id TEXT PRIMARY KEY,
  overall REAL NOT NULL,
  task_success INTEGER NOT NULL,
  correctness INTEGER NOT NULL,
  completeness INTEGER NOT NULL,
  clarity INTEGER NOT NULL,
  rationale TEXT NOT NULL,
  model TEXT NOT NULL,
  answered_by TEXT NOT NULL,
  rubric TEXT NOT NULL,
  cost INTEGER NOT NULL,
  request_id TEXT,
  scored_us INTEGER NOT NULL,
  source INTEGER NOT NULL,
  source_offset INTEGER NOT NULL,
  digest BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- A person's score of a task: the last word, whatever record of it stands.
CREATE TABLE labels (
  task_id TEXT PRIMARY KEY,
  score REAL NOT NULL,
  note TEXT NOT NULL,
  by TEXT NOT NULL,
  labelled_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Tasks whose score changed after the collector's rule had met them: it meets them once more.
CREATE TABLE regate (task_id TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;

-- What is to be judged. `state` is waiting, sent or set_aside; `batch` is the token of the batch it was sent in, if any. While
-- it is sent, `reserve` is the most that it may cost, and counts for the day it was sent on. `again` says that another
-- record of the task came to stand meanwhile, `forced` that it is to be judged though it has a score.
CREATE TABLE judge_queue (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  task_id TEXT NOT NULL UNIQUE,
  state TEXT NOT NULL DEFAULT 'waiting',
  attempts INTEGER NOT NULL DEFAULT 0,
  reason TEXT NOT NULL DEFAULT '',
  again INTEGER NOT NULL DEFAULT 0,
  forced INTEGER NOT NULL DEFAULT 0,
  batch TEXT,
  rubric TEXT NOT NULL DEFAULT '',
  source INTEGER NOT NULL DEFAULT 0,
  source_offset INTEGER NOT NULL DEFAULT 0,
  digest BLOB NOT NULL DEFAULT x'',
  reserve INTEGER NOT NULL DEFAULT 0,
  sent_day INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX judge_queue_by_state ON judge_queue (state, id);

-- Batches: the intent, before it is sent, and what is known of it since. `state` is intended, running, ended, lost, or
-- foreign: another program's, taken for ours until its results were seen.
CREATE TABLE judge_batches (
  token TEXT PRIMARY KEY,
  batch_id TEXT UNIQUE,
  model TEXT NOT NULL,
  asked INTEGER NOT NULL,
  intended_us INTEGER NOT NULL,
  state TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX open_judge_batches ON judge_batches (intended_us) WHERE state IN ('intended', 'running');

-- What was spent, by the UTC day on which the request was sent. `lost` of the requests were under way when their
-- process was killed: what they cost is not known, and the most they can have cost is noted.
CREATE TABLE judge_spend (
  day INTEGER NOT NULL,
  model TEXT NOT NULL,
  requests INTEGER NOT NULL,
  lost INTEGER NOT NULL,
  input_tokens INTEGER NOT NULL,
  cache_write_tokens INTEGER NOT NULL,
  cache_read_tokens INTEGER NOT NULL,
  output_tokens INTEGER NOT NULL,
  cost INTEGER NOT NULL,
  PRIMARY KEY (day, model)
) STRICT, WITHOUT ROWID;

-- Budgets that were reached, each told of once: YYYY-MM-DD or YYYY-MM.
CREATE TABLE judge_budgets (period TEXT PRIMARY KEY, reached_us INTEGER NOT NULL) STRICT, WITHOUT ROWID;
