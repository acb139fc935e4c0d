-- The ledger: one slim row an attempt, never removed, so that `budget.total` and `spend` stay true when jobs and the raw
-- answers of their attempts are pruned. Money is kept here and nowhere else: it leaves `attempts`.

CREATE TABLE ledger (
    job_id   INTEGER NOT NULL,
    n        INTEGER NOT NULL,
    -- When the intent was committed: the day that it counts in.
    at       INTEGER NOT NULL,
    -- Copied at the intent, since the job may be pruned.
    type     TEXT    NOT NULL,
    batch    TEXT    NOT NULL,
    tags     TEXT    NOT NULL CHECK (json_valid(tags)),
    estimate INTEGER NOT NULL CHECK (estimate >= 0),
    charge   TEXT    NOT NULL CHECK (charge IN ('reserved', 'charged', 'free', 'in_doubt')),
    -- What the provider said it charged; nothing while it has not said.
    charged  INTEGER CHECK (charged >= 0),
    -- What it said in the end that it does not keep of that. All of it makes the attempt free.
    refunded INTEGER NOT NULL DEFAULT 0 CHECK (refunded BETWEEN 0 AND coalesce(charged, estimate)),
    -- The same as amounts, each formula written once: what was taken, held back, perhaps taken, and what counts as spent.
    taken    INTEGER AS (CASE WHEN charge = 'charged' OR refunded > 0 THEN coalesce(charged, estimate) ELSE 0 END),
    reserved INTEGER AS (CASE charge WHEN 'reserved' THEN estimate ELSE 0 END),
    in_doubt INTEGER AS (CASE charge WHEN 'in_doubt' THEN estimate ELSE 0 END),
    spent    INTEGER AS (taken - refunded + reserved + in_doubt),
    PRIMARY KEY (job_id, n)
) STRICT, WITHOUT ROWID;
-- The sum of a day reads that day's rows, however long the ledger is.
CREATE INDEX ledger_by_time  ON ledger (at);
CREATE INDEX ledger_in_doubt ON ledger (job_id) WHERE charge = 'in_doubt';

INSERT INTO ledger (job_id, n, at, type, batch, tags, estimate, charge, charged)
SELECT a.job_id, a.n, a.started_at, j.type, b.name, j.tags, a.estimate, a.charge, a.charged
FROM attempts a JOIN jobs j ON j.id = a.job_id JOIN batches b ON b.id = j.batch_id;

-- Since there is a ledger: one row, kept by the triggers, so that the cap on everything costs one look however long the
-- ledger is.
CREATE TABLE ledger_total (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    taken    INTEGER NOT NULL,
    refunded INTEGER NOT NULL,
    reserved INTEGER NOT NULL,
    in_doubt INTEGER NOT NULL
) STRICT;
INSERT INTO ledger_total (id, taken, refunded, reserved, in_doubt)
SELECT 1, coalesce(sum(taken), 0), coalesce(sum(refunded), 0), coalesce(sum(reserved), 0), coalesce(sum(in_doubt), 0)
FROM ledger;

CREATE TRIGGER ledger_adds AFTER INSERT ON ledger BEGIN
    UPDATE ledger_total SET taken = taken + NEW.taken, refunded = refunded + NEW.refunded,
        reserved = reserved + NEW.reserved, in_doubt = in_doubt + NEW.in_doubt;
END;
CREATE TRIGGER ledger_changes AFTER UPDATE ON ledger BEGIN
    UPDATE ledger_total SET taken = taken + NEW.taken - OLD.taken, refunded = refunded + NEW.refunded - OLD.refunded,
        reserved = reserved + NEW.reserved - OLD.reserved, in_doubt = in_doubt + NEW.in_doubt - OLD.in_doubt;
END;
CREATE TRIGGER ledger_stays BEFORE DELETE ON ledger BEGIN
    SELECT RAISE(ABORT, 'the ledger is never pruned');
END;

DROP INDEX attempts_that_count;
DROP INDEX attempts_in_doubt;
ALTER TABLE attempts DROP COLUMN estimate;
ALTER TABLE attempts DROP COLUMN charge;
ALTER TABLE attempts DROP COLUMN charged;

-- It was set by every settlement; it says when an answer came, and an answer leaves evidence.
UPDATE attempts SET answered_at = NULL WHERE evidence IS NULL;
