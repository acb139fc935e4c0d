-- How long renders took, so that the poller knows when a task is likely to be done. A run is not seen ending: it ended
-- after one look and by the next, so both ends are kept. Rows outlive the pruning of their jobs: no foreign key.

CREATE TABLE render_times (
    id       INTEGER PRIMARY KEY,
    type     TEXT    NOT NULL,
    -- Seconds of video asked for; 0 where the type takes none.
    duration INTEGER NOT NULL CHECK (duration >= 0),
    -- Milliseconds since the submit: of the last look that saw it under way (0: none did), and of the one that saw it done.
    after_ms INTEGER NOT NULL CHECK (after_ms >= 0),
    by_ms    INTEGER NOT NULL CHECK (by_ms >= after_ms),
    at       INTEGER NOT NULL
) STRICT;
CREATE INDEX render_times_by_kind ON render_times (type, duration, id);

-- The last look that saw the job's task under way.
ALTER TABLE jobs ADD COLUMN running_at INTEGER;

-- What earlier runs tell: the newest 64 of a kind among the last 2,000 that ended, so that a million rows cost nothing.
-- Their last look before the end is not known, but looks were at most ten seconds and a tenth of the age apart (with
-- jitter). Jobs that were paid more than once, or retried, are left out: nobody knows any more which task took how long.
INSERT INTO render_times (type, duration, after_ms, by_ms, at)
SELECT type, duration, max(0, took - max(11000, took / 9)), took, at
FROM (
    SELECT j.type, coalesce(json_extract(j.request, '$.duration'), 0) AS duration, h.at - j.submitted_at AS took, h.at,
        row_number() OVER (PARTITION BY j.type, json_extract(j.request, '$.duration') ORDER BY h.at DESC) AS newest
    FROM (SELECT * FROM jobs WHERE finished_at IS NOT NULL ORDER BY finished_at DESC LIMIT 2000) AS j
    JOIN history h ON h.job_id = j.id AND h.from_state = 'generating' AND h.to_state = 'downloading'
    WHERE j.state = 'done' AND j.paid_attempts = 1 AND h.at >= j.submitted_at
        AND (SELECT count(*) FROM history r WHERE r.job_id = j.id AND r.to_state = 'downloading' AND r.from_state = 'generating') = 1
)
WHERE newest <= 64
ORDER BY at;
