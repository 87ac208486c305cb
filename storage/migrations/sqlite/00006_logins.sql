-- +goose Up

-- position is the place of a login, or of a session without one, in the list of
-- its realm: milliseconds of its beginning, 19 random bits, and one that tells
-- sessions from logins. entry_id is the id of a session's own entry in that
-- list, hexadecimal SHA-256 of its authorization server and id; a first start
-- fills it in, since SQLite has no such function.
ALTER TABLE logins ADD COLUMN position BIGINT;
ALTER TABLE oauth2_sessions ADD COLUMN position BIGINT;
ALTER TABLE oauth2_sessions ADD COLUMN entry_id TEXT;

UPDATE logins SET position = (created_at << 20) | (n.number << 1)
    FROM (SELECT realm AS of_realm, id AS of_id, row_number() OVER (PARTITION BY realm, created_at ORDER BY id) AS number FROM logins) n
    WHERE realm = n.of_realm AND id = n.of_id;
UPDATE oauth2_sessions SET position = (created_at << 20) | (n.number << 1) | 1
    FROM (SELECT authorization_server AS of_server, id AS of_id,
        row_number() OVER (PARTITION BY realm, created_at ORDER BY authorization_server, id) AS number FROM oauth2_sessions) n
    WHERE authorization_server = n.of_server AND id = n.of_id;

CREATE UNIQUE INDEX logins_position ON logins (realm, position) WHERE ended_at IS NULL;
CREATE INDEX logins_user_position ON logins (realm, user_id, position) WHERE ended_at IS NULL;
CREATE INDEX logins_address ON logins (realm, address, position) WHERE ended_at IS NULL;
CREATE INDEX logins_user_agent ON logins (realm, lower(user_agent), position) WHERE ended_at IS NULL;
-- Unique from the beginning, so that no session fails to be detached.
CREATE UNIQUE INDEX oauth2_sessions_position ON oauth2_sessions (realm, position) WHERE ended_at IS NULL;
CREATE INDEX oauth2_sessions_alone ON oauth2_sessions (realm, position)
    WHERE ended_at IS NULL AND (login_id IS NULL OR detached_at IS NOT NULL);
CREATE INDEX oauth2_sessions_entry ON oauth2_sessions (realm, entry_id)
    WHERE ended_at IS NULL AND (login_id IS NULL OR detached_at IS NOT NULL);
CREATE INDEX oauth2_sessions_unnamed ON oauth2_sessions (authorization_server, id) WHERE entry_id IS NULL;
DROP INDEX logins_user;
