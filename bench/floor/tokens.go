package main

import (
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/crypto/chacha20poly1305"
)

// lifetime of access tokens, as the bench configures the server.
const lifetime = 2 * time.Hour

// claims of an access token, as the server's.
type claims struct {
	Issuer   string   `json:"iss"`
	Subject  string   `json:"sub"`
	Audience string   `json:"aud"`
	ClientID string   `json:"client_id"`
	Expires  int64    `json:"exp"`
	IssuedAt int64    `json:"iat"`
	ID       string   `json:"jti"`
	Scope    string   `json:"scope,omitempty"`
	AuthTime int64    `json:"auth_time,omitempty"`
	ACR      string   `json:"acr,omitempty"`
	AMR      []string `json:"amr,omitempty"`
	Session  string   `json:"sid,omitempty"`
	Grant    string   `json:"grant_id,omitempty"`
}

// idClaims of an ID token, as the server's.
type idClaims struct {
	Issuer   string   `json:"iss"`
	Subject  string   `json:"sub"`
	Audience string   `json:"aud"`
	Expires  int64    `json:"exp"`
	IssuedAt int64    `json:"iat"`
	AuthTime int64    `json:"auth_time"`
	Nonce    string   `json:"nonce,omitempty"`
	ACR      string   `json:"acr,omitempty"`
	AMR      []string `json:"amr,omitempty"`
	AtHash   string   `json:"at_hash,omitempty"`
	Session  string   `json:"sid,omitempty"`
}

// secrets are the keys of one authorization server, made at each start.
type secrets struct {
	name    string
	private *ecdsa.PrivateKey
	access  jose.Signer
	id      jose.Signer
	box     cipher.AEAD
	mac     []byte
}

func newSecrets(name string) (*secrets, error) {
	s := &secrets{name: name, mac: random(32)}
	var err error
	if s.private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	key := jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: s.private, KeyID: rand.Text(), Algorithm: string(jose.ES256)}}
	if s.access, err = jose.NewSigner(key, (&jose.SignerOptions{}).WithType("at+jwt")); err != nil {
		return nil, err
	}
	if s.id, err = jose.NewSigner(key, (&jose.SignerOptions{}).WithType("JWT")); err != nil {
		return nil, err
	}
	s.box, err = chacha20poly1305.NewX(random(32))
	return s, err
}

func sign(signer jose.Signer, v any) (string, error) {
	payload, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		return "", err
	}
	return jws.CompactSerialize()
}

// issue makes an access token, a JWT or a sealed one as the server's name says.
func (s *secrets) issue(c *claims) (string, error) {
	if s.name == "jwt" {
		return sign(s.access, c)
	}
	payload, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	nonce := make([]byte, chacha20poly1305.NonceSizeX, chacha20poly1305.NonceSizeX+len(payload)+chacha20poly1305.Overhead)
	rand.Read(nonce)
	return "1." + base64.RawURLEncoding.EncodeToString(s.box.Seal(nonce, nonce, payload, []byte(s.name))), nil
}

var errToken = errors.New("token is not ours")

// read verifies an access token.
func (s *secrets) read(token string) (*claims, error) {
	var payload []byte
	if s.name == "jwt" {
		jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256})
		if err != nil {
			return nil, err
		}
		if payload, err = jws.Verify(&s.private.PublicKey); err != nil {
			return nil, err
		}
	} else {
		_, body, _ := strings.Cut(token, ".")
		sealed, err := base64.RawURLEncoding.DecodeString(body)
		if err != nil || len(sealed) < chacha20poly1305.NonceSizeX {
			return nil, errToken
		}
		text := sealed[chacha20poly1305.NonceSizeX:]
		if payload, err = s.box.Open(text[:0], sealed[:chacha20poly1305.NonceSizeX], text, []byte(s.name)); err != nil {
			return nil, err
		}
	}
	var c claims
	if err := json.Unmarshal(payload, &c); err != nil {
		return nil, err
	}
	return &c, nil
}

// refreshSum is the MAC of a grant's generation.
func (s *secrets) refreshSum(grant string, generation int64, secret []byte) []byte {
	m := make([]byte, 0, 128)
	m = append(append(m, s.name...), 0)
	m = append(append(m, grant...), 0)
	m = append(strconv.AppendInt(m, generation, 10), 0)
	h := hmac.New(sha256.New, s.mac)
	h.Write(append(m, secret...))
	return h.Sum(nil)
}

func (s *secrets) refreshToken(grant string, generation int64, secret []byte) string {
	return grant + "." + strconv.FormatInt(generation, 10) + ".1." + base64.RawURLEncoding.EncodeToString(s.refreshSum(grant, generation, secret))
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

// randomID is n characters; those of a real one are spread more evenly.
func randomID(n int) string {
	b := random(n)
	for i := range b {
		b[i] = letters[int(b[i])%len(letters)]
	}
	return string(b)
}

func atHash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}
