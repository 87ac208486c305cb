-- +goose NO TRANSACTION
-- +goose Up

-- position is the place of a login, or of a session without one, in the list of
-- its realm: milliseconds of its beginning, 19 random bits, and one that tells
-- sessions from logins. entry_id is the id of a session's own entry in that
-- list, hexadecimal SHA-256 of its authorization server and id. The previous
-- release writes neither: the default and a first start see to its rows. As big
-- tables must stay in use, indexes are built concurrently; a migration that was
-- broken off begins anew.
ALTER TABLE logins ADD COLUMN IF NOT EXISTS position BIGINT;
ALTER TABLE logins ALTER COLUMN position
    SET DEFAULT ((CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) << 20) | (CAST(floor(random() * 524288) AS BIGINT) << 1));
ALTER TABLE oauth2_sessions ADD COLUMN IF NOT EXISTS position BIGINT;
ALTER TABLE oauth2_sessions ALTER COLUMN position
    SET DEFAULT ((CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) << 20) | (CAST(floor(random() * 524288) AS BIGINT) << 1) | 1);
ALTER TABLE oauth2_sessions ADD COLUMN IF NOT EXISTS entry_id TEXT COLLATE "C";

UPDATE logins l SET position = (l.created_at << 20) | (n.number << 1)
    FROM (SELECT realm, id, row_number() OVER (PARTITION BY realm, created_at ORDER BY id) AS number FROM logins WHERE position IS NULL) n
    WHERE l.realm = n.realm AND l.id = n.id AND l.position IS NULL;
UPDATE oauth2_sessions s SET position = (s.created_at << 20) | (n.number << 1) | 1
    FROM (SELECT authorization_server, id, row_number() OVER (PARTITION BY realm, created_at ORDER BY authorization_server, id) AS number
        FROM oauth2_sessions WHERE position IS NULL) n
    WHERE s.authorization_server = n.authorization_server AND s.id = n.id AND s.position IS NULL;
UPDATE oauth2_sessions SET entry_id = encode(sha256(decode(authorization_server || '/' || id, 'escape')), 'hex') WHERE entry_id IS NULL;

DROP INDEX CONCURRENTLY IF EXISTS logins_position;
CREATE UNIQUE INDEX CONCURRENTLY logins_position ON logins (realm, position) WHERE ended_at IS NULL;
DROP INDEX CONCURRENTLY IF EXISTS logins_user_position;
CREATE INDEX CONCURRENTLY logins_user_position ON logins (realm, user_id, position) WHERE ended_at IS NULL;
DROP INDEX CONCURRENTLY IF EXISTS logins_address;
CREATE INDEX CONCURRENTLY logins_address ON logins (realm, address, position) WHERE ended_at IS NULL;
DROP INDEX CONCURRENTLY IF EXISTS logins_user_agent;
CREATE INDEX CONCURRENTLY logins_user_agent ON logins (realm, lower(user_agent COLLATE "C"), position) WHERE ended_at IS NULL;
-- Unique from the beginning, so that no session fails to be detached.
DROP INDEX CONCURRENTLY IF EXISTS oauth2_sessions_position;
CREATE UNIQUE INDEX CONCURRENTLY oauth2_sessions_position ON oauth2_sessions (realm, position) WHERE ended_at IS NULL;
DROP INDEX CONCURRENTLY IF EXISTS oauth2_sessions_alone;
CREATE INDEX CONCURRENTLY oauth2_sessions_alone ON oauth2_sessions (realm, position)
    WHERE ended_at IS NULL AND (login_id IS NULL OR detached_at IS NOT NULL);
DROP INDEX CONCURRENTLY IF EXISTS oauth2_sessions_entry;
CREATE INDEX CONCURRENTLY oauth2_sessions_entry ON oauth2_sessions (realm, entry_id)
    WHERE ended_at IS NULL AND (login_id IS NULL OR detached_at IS NOT NULL);
DROP INDEX CONCURRENTLY IF EXISTS oauth2_sessions_unnamed;
CREATE INDEX CONCURRENTLY oauth2_sessions_unnamed ON oauth2_sessions (authorization_server, id) WHERE entry_id IS NULL;
-- Served by logins_user_position as well.
DROP INDEX CONCURRENTLY IF EXISTS logins_user;
