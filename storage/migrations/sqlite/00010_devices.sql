-- +goose Up

-- From where users have signed in: their browsers (hexadecimal SHA-256 of the
-- device cookie and the user) and their networks (CIDR). The row of kind 'user'
-- says that the user has signed in at all, and stays; whoever signs in locks it
-- first. notice_id belongs to the sign-in that brought the row, whether or not
-- it left a notice of its own; where it shares the question of another notice,
-- it is that one's id.
CREATE TABLE known_marks (
    realm     TEXT NOT NULL,
    user_id   TEXT NOT NULL,
    kind      TEXT NOT NULL,
    mark      TEXT NOT NULL,
    notice_id TEXT NOT NULL,
    last_seen BIGINT NOT NULL,
    PRIMARY KEY (realm, user_id, kind, mark)
);
CREATE INDEX known_marks_old ON known_marks (realm, last_seen) WHERE kind <> 'user';

-- What users are told of sign-ins from elsewhere, and the mails about it.
-- answer is '', 'yes' or 'no'. mail_state is '' (there is none), 'waiting',
-- 'sent', 'abandoned', or 'held' (there were too many); mail_next_at is when a
-- waiting one is due, or the end of the lease of whoever sends it. mail_to is
-- emptied when the mail is settled. device is the browser's mark. crowded: it
-- also stands for sign-ins that found no room for a notice of their own.
CREATE TABLE notices (
    realm         TEXT NOT NULL,
    id            TEXT NOT NULL,
    user_id       TEXT NOT NULL,
    login_id      TEXT NOT NULL,
    new_device    BOOLEAN NOT NULL,
    new_network   BOOLEAN NOT NULL,
    address       TEXT NOT NULL,
    user_agent    TEXT NOT NULL,
    device        TEXT NOT NULL,
    crowded       BOOLEAN NOT NULL DEFAULT FALSE,
    at            BIGINT NOT NULL,
    answer        TEXT NOT NULL DEFAULT '',
    answered_at   BIGINT,
    mail_state    TEXT NOT NULL DEFAULT '',
    mail_to       TEXT NOT NULL DEFAULT '',
    mail_language TEXT NOT NULL DEFAULT '',
    mail_next_at  BIGINT NOT NULL DEFAULT 0,
    mail_attempts INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (realm, id)
);
CREATE INDEX notices_user ON notices (realm, user_id, at);
CREATE INDEX notices_old ON notices (realm, at);
CREATE INDEX notices_mail ON notices (mail_next_at) WHERE mail_state = 'waiting';

-- The notices whose questions a login shares, because it began where one of them
-- is about: doubt is of its browser, network_doubt of its network. '': none.
ALTER TABLE logins ADD COLUMN doubt TEXT NOT NULL DEFAULT '';
ALTER TABLE logins ADD COLUMN network_doubt TEXT NOT NULL DEFAULT '';
