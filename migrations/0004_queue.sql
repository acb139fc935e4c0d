-- The queue's due times. A job that waits for a person's time (its `due_at` is its `not_before`) is told from one that
-- klingd itself put off: only of the latter a due time can be too far away, put there by a clock that has jumped back.
-- Each queued job is in one of the two indexes, so that a queue of scheduled jobs of any length costs a look nothing.
DROP INDEX jobs_submit_due;
CREATE INDEX jobs_submit_due       ON jobs (due_at) WHERE lane = 'submit' AND due_at IS NOT not_before;
CREATE INDEX jobs_submit_scheduled ON jobs (due_at) WHERE lane = 'submit' AND due_at IS not_before;
-- With `not_before`, so that what is not due is passed over without a look at its row.
DROP INDEX jobs_to_submit;
CREATE INDEX jobs_to_submit ON jobs (priority DESC, id, due_at, not_before) WHERE lane = 'submit';

-- A task that an attempt made and that the job has never followed: paid, and nobody has asked for its video.
ALTER TABLE attempts ADD COLUMN unfollowed INTEGER NOT NULL DEFAULT 0 CHECK (unfollowed IN (0, 1));
CREATE INDEX attempts_unfollowed ON attempts (job_id) WHERE unfollowed = 1;
UPDATE attempts SET unfollowed = 1
WHERE task_id IS NOT NULL AND EXISTS (
    SELECT 1 FROM jobs j, json_each(j.notes) note
    WHERE j.id = attempts.job_id AND j.task_id IS NOT attempts.task_id
      AND note.value = 'task ' || attempts.task_id || ' of attempt ' || attempts.n || ' is paid too, and not followed'
);
