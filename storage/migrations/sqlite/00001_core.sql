-- +goose Up

-- Times are milliseconds since 1970-01-01T00:00:00Z; NULL stands for "not".
-- Lists and maps are JSON. Every key begins with the authorization server or
-- the realm. There are no foreign keys: parents are locked and judged by the
-- statements that insert, and a shared parent row (a client) must not be
-- written to by every authorization.
--
-- No column that a refresh or a last-use write changes (last_used_at,
-- last_access_at, generation, rotated_at, grace_uses) may stand in an index, so
-- that an update touches one B-tree only.

CREATE TABLE users (
    realm        TEXT NOT NULL,
    id           TEXT NOT NULL,
    username     TEXT NOT NULL,
    username_key TEXT NOT NULL,
    password     TEXT NOT NULL,
    claims       TEXT NOT NULL,
    roles        TEXT NOT NULL,
    salt         BLOB NOT NULL,
    created_at   BIGINT NOT NULL,
    locked_at    BIGINT,
    PRIMARY KEY (realm, id)
);
CREATE UNIQUE INDEX users_name ON users (realm, username_key);

CREATE TABLE logins (
    realm                TEXT NOT NULL,
    id                   TEXT NOT NULL,
    user_id              TEXT NOT NULL,
    cookie_hash          BLOB NOT NULL,
    previous_cookie_hash BLOB,
    cookie_rotated_at    BIGINT,
    auth_time            BIGINT NOT NULL,
    auth_nonce           TEXT NOT NULL,
    amr                  TEXT NOT NULL,
    acr                  TEXT NOT NULL,
    persistent           BOOLEAN NOT NULL,
    address              TEXT NOT NULL,
    user_agent           TEXT NOT NULL,
    device_name          TEXT NOT NULL,
    created_at           BIGINT NOT NULL,
    last_access_at       BIGINT NOT NULL,
    expires_at           BIGINT NOT NULL,
    ended_at             BIGINT,
    ended_by             TEXT,
    ended_reason         TEXT,
    PRIMARY KEY (realm, id)
);
CREATE UNIQUE INDEX logins_cookie ON logins (realm, cookie_hash);
CREATE INDEX logins_previous_cookie ON logins (realm, previous_cookie_hash) WHERE previous_cookie_hash IS NOT NULL;
CREATE INDEX logins_user ON logins (realm, user_id) WHERE ended_at IS NULL;

CREATE TABLE clients (
    authorization_server TEXT NOT NULL,
    client_id            TEXT NOT NULL,
    realm                TEXT NOT NULL,
    uid                  TEXT NOT NULL,
    number               BIGINT NOT NULL,
    name                 TEXT NOT NULL,
    static               BOOLEAN NOT NULL,
    secret_sha           BLOB,
    metadata             TEXT NOT NULL,
    created_at           BIGINT NOT NULL,
    deleted_at           BIGINT,
    PRIMARY KEY (authorization_server, client_id)
);
CREATE UNIQUE INDEX clients_number ON clients (realm, number);

CREATE TABLE oauth2_sessions (
    authorization_server TEXT NOT NULL,
    id                   TEXT NOT NULL,
    realm                TEXT NOT NULL,
    client_id            TEXT NOT NULL,
    client_uid           TEXT NOT NULL,
    user_id              TEXT NOT NULL,
    subject              TEXT NOT NULL,
    login_id             TEXT,
    origin               TEXT NOT NULL,
    scopes               TEXT NOT NULL,
    refreshable          BOOLEAN NOT NULL,
    offline              BOOLEAN NOT NULL,
    authenticated_at     BIGINT NOT NULL,
    consented_at         BIGINT NOT NULL,
    custom_attributes    TEXT NOT NULL,
    activated_at         BIGINT,
    detached_at          BIGINT,
    created_at           BIGINT NOT NULL,
    last_used_at         BIGINT NOT NULL,
    expires_at           BIGINT NOT NULL,
    offline_expires_at   BIGINT,
    idle_check_at        BIGINT NOT NULL,
    ended_at             BIGINT,
    ended_by             TEXT,
    ended_reason         TEXT,
    proof_after          BIGINT,
    PRIMARY KEY (authorization_server, id)
);
-- One client has one session in one login.
CREATE UNIQUE INDEX oauth2_sessions_twin ON oauth2_sessions (authorization_server, login_id, client_id)
    WHERE ended_at IS NULL AND detached_at IS NULL AND login_id IS NOT NULL;
CREATE INDEX oauth2_sessions_user ON oauth2_sessions (authorization_server, user_id, created_at DESC, id) WHERE ended_at IS NULL;
CREATE INDEX oauth2_sessions_client ON oauth2_sessions (authorization_server, client_id, id) WHERE ended_at IS NULL;
CREATE INDEX oauth2_sessions_realm_login ON oauth2_sessions (realm, login_id);
CREATE INDEX oauth2_sessions_realm_user ON oauth2_sessions (realm, user_id);

CREATE TABLE grants (
    authorization_server TEXT NOT NULL,
    id                   TEXT NOT NULL,
    session_id           TEXT NOT NULL,
    client_id            TEXT NOT NULL,
    user_id              TEXT NOT NULL,
    scopes               TEXT NOT NULL,
    resources            TEXT NOT NULL,
    auth_time            BIGINT NOT NULL,
    acr                  TEXT NOT NULL,
    amr                  TEXT NOT NULL,
    nonce                TEXT NOT NULL,
    redirect_uri         TEXT NOT NULL,
    challenge            TEXT NOT NULL,
    code_hash            BLOB NOT NULL,
    code_expires_at      BIGINT NOT NULL,
    secret               BLOB NOT NULL,
    refreshable          BOOLEAN NOT NULL,
    offline              BOOLEAN NOT NULL,
    redeemed_at          BIGINT,
    burned_at            BIGINT,
    generation           BIGINT NOT NULL,
    rotated_at           BIGINT,
    grace_uses           BIGINT NOT NULL,
    last_used_at         BIGINT,
    created_at           BIGINT NOT NULL,
    removable_at         BIGINT,
    ended_at             BIGINT,
    ended_reason         TEXT,
    PRIMARY KEY (authorization_server, id)
);
CREATE INDEX grants_session ON grants (authorization_server, session_id);

CREATE TABLE consents (
    authorization_server TEXT NOT NULL,
    user_id              TEXT NOT NULL,
    client_id            TEXT NOT NULL,
    realm                TEXT NOT NULL,
    client_uid           TEXT NOT NULL,
    scopes               TEXT NOT NULL,
    resources            TEXT NOT NULL,
    consented_at         BIGINT NOT NULL,
    PRIMARY KEY (authorization_server, user_id, client_id)
);

CREATE TABLE revoked_tokens (
    authorization_server TEXT NOT NULL,
    jti                  TEXT NOT NULL,
    expires_at           BIGINT NOT NULL,
    PRIMARY KEY (authorization_server, jti)
);
CREATE INDEX revoked_tokens_expiry ON revoked_tokens (authorization_server, expires_at);

-- What the client chose as jti is kept as a hash: it may be of any length.
CREATE TABLE assertions (
    authorization_server TEXT NOT NULL,
    client_id            TEXT NOT NULL,
    jti                  BLOB NOT NULL,
    expires_at           BIGINT NOT NULL,
    PRIMARY KEY (authorization_server, client_id, jti)
);
CREATE INDEX assertions_expiry ON assertions (authorization_server, expires_at);

-- owner is "as:" and an authorization server, or "realm:" and a realm.
CREATE TABLE roots (
    owner      TEXT NOT NULL,
    id         TEXT NOT NULL,
    sealed     TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (owner, id)
);

CREATE TABLE signing_keys (
    owner        TEXT NOT NULL,
    id           TEXT NOT NULL,
    algorithm    TEXT NOT NULL,
    slot         BIGINT NOT NULL,
    sealed       TEXT NOT NULL,
    public       TEXT NOT NULL,
    created_at   BIGINT NOT NULL,
    activates_at BIGINT NOT NULL,
    PRIMARY KEY (owner, id)
);
CREATE UNIQUE INDEX signing_keys_slot ON signing_keys (owner, algorithm, slot);
