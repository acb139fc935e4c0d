-- The watched folder. One row a file that was taken; keyed by its claim, so that one taking is never queued twice.

CREATE TABLE inbox_files (
    id        INTEGER PRIMARY KEY,
    claim     TEXT    NOT NULL UNIQUE,
    -- Its path below the folder, for people.
    name      TEXT    NOT NULL,
    -- Where it stands while it is claimed, and where it goes: whole paths, which need not be UTF-8. `place` is
    -- committed before the move, so that a file that is gone from `held` is known to stand there.
    held      BLOB    NOT NULL,
    place     BLOB    NOT NULL,
    placed    INTEGER NOT NULL DEFAULT 0 CHECK (placed IN (0, 1)),
    accepted  INTEGER NOT NULL CHECK (accepted IN (0, 1)),
    -- What is wrong with it, or to be said of it.
    remarks   TEXT    NOT NULL,
    taken_at  INTEGER NOT NULL,
    -- The status (or error) file beside it: `changes` counts what happened, `told` says up to where it is written.
    changes   INTEGER NOT NULL DEFAULT 1,
    told      INTEGER NOT NULL DEFAULT 0,
    told_at   INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX inbox_files_to_place ON inbox_files (id)      WHERE placed = 0;
CREATE INDEX inbox_files_to_tell  ON inbox_files (told_at) WHERE told < changes;
CREATE INDEX inbox_files_by_time  ON inbox_files (taken_at);

-- The jobs of a file. No foreign key to the jobs: a job that was there already may have been pruned.
CREATE TABLE inbox_jobs (
    job_id    INTEGER NOT NULL,
    file_id   INTEGER NOT NULL REFERENCES inbox_files (id) ON DELETE CASCADE,
    position  INTEGER NOT NULL,
    -- The key was there already; nothing was queued.
    existing  INTEGER NOT NULL CHECK (existing IN (0, 1)),
    PRIMARY KEY (job_id, file_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX inbox_jobs_by_file ON inbox_jobs (file_id, position);

-- Every change of a job raises its version, whoever makes it: so no change can be forgotten in the status file.
CREATE TRIGGER inbox_job_changed AFTER UPDATE OF version ON jobs BEGIN
    UPDATE inbox_files SET changes = changes + 1
    WHERE id IN (SELECT file_id FROM inbox_jobs WHERE job_id = NEW.id);
END;
