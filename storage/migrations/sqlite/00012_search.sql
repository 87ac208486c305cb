-- +goose Up

-- By what administrators find users besides their names: users.SearchKey of the
-- display name and of the email address, '' where there is none, since a
-- database folds other letters than ASCII by rules of its own, or not at all.
-- NULL: not made yet, which a first start sees to.
ALTER TABLE users ADD COLUMN name_key TEXT;
ALTER TABLE users ADD COLUMN email_key TEXT;
CREATE INDEX users_unkeyed ON users (realm, id) WHERE name_key IS NULL;
CREATE INDEX users_name_key ON users (realm, name_key);
CREATE INDEX users_email_key ON users (realm, email_key);
DROP INDEX users_display_name;
DROP INDEX users_email;
