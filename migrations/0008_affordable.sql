-- What fits the budget. Jobs in front that cost more than is left, however many, are passed over without a look at their
-- rows; that nothing fits is known from the cheapest one.
DROP INDEX jobs_to_submit;
CREATE INDEX jobs_to_submit ON jobs (priority DESC, id, due_at, not_before, estimate, max_credits) WHERE lane = 'submit';
CREATE INDEX jobs_by_price  ON jobs (estimate, max_credits) WHERE lane = 'submit';

-- Attempts whose credits a person may have to settle. They are few: each is the provider's own error.
CREATE INDEX attempts_failed_there ON attempts (job_id) WHERE outcome = 'internal_error';
