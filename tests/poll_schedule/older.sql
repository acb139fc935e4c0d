INSERT INTO batches VALUES (1, 'b', 's', 0);
INSERT INTO jobs (id, version, state, data, needs_person, in_flight, priority, batch_id, tags, take, key, type, request, estimate, paid_attempts, created_at, submitted_at, finished_at, source) VALUES
    (1, 4, 'done', '{}', 0, 0, 0, 1, '[]', 1, 'a', 'std-text-to-video', '{"duration":5}', 1, 1, 0, 1000, 200000, 's'),
    (2, 4, 'done', '{}', 0, 0, 0, 1, '[]', 1, 'b', 'std-text-to-video', '{"duration":5}', 1, 1, 0, 1000, 300000, 's'),
    (3, 4, 'done', '{}', 0, 0, 0, 1, '[]', 1, 'c', 'o3-pro-video-edit', '{}', 1, 1, 0, 1000, 400000, 's'),
    (4, 4, 'done', '{}', 0, 0, 0, 1, '[]', 1, 'd', 'std-text-to-video', '{"duration":3}', 1, 2, 0, 1000, 500000, 's'),
    (5, 1, 'queued', '{}', 0, 0, 0, 1, '[]', 1, 'e', 'std-text-to-video', '{"duration":5}', 1, 0, 0, NULL, NULL, 's');
INSERT INTO history (job_id, version, at, event, from_state, to_state) VALUES
    (1, 3, 91000, '{}', 'generating', 'downloading'), (1, 4, 95000, '{}', 'downloading', 'done'),
    (2, 3, 181000, '{}', 'generating', 'downloading'),
    (3, 3, 301000, '{}', 'generating', 'downloading'),
    (4, 3, 91000, '{}', 'generating', 'downloading');
