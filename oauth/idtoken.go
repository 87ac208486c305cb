package oauth

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"gatehouse.dev/gatehouse/sessions"
)

// idClaims are the claims of an ID token (OpenID Connect Core §2; sid as in
// OpenID Connect Back-Channel Logout §2.1). Times are Unix seconds.
type idClaims struct {
	Issuer   string   `json:"iss"`
	Subject  string   `json:"sub"`
	Audience audience `json:"aud"`
	Expires  int64    `json:"exp"`
	IssuedAt int64    `json:"iat"`
	AuthTime int64    `json:"auth_time"`
	Nonce    string   `json:"nonce,omitempty"`
	ACR      string   `json:"acr,omitempty"`
	AMR      []string `json:"amr,omitempty"`
	AtHash   string   `json:"at_hash,omitempty"`
	Session  string   `json:"sid,omitempty"`
}

// idToken makes the ID token that goes with an access token. One made at a
// refresh has no nonce (§12.2), one of a detached session no sid: the login
// that the sid spoke of is over.
func (s *Server) idToken(i *issue, accessToken string, now time.Time) (string, error) {
	alg := i.client.IDTokenSignedAlg
	if alg == "" {
		alg = "RS256"
	}
	c := idClaims{Issuer: s.cfg.Issuer, Subject: i.subject, Audience: audience{i.client.ClientID},
		Expires: now.Add(IDTokenLifetime).Unix(), IssuedAt: now.Unix(), AuthTime: i.grant.AuthTime.Unix(),
		ACR: i.grant.ACR, AMR: i.grant.AMR, AtHash: atHash(alg, accessToken)}
	if i.first {
		c.Nonce = i.grant.Nonce
	}
	if !i.session.Detached {
		c.Session = i.session.ID
	}
	payload, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("ID token: %w", err)
	}
	return s.cfg.Keys.Sign(alg, "JWT", payload)
}

// atHash is the left half of the access token's hash by the hash function of
// alg (OpenID Connect Core §3.1.3.6); SHA-512 for Ed25519 (RFC 8032 §5.1).
func atHash(alg, token string) string {
	if alg == "EdDSA" {
		sum := sha512.Sum512([]byte(token))
		return base64.RawURLEncoding.EncodeToString(sum[:len(sum)/2])
	}
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:len(sum)/2])
}

// hint is what an id_token_hint says.
type hint struct {
	Issuer   string   `json:"iss"`
	Subject  string   `json:"sub"`
	Audience audience `json:"aud"`
	Session  string   `json:"sid"`

	AuthorizedParty string          `json:"azp"`
	Events          json.RawMessage `json:"events"` // only logout tokens have it (Back-Channel Logout §2.4)
}

// readHint verifies an id_token_hint: issued by this server, whenever that was
// (OpenID Connect Core §3.1.2.1: an expired one still names the user).
func (s *Server) readHint(ctx context.Context, token string) (hint, bool, error) {
	payload, err := s.verify(ctx, token, "JWT")
	if errors.Is(err, sessions.ErrUnavailable) {
		return hint{}, false, err
	}
	if err != nil {
		return hint{}, false, nil
	}
	var h hint
	if err := json.Unmarshal(payload, &h); err != nil || h.Issuer != s.cfg.Issuer || h.Subject == "" || h.Events != nil {
		return hint{}, false, nil
	}
	return h, true, nil
}
