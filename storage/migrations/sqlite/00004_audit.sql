-- +goose Up

-- What was done, by whom, to whom. id begins with the time in hexadecimal
-- milliseconds, so that its order is that of time. Rows are written once; only
-- the count of refused sign-ins goes up within their minute.
CREATE TABLE audit_events (
    realm                TEXT NOT NULL,
    id                   TEXT NOT NULL,
    at                   BIGINT NOT NULL,
    last_at              BIGINT NOT NULL,
    occurrences          BIGINT NOT NULL,
    type                 TEXT NOT NULL,
    result               TEXT NOT NULL,
    reason               TEXT NOT NULL,
    actor                TEXT NOT NULL,
    authorization_server TEXT NOT NULL,
    user_id              TEXT NOT NULL,
    client_id            TEXT NOT NULL,
    session_id           TEXT NOT NULL,
    login_id             TEXT NOT NULL,
    address              TEXT NOT NULL,
    request_id           TEXT NOT NULL,
    detail               TEXT NOT NULL,
    PRIMARY KEY (realm, id)
);
CREATE INDEX audit_events_user ON audit_events (realm, user_id, id) WHERE user_id <> '';
CREATE INDEX audit_events_session ON audit_events (realm, session_id) WHERE session_id <> '';
