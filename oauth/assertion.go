package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	jose3 "github.com/go-jose/go-jose/v3"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"golang.org/x/sync/singleflight"

	"gatehouse.dev/gatehouse/clients"
)

// joseSet is the version 3 key set that one of fosite's interfaces names.
type joseSet = jose3.JSONWebKeySet

// Bounds on client assertions (RFC 7523 §3) and the keys that prove them.
const (
	maxAssertion      = 16 << 10
	assertionLifetime = time.Hour        // exp may not be further away
	assertionLeeway   = 60 * time.Second // clocks differ
	maxKeySet         = 256 << 10        // bytes of a jwks_uri's answer
	keySetTTL         = 5 * time.Minute
	keySetRetry       = 30 * time.Second // an unknown kid, or a failure, fetches again at most so often
	keySetStale       = time.Hour        // known keys are good for so long while the URI fails
)

// assertionAlgs are the algorithms that client assertions may be signed with:
// asymmetric ones only.
var assertionAlgs = []jose.SignatureAlgorithm{jose.RS256, jose.PS256, jose.ES256, jose.EdDSA, jose.ES384, jose.ES512, jose.RS384, jose.RS512, jose.PS384, jose.PS512}

func parseAssertion(assertion string) (*jwt.JSONWebToken, error) {
	if assertion == "" || len(assertion) > maxAssertion {
		return nil, errClient("client_assertion is missing or too long")
	}
	token, err := jwt.ParseSigned(assertion, assertionAlgs)
	if err != nil || len(token.Headers) != 1 {
		return nil, errClient("client_assertion is not a JWT signed with an asymmetric algorithm")
	}
	return token, nil
}

// assertionIssuer is the unverified iss: it only says whose keys to look at.
func assertionIssuer(assertion string) (string, error) {
	token, err := parseAssertion(assertion)
	if err != nil {
		return "", err
	}
	var c jwt.Claims
	if err := token.UnsafeClaimsWithoutVerification(&c); err != nil {
		return "", errClient("client_assertion has no readable claims")
	}
	return c.Issuer, nil
}

// checkAssertion verifies a private_key_jwt assertion (OpenID Connect Core
// §9, RFC 7523 §3) and uses up its jti by one insert under a unique key.
func (s *Server) checkAssertion(ctx context.Context, c *clients.Client, assertion string) error {
	token, err := parseAssertion(assertion)
	if err != nil {
		return err
	}
	header := token.Headers[0]
	if c.TokenEndpointAuthAlg != "" && header.Algorithm != c.TokenEndpointAuthAlg {
		return errClient("client_assertion is not signed with the registered token_endpoint_auth_signing_alg")
	}
	key, err := s.keySets.key(ctx, c, header.KeyID, header.Algorithm)
	if err != nil {
		return err
	}
	var claims jwt.Claims
	if err := token.Claims(key, &claims); err != nil {
		return errClient("the signature of client_assertion is wrong")
	}
	now := s.cfg.Now()
	switch {
	case claims.Issuer != c.ClientID || claims.Subject != c.ClientID:
		return errClient("iss and sub of client_assertion must be the client_id")
	case !slices.ContainsFunc(claims.Audience, func(a string) bool { return a == s.cfg.Issuer || a == s.cfg.Issuer+"/token" }):
		return errClient("aud of client_assertion must be the issuer or its token endpoint")
	case claims.Expiry == nil || now.After(claims.Expiry.Time().Add(assertionLeeway)):
		return errClient("client_assertion has expired or has no exp")
	case claims.Expiry.Time().After(now.Add(assertionLifetime + assertionLeeway)):
		return errClient("exp of client_assertion is more than an hour away")
	case claims.NotBefore != nil && now.Add(assertionLeeway).Before(claims.NotBefore.Time()):
		return errClient("client_assertion is not valid yet")
	case claims.IssuedAt != nil && now.Add(assertionLeeway).Before(claims.IssuedAt.Time()):
		return errClient("client_assertion was issued in the future")
	case !isPrintable(claims.ID, 255):
		return errClient("client_assertion needs a jti of at most 255 printable ASCII characters")
	}
	err = s.cfg.Store.UseAssertion(ctx, c.ClientID, claims.ID, claims.Expiry.Time().Add(assertionLeeway+clockSlack))
	if errors.Is(err, ErrReplayed) {
		return errClient("client_assertion was used before")
	}
	return err
}

// keySets resolves the public keys of clients: registered ones, or those
// behind a jwks_uri, fetched with a bound on time, size and address.
type keySets struct {
	http  *http.Client
	now   func() time.Time
	group singleflight.Group
	mu    sync.Mutex
	byURI map[string]fetchedSet
}

type fetchedSet struct {
	set    jose.JSONWebKeySet
	at     time.Time // when it was fetched; zero: never
	failed time.Time // when fetching failed last
	err    error     // why
}

// orStale is the set, also an older one where fetching fails.
func (f fetchedSet) orStale(now time.Time) (jose.JSONWebKeySet, time.Time, error) {
	if f.err != nil && (f.at.IsZero() || now.Sub(f.at) > keySetStale) {
		e := errClient("the client's jwks_uri can't be read")
		e.cause = f.err
		return jose.JSONWebKeySet{}, time.Time{}, e
	}
	return f.set, f.at, nil
}

func newKeySets(client *http.Client, now func() time.Time) *keySets {
	return &keySets{http: client, now: now, byURI: map[string]fetchedSet{}}
}

// key returns the client's public key for that kid and algorithm.
func (k *keySets) key(ctx context.Context, c *clients.Client, kid, alg string) (any, error) {
	if len(c.JWKS) > 0 {
		var set jose.JSONWebKeySet
		if err := json.Unmarshal(c.JWKS, &set); err != nil {
			return nil, fmt.Errorf("jwks of client %s: %w", c.ClientID, err)
		}
		return choose(set, kid, alg)
	}
	if c.JWKSURI == "" || k.http == nil {
		return nil, errClient("the client has no keys registered")
	}
	set, at, err := k.fetch(ctx, c.JWKSURI, keySetTTL)
	if err != nil {
		return nil, err
	}
	key, err := choose(set, kid, alg)
	if err != nil && k.now().Sub(at) > keySetRetry {
		// The client may have rotated its keys since.
		if set, _, err = k.fetch(ctx, c.JWKSURI, keySetRetry); err != nil {
			return nil, err
		}
		key, err = choose(set, kid, alg)
	}
	return key, err
}

func choose(set jose.JSONWebKeySet, kid, alg string) (any, error) {
	var found []jose.JSONWebKey
	for _, key := range set.Keys {
		if (kid == "" || key.KeyID == kid) && key.Use != "enc" && (key.Algorithm == "" || key.Algorithm == alg) && key.IsPublic() && fits(key, alg) {
			found = append(found, key)
		}
	}
	if len(found) != 1 {
		return nil, errClient("no single key of the client fits the assertion's kid and alg")
	}
	return found[0].Key, nil
}

// fetch returns the key set behind uri, no older than maxAge.
func (k *keySets) fetch(ctx context.Context, uri string, maxAge time.Duration) (jose.JSONWebKeySet, time.Time, error) {
	k.mu.Lock()
	cached, ok := k.byURI[uri]
	k.mu.Unlock()
	if ok && (k.now().Sub(cached.at) < maxAge || k.now().Sub(cached.failed) < keySetRetry) {
		return cached.orStale(k.now())
	}
	v, err, _ := k.group.Do(uri, func() (any, error) {
		// Not the caller's context: others wait for the same answer.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		got := cached
		if set, err := k.get(ctx, uri); err != nil {
			got.failed, got.err = k.now(), err
		} else {
			got = fetchedSet{set: set, at: k.now()}
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		if len(k.byURI) >= 1000 {
			clear(k.byURI)
		}
		k.byURI[uri] = got
		return got, nil
	})
	if err != nil {
		return jose.JSONWebKeySet{}, time.Time{}, err
	}
	return v.(fetchedSet).orStale(k.now())
}

func (k *keySets) get(ctx context.Context, uri string) (set jose.JSONWebKeySet, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return set, err
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := k.http.Do(req)
	if err != nil {
		return set, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return set, fmt.Errorf("jwks_uri answered %s", resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxKeySet+1))
	if err != nil {
		return set, err
	}
	if len(body) > maxKeySet {
		return set, errors.New("jwks_uri answered more than 256 KiB")
	}
	return set, json.Unmarshal(body, &set)
}
