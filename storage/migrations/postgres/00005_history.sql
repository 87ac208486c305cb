-- +goose Up

-- What the sweeper looks for to remove it, so that it meets no row that has to
-- stay more than once a day. check_at of an ended login and idle_check_at of an
-- ended session are the time of the ending, and later where the row was old
-- enough and something still needed it. Rows that ended before this migration
-- are looked at when they would have been, had they lived.
DROP INDEX logins_history;
CREATE INDEX logins_history ON logins (realm, check_at) WHERE ended_at IS NOT NULL;
DROP INDEX oauth2_sessions_history;
CREATE INDEX oauth2_sessions_history ON oauth2_sessions (authorization_server, idle_check_at) WHERE ended_at IS NOT NULL;

-- One index for each reason to remove a grant, by the time at which it applies.
-- No column of the predicates is one that a refresh writes.
DROP INDEX grants_removal;
CREATE INDEX grants_removable ON grants (authorization_server, removable_at) WHERE removable_at IS NOT NULL;
CREATE INDEX grants_ended ON grants (authorization_server, ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX grants_unredeemed ON grants (authorization_server, code_expires_at) WHERE redeemed_at IS NULL;
