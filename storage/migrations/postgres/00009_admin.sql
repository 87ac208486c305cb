-- +goose NO TRANSACTION
-- +goose Up

-- What administrators look for. browser is the family of a login's user agent;
-- NULL: not read yet, which a first start sees to, as it does for logins that
-- the previous release makes. Users are found by what their claims say, so that
-- nothing has to be kept in step. A migration that was broken off begins anew.
ALTER TABLE logins ADD COLUMN IF NOT EXISTS browser TEXT COLLATE "C";
DROP INDEX CONCURRENTLY IF EXISTS logins_browser;
CREATE INDEX CONCURRENTLY logins_browser ON logins (realm, browser, position) WHERE ended_at IS NULL;
DROP INDEX CONCURRENTLY IF EXISTS logins_unread;
CREATE INDEX CONCURRENTLY logins_unread ON logins (realm, id) WHERE browser IS NULL AND ended_at IS NULL;
-- The sessions of a client in their order: those in a login, and those without.
DROP INDEX CONCURRENTLY IF EXISTS oauth2_sessions_client_login;
CREATE INDEX CONCURRENTLY oauth2_sessions_client_login ON oauth2_sessions (authorization_server, client_id, position)
    WHERE ended_at IS NULL AND login_id IS NOT NULL AND detached_at IS NULL;
DROP INDEX CONCURRENTLY IF EXISTS oauth2_sessions_client_alone;
CREATE INDEX CONCURRENTLY oauth2_sessions_client_alone ON oauth2_sessions (authorization_server, client_id, position)
    WHERE ended_at IS NULL AND (login_id IS NULL OR detached_at IS NOT NULL);
DROP INDEX CONCURRENTLY IF EXISTS users_email;
CREATE INDEX CONCURRENTLY users_email ON users (realm, lower((claims::json ->> 'email') COLLATE "C"));
DROP INDEX CONCURRENTLY IF EXISTS users_display_name;
CREATE INDEX CONCURRENTLY users_display_name ON users (realm, lower((claims::json ->> 'name') COLLATE "C"));
