-- +goose Up

-- What was done, by whom, to whom. id begins with the time in hexadecimal
-- milliseconds, so that its order is that of time. Rows are written once; only
-- the count of refused sign-ins goes up within their minute.
CREATE TABLE audit_events (
    realm                TEXT COLLATE "C" NOT NULL,
    id                   TEXT COLLATE "C" NOT NULL,
    at                   BIGINT NOT NULL,
    last_at              BIGINT NOT NULL,
    occurrences          BIGINT NOT NULL,
    type                 TEXT COLLATE "C" NOT NULL,
    result               TEXT COLLATE "C" NOT NULL,
    reason               TEXT COLLATE "C" NOT NULL,
    actor                TEXT COLLATE "C" NOT NULL,
    authorization_server TEXT COLLATE "C" NOT NULL,
    user_id              TEXT COLLATE "C" NOT NULL,
    client_id            TEXT COLLATE "C" NOT NULL,
    session_id           TEXT COLLATE "C" NOT NULL,
    login_id             TEXT COLLATE "C" NOT NULL,
    address              TEXT COLLATE "C" NOT NULL,
    request_id           TEXT COLLATE "C" NOT NULL,
    detail               TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (realm, id)
);
CREATE INDEX audit_events_user ON audit_events (realm, user_id, id) WHERE user_id <> '';
CREATE INDEX audit_events_session ON audit_events (realm, session_id) WHERE session_id <> '';
