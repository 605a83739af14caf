-- The state of the daemon: what was read, what became of it, what was written and what ran.
-- Instants are microseconds since 1970, days are numbers YYYYMMDD (UTC), positions and lengths are bytes.

CREATE TABLE meta (key TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;

-- Files we write. `length` is what is committed: anything beyond is cut back before the next append. While `staged` is
-- set, the committed content stands in that temporary file and only its rename is missing.
CREATE TABLE outputs (
  path TEXT PRIMARY KEY,
  length INTEGER NOT NULL,
  staged TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX staged_outputs ON outputs (path) WHERE staged IS NOT NULL;

-- Files we read, and how far. `identity` is device and inode; `mark` a digest of the bytes before the cursor.
CREATE TABLE sources (
  id INTEGER PRIMARY KEY,
  path TEXT NOT NULL UNIQUE,
  identity TEXT NOT NULL,
  mark BLOB NOT NULL,
  position INTEGER NOT NULL,
  size INTEGER NOT NULL,
  mtime_ns INTEGER NOT NULL,
  grown_us INTEGER NOT NULL,
  gone INTEGER NOT NULL DEFAULT 0
) STRICT;

-- One row per task and origin (0: bronze, refined by us; 1: silver that Cortex wrote): the record that stands. A later
-- record takes a new row, so ids tell the order in which records came to stand; the collector's cursor is such an id.
-- `position` and `length` say where its silver line stands: in our day file, or in the source itself for origin 1.
CREATE TABLE tasks (
  id INTEGER PRIMARY KEY,
  task_id TEXT NOT NULL,
  origin INTEGER NOT NULL,
  final INTEGER NOT NULL,
  rank_us INTEGER NOT NULL,
  source INTEGER NOT NULL,
  source_offset INTEGER NOT NULL,
  day INTEGER NOT NULL,
  position INTEGER NOT NULL,
  length INTEGER NOT NULL,
  master TEXT,
  status TEXT,
  duration ANY,
  quality ANY,
  retries INTEGER NOT NULL,
  errored INTEGER NOT NULL,
  output_chars INTEGER NOT NULL,
  created_us INTEGER,
  completed_us INTEGER
) STRICT;
CREATE UNIQUE INDEX tasks_by_id ON tasks (task_id, origin);
CREATE INDEX tasks_of_cortex ON tasks (id) WHERE origin <> 0;

-- Days that have tasks: their rows are among the ids from `first_id` to `last_id` (records come by day, mostly, so this
-- does what an index would do and costs a record nothing). `dead` counts bytes of superseded lines in our silver file, `disordered` says that
-- its lines are not in the order of their sources; both end with a compaction. `stale` counts changes
-- since gold was written, and `gold_bytes` tells whether that gold is still there.
CREATE TABLE days (
  day INTEGER PRIMARY KEY,
  first_id INTEGER NOT NULL,
  last_id INTEGER NOT NULL,
  dead INTEGER NOT NULL DEFAULT 0,
  disordered INTEGER NOT NULL DEFAULT 0,
  stale INTEGER NOT NULL DEFAULT 1,
  gold_bytes INTEGER NOT NULL DEFAULT 0,
  last_source TEXT NOT NULL DEFAULT '',
  last_offset INTEGER NOT NULL DEFAULT -1
) STRICT;

-- The day a record without any date was first read, which a rebuild keeps.
CREATE TABLE first_read (task_id TEXT PRIMARY KEY, day INTEGER NOT NULL) STRICT, WITHOUT ROWID;

-- Broken stretches that stand in the quarantine already, so that a file read again quarantines nothing twice.
CREATE TABLE quarantined (
  path TEXT NOT NULL,
  position INTEGER NOT NULL,
  length INTEGER NOT NULL,
  reason TEXT NOT NULL,
  digest BLOB NOT NULL,
  PRIMARY KEY (path, position, length, reason, digest)
) STRICT, WITHOUT ROWID;

-- High-quality outcomes, once per task for ever; `position` and `length` in the file of its split and day.
CREATE TABLE outcomes (
  task_id TEXT PRIMARY KEY,
  split TEXT NOT NULL,
  day INTEGER NOT NULL,
  position INTEGER NOT NULL,
  length INTEGER NOT NULL,
  source TEXT NOT NULL,
  source_offset INTEGER NOT NULL,
  text_bytes INTEGER NOT NULL,
  collected_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX outcomes_by_file ON outcomes (split, day, position);

CREATE TABLE runs (
  run_id TEXT PRIMARY KEY,
  job TEXT NOT NULL,
  trigger TEXT NOT NULL,
  slot TEXT,
  started_us INTEGER NOT NULL,
  ended_us INTEGER,
  result TEXT,
  counts TEXT NOT NULL DEFAULT '{}'
) STRICT, WITHOUT ROWID;
CREATE INDEX runs_by_job ON runs (job, started_us);
CREATE INDEX unfinished_runs ON runs (job) WHERE ended_us IS NULL;

-- A slot is done when its run has ended.
CREATE TABLE slots (
  job TEXT NOT NULL,
  slot TEXT NOT NULL,
  run_id TEXT NOT NULL,
  ended_us INTEGER,
  PRIMARY KEY (job, slot)
) STRICT, WITHOUT ROWID;

-- The outbox: what happened, by the transaction that made it happen; copied to the events file afterwards.
CREATE TABLE events (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  timestamp TEXT NOT NULL,
  event TEXT NOT NULL,
  body TEXT NOT NULL
) STRICT;
