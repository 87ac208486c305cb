package relyingparty

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

const (
	// tokenLeeway is how far the issuer's clock may be ahead of ours.
	tokenLeeway = time.Minute
	// tokenLife is how old a logout token may be, whatever its exp says.
	tokenLife = 10 * time.Minute
	// toldLife is how long it is remembered which tokens came and which
	// sessions they ended.
	toldLife = time.Hour
	// logoutEvent is the event of a logout token.
	logoutEvent = "http://schemas.openid.net/event/backchannel-logout"
)

// backchannel is what the receiving of logout tokens remembers.
type backchannel struct {
	seen *shelf[struct{}] // by jti
	over *shelf[struct{}] // ended sessions, by sid
	// trusted is the issuer as it was at the latest sign-in; asking for it here
	// would let anybody make us ask.
	trusted atomic.Pointer[issuer]
}

func newBackchannel(cfg Config) *backchannel {
	return &backchannel{seen: newShelf[struct{}](cfg.Most, toldLife, cfg.Now), over: newShelf[struct{}](cfg.Most, toldLife, cfg.Now)}
}

// hashed is the key for what others chose, so that what is kept is small.
func hashed(value string) string {
	sum := sha256.Sum256([]byte(value))
	return string(sum[:])
}

// backchannelLogout receives a logout token (OpenID Connect Back-Channel Logout
// 1.0 §2.5 to §2.8). A token that came before is acknowledged and does nothing:
// the issuer sends it again where our answer was lost.
func (p *RelyingParty) backchannelLogout(w http.ResponseWriter, r *http.Request) {
	p.secure(w.Header())
	if err := p.receive(w, r); err != nil {
		p.log(r, err)
		w.Header().Set("Content-Type", "application/json")
		// §2.8: also where the fault is not the token's.
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": "invalid_request", "error_description": short(err.Error(), 300)})
		return
	}
	w.WriteHeader(http.StatusOK)
}

// receive judges a request and ends what its token names.
func (p *RelyingParty) receive(w http.ResponseWriter, r *http.Request) error {
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/x-www-form-urlencoded" {
		return errors.New("the request is no form")
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		return errors.New("the form can't be read")
	}
	raw := r.PostForm["logout_token"]
	if len(raw) != 1 {
		return errors.New("there is not one logout_token")
	}
	ctx, cancel := p.outgoing(r)
	defer cancel()
	i, err := p.known(ctx)
	if err != nil {
		return err
	}
	token, err := p.verifyLogout(ctx, i, raw[0])
	if err != nil {
		return err
	}
	if !p.told.seen.add(hashed(token.TokenID)) {
		return nil
	}
	if token.SessionID != "" {
		// First, so that a sign-in that is just being finished finds it.
		p.told.over.add(hashed(token.SessionID))
	}
	p.visits.each(func(v *visit) {
		if (token.SessionID == "" || v.of.sid == token.SessionID) && (token.Subject == "" || v.of.subject == token.Subject) {
			v.overElsewhere.Store(true)
		}
	})
	return nil
}

// known is the issuer as it is known from a sign-in, or else as it says now.
func (p *RelyingParty) known(ctx context.Context) (*issuer, error) {
	if i := p.told.trusted.Load(); i != nil {
		return i, nil
	}
	i, err := p.discover(ctx)
	if err != nil {
		return nil, err
	}
	p.told.trusted.Store(i)
	return i, nil
}

// verifyLogout judges a logout token (§2.6). go-oidc judges the signature with
// an algorithm that the metadata name, iss, aud, exp, the presence of jti,
// events, and sub or sid, and the absence of a nonce.
func (p *RelyingParty) verifyLogout(ctx context.Context, i *issuer, raw string) (*oidc.LogoutToken, error) {
	if err := logoutType(raw); err != nil {
		return nil, err
	}
	token, err := i.verifier.VerifyLogout(ctx, raw)
	switch {
	case err != nil && unreachable(err):
		return nil, fmt.Errorf("%w: key set", errUnavailable)
	case err != nil:
		return nil, fmt.Errorf("logout token: %s", short(err.Error(), 300))
	}
	var claims struct {
		IssuedAt *float64                   `json:"iat"`
		Events   map[string]json.RawMessage `json:"events"`
	}
	if err := token.Claims(&claims); err != nil {
		return nil, errors.New("logout token: claims")
	}
	var event map[string]json.RawMessage
	if err := json.Unmarshal(claims.Events[logoutEvent], &event); err != nil || event == nil {
		return nil, errors.New("logout token: its event is no object")
	}
	now := p.cfg.Now()
	switch {
	case claims.IssuedAt == nil:
		return nil, errors.New("logout token: no iat")
	case token.IssuedAt.After(now.Add(tokenLeeway)):
		return nil, errors.New("logout token: of the future")
	case token.IssuedAt.Before(now.Add(-tokenLife)):
		return nil, errors.New("logout token: too old")
	}
	return token, nil
}

// logoutType demands the type of logout tokens, so that no other token of the
// issuer passes for one (§2.4, RFC 8725 §3.11).
func logoutType(raw string) error {
	first, _, _ := strings.Cut(raw, ".")
	header, err := base64.RawURLEncoding.DecodeString(first)
	if err != nil {
		return errors.New("logout token: malformed")
	}
	var of struct {
		Type string `json:"typ"`
	}
	if err := json.Unmarshal(header, &of); err != nil {
		return errors.New("logout token: malformed")
	}
	if typ := strings.ToLower(of.Type); typ != "logout+jwt" && typ != "application/logout+jwt" {
		return errors.New("logout token: of another type")
	}
	return nil
}
