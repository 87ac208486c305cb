-- +goose Up

-- Attempts to sign in that have failed, or are being judged. bucket stands for
-- an account, an address or a known browser; each kind has a fixed number of
-- them in a realm. While a counter counts, only attempts changes, which stands
-- in no index.
CREATE TABLE throttle_counters (
    realm         TEXT NOT NULL,
    kind          TEXT NOT NULL,
    bucket        BIGINT NOT NULL,
    attempts      BIGINT NOT NULL,
    allowed       BIGINT NOT NULL,
    began_at      BIGINT NOT NULL,
    blocked_until BIGINT,
    expires_at    BIGINT NOT NULL,
    PRIMARY KEY (realm, kind, bucket)
);
CREATE INDEX throttle_counters_expiry ON throttle_counters (realm, expires_at);
