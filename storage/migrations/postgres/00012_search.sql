-- +goose NO TRANSACTION
-- +goose Up

-- By what administrators find users besides their names: users.SearchKey of the
-- display name and of the email address, '' where there is none, since a
-- database folds other letters than ASCII by rules of its own, or not at all.
-- NULL: not made yet, which a first start sees to, as it does for users that the
-- previous release adds. A node of that release searches without an index until
-- it is replaced. A migration that was broken off begins anew.
ALTER TABLE users ADD COLUMN IF NOT EXISTS name_key TEXT COLLATE "C";
ALTER TABLE users ADD COLUMN IF NOT EXISTS email_key TEXT COLLATE "C";
DROP INDEX CONCURRENTLY IF EXISTS users_unkeyed;
CREATE INDEX CONCURRENTLY users_unkeyed ON users (realm, id) WHERE name_key IS NULL;
DROP INDEX CONCURRENTLY IF EXISTS users_name_key;
CREATE INDEX CONCURRENTLY users_name_key ON users (realm, name_key);
DROP INDEX CONCURRENTLY IF EXISTS users_email_key;
CREATE INDEX CONCURRENTLY users_email_key ON users (realm, email_key);
DROP INDEX CONCURRENTLY IF EXISTS users_display_name;
DROP INDEX CONCURRENTLY IF EXISTS users_email;
