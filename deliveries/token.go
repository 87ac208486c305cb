package deliveries

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// TokenLifetime is how long a logout token may be used, counted from its
// making: a recipient that is slow to look at it, or whose clock is a little
// off, still takes it. OpenID Connect Back-Channel Logout 1.0 §2.4 recommends
// at most two minutes.
const TokenLifetime = 2 * time.Minute

const (
	// tokenType keeps a logout token from passing for another kind of JWT, and
	// others from passing for it (§2.4, RFC 8725 §3.11).
	tokenType = "logout+jwt" // #nosec G101 -- the name of a type
	// logoutEvent is the member of events that makes a token a logout token.
	logoutEvent = "http://schemas.openid.net/event/backchannel-logout"
	// defaultAlg is what a client that registered no
	// id_token_signed_response_alg gets (OpenID Connect Dynamic Client
	// Registration 1.0 §2).
	defaultAlg = "RS256"
)

// Keys signs for one authorization server; a keys.Ring does.
type Keys interface {
	// Sign returns payload as a compact JWS with the headers alg, kid and typ,
	// signed by the key of alg that signs now. keys.ErrKeyUnknown: there is none.
	Sign(alg, typ string, payload []byte) (string, error)
}

// Signer is what the messages of one authorization server are made with.
type Signer struct {
	Issuer string // the iss
	Keys   Keys
}

// logoutClaims are the claims of a logout token (§2.4). Times are Unix seconds.
// There is no nonce: with one, a recipient has to refuse it (§2.6).
type logoutClaims struct {
	Issuer   string              `json:"iss"`
	Subject  string              `json:"sub,omitempty"`
	Audience string              `json:"aud"`
	IssuedAt int64               `json:"iat"`
	Expires  int64               `json:"exp"`
	ID       string              `json:"jti"`
	Session  string              `json:"sid,omitempty"`
	Events   map[string]struct{} `json:"events"`
}

// errNobody: a logout token names a subject, a session, or both (§2.4).
var errNobody = errors.New("a delivery has a subject or a session")

// LogoutToken makes the logout token of a delivery (OpenID Connect
// Back-Channel Logout 1.0 §2.4) for one sending at now: a compact JWS of type
// logout+jwt, signed as the client has its ID tokens signed. Its jti is the
// delivery's id, at every sending. keys.ErrKeyUnknown: the authorization server
// has no key of the algorithm.
func LogoutToken(s Signer, d Delivery, now time.Time) (string, error) {
	if d.Subject == "" && d.SessionID == "" {
		return "", fmt.Errorf("logout token: %w", errNobody)
	}
	alg := d.Alg
	if alg == "" {
		alg = defaultAlg
	}
	payload, err := json.Marshal(logoutClaims{
		Issuer: s.Issuer, Subject: d.Subject, Audience: d.ClientID, IssuedAt: now.Unix(), Expires: now.Add(TokenLifetime).Unix(),
		ID: d.ID, Session: d.SessionID, Events: map[string]struct{}{logoutEvent: {}},
	})
	if err != nil {
		return "", fmt.Errorf("logout token: %w", err)
	}
	token, err := s.Keys.Sign(alg, tokenType, payload)
	if err != nil {
		return "", fmt.Errorf("logout token: %w", err)
	}
	return token, nil
}
