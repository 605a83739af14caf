-- Trainings and the models that came of them.

-- A row is committed before its backend is asked for anything: `state` is NULL until the backend took it, and whoever
-- finds such a row asks the backend for its token first. `spec`, `estimate` and `seen` (the job as the backend last told)
-- are JSON. `covers_us` is the instant up to which collected outcomes went into its dataset; `told_percent` the progress that was
-- last told in an event; `ending` why it is to be ended, set before the backend is asked to.
CREATE TABLE training_jobs (
  model_id TEXT PRIMARY KEY,
  scope TEXT NOT NULL,
  dataset_id TEXT NOT NULL,
  token TEXT NOT NULL UNIQUE,
  spec TEXT NOT NULL,
  estimate TEXT NOT NULL,
  asked_by TEXT NOT NULL,
  asked_us INTEGER NOT NULL,
  covers_us INTEGER NOT NULL,
  state TEXT,
  seen TEXT,
  submitted_us INTEGER,
  polled_us INTEGER,
  ended_us INTEGER,
  told_percent INTEGER NOT NULL DEFAULT 0,
  ending TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX training_jobs_by_scope ON training_jobs (scope, asked_us);
CREATE UNIQUE INDEX one_training_a_scope ON training_jobs (scope) WHERE ended_us IS NULL;

-- Models that serve, may serve or have served. `artefact` is a folder below ROOT or the provider's own id.
CREATE TABLE models (
  model_id TEXT PRIMARY KEY,
  kind TEXT NOT NULL,
  base TEXT NOT NULL,
  artefact TEXT NOT NULL,
  scope TEXT NOT NULL,
  dataset_id TEXT,
  backend TEXT NOT NULL,
  metrics TEXT NOT NULL DEFAULT '{}',
  made_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
