-- Jobs whose key another job has now: it was made `again` on purpose, or took the key while this one was thought to be
-- uncharged. When that job ends provably uncharged, the key goes back; else a repetition that cost nothing would free the
-- key of a job that is paid.
CREATE TABLE earlier_keys (
    key    TEXT    NOT NULL,
    job_id INTEGER NOT NULL,
    PRIMARY KEY (key, job_id)
) STRICT, WITHOUT ROWID;

INSERT INTO earlier_keys (key, job_id)
SELECT j.key, j.id FROM jobs j
WHERE (j.finished_at IS NULL OR j.state = 'done'
        OR EXISTS (SELECT 1 FROM ledger l WHERE l.job_id = j.id AND l.charge <> 'free'))
    AND NOT EXISTS (SELECT 1 FROM keys k WHERE k.key = j.key AND k.job_id = j.id);

-- Keys that were freed that way.
INSERT INTO keys (key, job_id) SELECT key, max(job_id) FROM earlier_keys WHERE true GROUP BY key ON CONFLICT DO NOTHING;
DELETE FROM earlier_keys WHERE EXISTS
    (SELECT 1 FROM keys k WHERE k.key = earlier_keys.key AND k.job_id = earlier_keys.job_id);
