-- +goose NO TRANSACTION
-- +goose Up

-- A user's history, newest ending first: what ended of his, and nothing of
-- others. As big tables must stay in use, indexes are built concurrently; a
-- migration that was broken off begins anew.
DROP INDEX CONCURRENTLY IF EXISTS logins_past;
CREATE INDEX CONCURRENTLY logins_past ON logins (realm, user_id, ended_at) WHERE ended_at IS NOT NULL;
DROP INDEX CONCURRENTLY IF EXISTS oauth2_sessions_past;
CREATE INDEX CONCURRENTLY oauth2_sessions_past ON oauth2_sessions (realm, user_id, ended_at) WHERE ended_at IS NOT NULL;
