-- +goose Up

-- Whoever looks for a user's sessions in a realm wants those that live, or, with
-- oauth2_sessions_past, those that ended. So an ending need not enter its session
-- here anew.
CREATE INDEX oauth2_sessions_live ON oauth2_sessions (realm, user_id) WHERE ended_at IS NULL;
DROP INDEX oauth2_sessions_realm_user;
