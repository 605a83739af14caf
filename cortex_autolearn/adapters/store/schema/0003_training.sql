-- Datasets, and what may never be trained on.

-- In the order in which they were first built. `dataset_id` is the beginning of `sha256`, a digest of all that the dataset is but when it was made. `parent` is the
-- dataset of the same scope before it; `covers_us` the instant up to which collected outcomes went into it.
CREATE TABLE datasets (
  number INTEGER PRIMARY KEY,
  dataset_id TEXT NOT NULL UNIQUE,
  scope TEXT NOT NULL,
  parent TEXT,
  created_us INTEGER NOT NULL,
  covers_us INTEGER NOT NULL,
  train INTEGER NOT NULL,
  validation INTEGER NOT NULL,
  tokens INTEGER NOT NULL,
  sha256 TEXT NOT NULL
) STRICT;

-- Every task that was in the validation split of any dataset, for ever, with digests of its normalised input as it is
-- and as it was masked: of each input that it had there, as a later record may ask something else. `dataset_id` is the
-- first that it was in. (Who is in which dataset stands in the manifests.)
CREATE TABLE validated (
  task_id TEXT NOT NULL,
  plain BLOB NOT NULL,
  masked BLOB NOT NULL,
  dataset_id TEXT NOT NULL,
  PRIMARY KEY (task_id, plain, masked)
) STRICT, WITHOUT ROWID;
