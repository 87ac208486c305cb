-- +goose NO TRANSACTION
-- +goose Up

-- Whoever looks for a user's sessions in a realm wants those that live, or, with
-- oauth2_sessions_past, those that ended. So an ending need not enter its session
-- here anew. The old index goes last: nothing has to do without one.
DROP INDEX CONCURRENTLY IF EXISTS oauth2_sessions_live;
CREATE INDEX CONCURRENTLY oauth2_sessions_live ON oauth2_sessions (realm, user_id) WHERE ended_at IS NULL;
DROP INDEX CONCURRENTLY IF EXISTS oauth2_sessions_realm_user;
