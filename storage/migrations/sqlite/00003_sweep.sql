-- +goose Up

-- What the sweeper looks for. check_at is when a login may be over at the
-- earliest; like idle_check_at of a session, only the sweeper moves it.
ALTER TABLE logins ADD COLUMN check_at BIGINT NOT NULL DEFAULT 0;
CREATE INDEX logins_check ON logins (realm, check_at) WHERE ended_at IS NULL;
CREATE INDEX logins_history ON logins (realm, ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX oauth2_sessions_check ON oauth2_sessions (authorization_server, idle_check_at) WHERE ended_at IS NULL;
CREATE INDEX oauth2_sessions_history ON oauth2_sessions (authorization_server, ended_at) WHERE ended_at IS NOT NULL;
-- No column of the predicate is one that a refresh writes.
CREATE INDEX grants_removal ON grants (authorization_server, created_at)
    WHERE removable_at IS NOT NULL OR ended_at IS NOT NULL OR redeemed_at IS NULL;
