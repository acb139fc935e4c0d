-- Hooks: programs that are told what happened. A call is written in the transaction of what it tells, so that it can be
-- neither lost nor made up; it is removed once its program has ended well, or has failed too often.

-- Who waits for what: the configuration of the daemon that ran last. Nobody listening, nothing is written.
CREATE TABLE hooks (
    event TEXT NOT NULL CHECK (event IN ('job.done', 'job.failed', 'job.in_doubt', 'batch.done', 'budget.stop', 'hold.set')),
    name  TEXT NOT NULL,
    PRIMARY KEY (event, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE hook_calls (
    -- AUTOINCREMENT: whoever is called twice tells it by the number.
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    hook     TEXT    NOT NULL,
    event    TEXT    NOT NULL,
    at       INTEGER NOT NULL,
    due_at   INTEGER NOT NULL,
    failures INTEGER NOT NULL DEFAULT 0,
    -- The job it is about, shown as it is when the program runs; no foreign key: a call must not keep a job.
    job_id   INTEGER,
    -- What else is to be told, as JSON.
    detail   TEXT    CHECK (detail IS NULL OR json_valid(detail))
) STRICT;
CREATE INDEX hook_calls_due ON hook_calls (hook, due_at, id);
