-- What downloads know besides: how old a link is, and whose temporary files are still to be removed.

-- When the links of a finished task came. Nobody says when they expire, so the oldest is fetched first.
ALTER TABLE jobs ADD COLUMN linked_at INTEGER;
CREATE INDEX jobs_download_age ON jobs (linked_at, id) WHERE lane = 'download';

-- When the temporary files of a video that will not be fetched any more were removed.
ALTER TABLE outputs ADD COLUMN cleared_at INTEGER;
CREATE INDEX outputs_to_clear ON outputs (job_id) WHERE published_at IS NULL AND cleared_at IS NULL;
