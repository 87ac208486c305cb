-- +goose Up

-- A user's history, newest ending first: what ended of his, and nothing of
-- others.
CREATE INDEX logins_past ON logins (realm, user_id, ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX oauth2_sessions_past ON oauth2_sessions (realm, user_id, ended_at) WHERE ended_at IS NOT NULL;
