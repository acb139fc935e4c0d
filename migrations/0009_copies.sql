-- How many requests for a render were ever begun: it only grows, so a copy of the database that has fewer than the mark in
-- the output root knows of is older than what was paid.
ALTER TABLE ledger_total ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
UPDATE ledger_total SET attempts = (SELECT count(*) FROM ledger);
DROP TRIGGER ledger_adds;
CREATE TRIGGER ledger_adds AFTER INSERT ON ledger BEGIN
    UPDATE ledger_total SET taken = taken + NEW.taken, refunded = refunded + NEW.refunded,
        reserved = reserved + NEW.reserved, in_doubt = in_doubt + NEW.in_doubt, attempts = attempts + 1;
END;

-- By what name the tally in the output root knows this queue: since its database was made, so that no copy is without it.
INSERT INTO meta (name, value) VALUES ('identity', json_object('queue', lower(hex(randomblob(8)))));
