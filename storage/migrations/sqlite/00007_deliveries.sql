-- +goose Up

-- What of a client's metadata an ending needs to tell it; '' where it is not to
-- be told. NULL where a node of the previous release wrote the row: a start fills
-- it in, since metadata that a database can't read must not keep a session from
-- ending.
ALTER TABLE clients ADD COLUMN backchannel_logout_uri TEXT;
ALTER TABLE clients ADD COLUMN id_token_alg TEXT;

-- Messages to clients that their sessions have ended, or were detached. id is
-- made of the time of the ending in hexadecimal milliseconds, what happened, and
-- the session: its order is that of time, and nothing is told of twice. next_at
-- is when a waiting one is due, and when the sweeper looks at one that is
-- settled.
CREATE TABLE deliveries (
    authorization_server TEXT NOT NULL,
    id                   TEXT NOT NULL,
    client_id            TEXT NOT NULL,
    session_id           TEXT NOT NULL,
    subject              TEXT NOT NULL,
    uri                  TEXT NOT NULL,
    alg                  TEXT NOT NULL,
    state                TEXT NOT NULL,
    created_at           BIGINT NOT NULL,
    next_at              BIGINT NOT NULL,
    attempts             BIGINT NOT NULL,
    last_error           TEXT NOT NULL,
    settled_at           BIGINT,
    PRIMARY KEY (authorization_server, id)
);
-- A claim steps from client to client in this index and reads of each no more
-- than it may take, however much a client has waiting.
CREATE INDEX deliveries_due ON deliveries (authorization_server, client_id, next_at) WHERE state = 'waiting';
CREATE INDEX deliveries_waiting ON deliveries (authorization_server, id) WHERE state = 'waiting';
CREATE INDEX deliveries_abandoned ON deliveries (authorization_server, id) WHERE state = 'abandoned';
CREATE INDEX deliveries_settled ON deliveries (authorization_server, next_at) WHERE state <> 'waiting';
CREATE INDEX deliveries_session ON deliveries (authorization_server, session_id);
