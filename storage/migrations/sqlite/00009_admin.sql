-- +goose Up

-- What administrators look for. browser is the family of a login's user agent;
-- NULL: not read yet, which a first start sees to. Users are found by what their
-- claims say, so that nothing has to be kept in step.
ALTER TABLE logins ADD COLUMN browser TEXT;
CREATE INDEX logins_browser ON logins (realm, browser, position) WHERE ended_at IS NULL;
CREATE INDEX logins_unread ON logins (realm, id) WHERE browser IS NULL AND ended_at IS NULL;
-- The sessions of a client in their order: those in a login, and those without.
CREATE INDEX oauth2_sessions_client_login ON oauth2_sessions (authorization_server, client_id, position)
    WHERE ended_at IS NULL AND login_id IS NOT NULL AND detached_at IS NULL;
CREATE INDEX oauth2_sessions_client_alone ON oauth2_sessions (authorization_server, client_id, position)
    WHERE ended_at IS NULL AND (login_id IS NULL OR detached_at IS NOT NULL);
CREATE INDEX users_email ON users (realm, lower(json_extract(claims, '$.email')));
CREATE INDEX users_display_name ON users (realm, lower(json_extract(claims, '$.name')));
