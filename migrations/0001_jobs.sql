-- The first schema of klingd. Times are milliseconds since 1970-01-01T00:00:00Z, money is whole credits.
-- Labels are pinned by CHECK: a word that the code does not know can't get in.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What one file or one `enqueue` made.
CREATE TABLE batches (
    id         INTEGER PRIMARY KEY,
    name       TEXT    NOT NULL,
    source     TEXT    NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX batches_by_name ON batches (name);

CREATE TABLE jobs (
    -- AUTOINCREMENT: a number that people have written down is never given to another job, even after a prune.
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    -- Counts the changes; the fence of every write and the number of the last history row.
    version      INTEGER NOT NULL,
    state        TEXT    NOT NULL CHECK (state IN ('queued', 'submitting', 'in_doubt', 'generating', 'downloading', 'done', 'failed', 'cancelled')),
    -- The state with its data, as JSON. `state`, `lane`, `needs_person`, `in_flight` and `task_id` are derived from it in the same write.
    data         TEXT    NOT NULL CHECK (json_valid(data)),
    lane         TEXT    CHECK (lane IN ('submit', 'poll', 'download')),
    needs_person INTEGER NOT NULL CHECK (needs_person IN (0, 1)),
    -- Whether it holds (or may hold) one of the provider's parallel slots.
    in_flight    INTEGER NOT NULL CHECK (in_flight IN (0, 1)),
    -- When the worker of its lane looks at it next.
    due_at       INTEGER,
    task_id      TEXT,
    priority     INTEGER NOT NULL CHECK (priority BETWEEN -100 AND 100),
    name         TEXT,
    output       TEXT,
    batch_id     INTEGER NOT NULL REFERENCES batches (id),
    tags         TEXT    NOT NULL CHECK (json_valid(tags)),
    take         INTEGER NOT NULL CHECK (take >= 1),
    key          TEXT    NOT NULL,
    not_before   INTEGER,
    type         TEXT    NOT NULL,
    -- Exactly what is sent.
    request      TEXT    NOT NULL CHECK (json_valid(request)),
    estimate     INTEGER NOT NULL CHECK (estimate >= 0),
    max_credits  INTEGER,
    charged      INTEGER,
    paid_attempts INTEGER NOT NULL DEFAULT 0,
    polls        INTEGER NOT NULL DEFAULT 0,
    created_at   INTEGER NOT NULL,
    submitted_at INTEGER,
    finished_at  INTEGER,
    -- Where and with which key its task was made: it is asked there, and only there.
    base_url     TEXT,
    key_fingerprint TEXT,
    error        TEXT    CHECK (error IS NULL OR json_valid(error)),
    notes        TEXT    NOT NULL DEFAULT '[]' CHECK (json_valid(notes)),
    source       TEXT    NOT NULL
) STRICT;
-- Hot questions; partial, so that a million finished jobs cost them nothing.
CREATE INDEX jobs_to_submit   ON jobs (priority DESC, id, due_at) WHERE lane = 'submit';
CREATE INDEX jobs_submit_due  ON jobs (due_at)     WHERE lane = 'submit';
CREATE INDEX jobs_poll_due    ON jobs (due_at)     WHERE lane = 'poll';
CREATE INDEX jobs_download_due ON jobs (due_at)    WHERE lane = 'download';
CREATE INDEX jobs_in_flight   ON jobs (state)      WHERE in_flight = 1;
CREATE INDEX jobs_open        ON jobs (id)         WHERE finished_at IS NULL;
CREATE INDEX jobs_finished    ON jobs (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX jobs_in_need     ON jobs (id)         WHERE needs_person = 1;
CREATE INDEX jobs_by_batch    ON jobs (batch_id);
CREATE UNIQUE INDEX jobs_by_task ON jobs (task_id) WHERE task_id IS NOT NULL;

-- One row a change: replayed, they give the state.
CREATE TABLE history (
    job_id     INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    version    INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    event      TEXT    NOT NULL CHECK (json_valid(event)),
    from_state TEXT,
    to_state   TEXT    NOT NULL,
    PRIMARY KEY (job_id, version)
) STRICT, WITHOUT ROWID;

-- One row a POST: the ledger. Rows outlive the pruning of their jobs, so there is no foreign key.
CREATE TABLE attempts (
    job_id       INTEGER NOT NULL,
    n            INTEGER NOT NULL,
    started_at   INTEGER NOT NULL,
    -- The exact bytes that were to be sent, and where, and with which key.
    request      BLOB    NOT NULL,
    request_sha256 TEXT  NOT NULL,
    base_url     TEXT    NOT NULL,
    key_fingerprint TEXT NOT NULL,
    estimate     INTEGER NOT NULL,
    outcome      TEXT    NOT NULL CHECK (outcome IN ('open', 'accepted', 'refused', 'deferred', 'internal_error', 'unknown', 'not_charged', 'written_off')),
    charge       TEXT    NOT NULL CHECK (charge IN ('reserved', 'charged', 'free', 'in_doubt')),
    charged      INTEGER,
    task_id      TEXT,
    answered_at  INTEGER,
    -- The raw answer, as JSON.
    evidence     TEXT    CHECK (evidence IS NULL OR json_valid(evidence)),
    note         TEXT,
    PRIMARY KEY (job_id, n)
) STRICT;
CREATE INDEX attempts_that_count ON attempts (started_at) WHERE charge <> 'free';
CREATE INDEX attempts_in_doubt   ON attempts (job_id) WHERE charge = 'in_doubt';
CREATE UNIQUE INDEX attempts_by_task ON attempts (task_id) WHERE task_id IS NOT NULL;

-- One row a video of a finished task.
CREATE TABLE outputs (
    job_id        INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    idx           INTEGER NOT NULL,
    url           TEXT    NOT NULL,
    failures      INTEGER NOT NULL DEFAULT 0,
    failing_since INTEGER,
    -- The download so far: the temporary file, how much of it is durable, and what it is a part of.
    part          TEXT,
    position      INTEGER NOT NULL DEFAULT 0,
    etag          TEXT,
    -- Verified: committed before the file gets its final name, so that a crash in between can be told.
    path          TEXT,
    bytes         INTEGER,
    sha256        TEXT,
    published_at  INTEGER,
    PRIMARY KEY (job_id, idx)
) STRICT, WITHOUT ROWID;

-- Keys against accidental repetition: unique by construction, and kept when their job is pruned.
CREATE TABLE keys (
    key    TEXT PRIMARY KEY,
    job_id INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE holds (
    name     TEXT    PRIMARY KEY CHECK (name IN ('paused', 'key', 'credits', 'rate', 'disk', 'restored', 'unclean_stop')),
    since    INTEGER NOT NULL,
    why      TEXT    NOT NULL,
    until    INTEGER,
    probe_at INTEGER
) STRICT, WITHOUT ROWID;

-- The gate's memory: one row.
CREATE TABLE gate (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    data TEXT    NOT NULL CHECK (json_valid(data))
) STRICT;

-- Status calls that a command asks the daemon for, because the daemon has the key.
CREATE TABLE errands (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    task_id     TEXT    NOT NULL,
    base_url    TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    answered_at INTEGER,
    answer      TEXT    CHECK (answer IS NULL OR json_valid(answer))
) STRICT;
CREATE INDEX errands_open ON errands (id) WHERE answered_at IS NULL;
