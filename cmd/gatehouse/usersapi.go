package main

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/mux"

	"gatehouse.dev/gatehouse/configs"
	"gatehouse.dev/gatehouse/oauth"
	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/sessions/usersapi"
	"gatehouse.dev/gatehouse/signin"
	"gatehouse.dev/gatehouse/throttle"
	"gatehouse.dev/gatehouse/users"
)

// usersAPIPath is where the users dialect of the default realm is, and of every
// realm behind /t/ and its name.
const usersAPIPath = "/api/users/v1"

// mountUsersAPI serves the users dialect of a realm. judge is how its passwords
// are judged.
func (h *house) mountUsersAPI(router *mux.Router, name string, r *realm, judge *signin.Judge) error {
	callers := &userCallers{users: r.store, basic: signin.NewBasic(judge), judge: judge, servers: r.servers,
		certificateUser: h.cfg.Realms[name].UsersAPI.CertificateUser, now: h.now}
	paths := []string{"/t/" + name + usersAPIPath}
	if name == defaultRealm {
		paths = append(paths, usersAPIPath)
	}
	for _, path := range paths {
		api, err := usersapi.New(usersapi.Config{
			Base:      h.cfg.PublicURL + path,
			Realm:     name,
			Directory: r.directory,
			Caller:    callers.caller,
			RequestID: requestID,
			Logger:    h.logger.With("realm", name),
		})
		if err != nil {
			return err
		}
		api.Mount(router.PathPrefix(path).Subrouter())
	}
	return nil
}

// userCallers prove who calls the users dialect of one realm.
type userCallers struct {
	users           users.Store
	basic           *signin.Basic
	judge           *signin.Judge
	servers         map[string]*oauth.Server // of the realm; filled before anything is served
	certificateUser string                   // as in the configuration
	now             func() time.Time
}

// caller proves who asks. An Authorization header decides, whatever else a
// request has: who presents a token that is refused gets no further by his
// certificate. Cookies and all other headers are nobody's proof.
func (u *userCallers) caller(r *http.Request) (usersapi.Caller, error) {
	headers := r.Header.Values("Authorization")
	if len(headers) == 0 {
		return u.byCertificate(r)
	}
	scheme, _, _ := strings.Cut(headers[0], " ")
	if !strings.EqualFold(scheme, "Basic") {
		return u.byToken(r)
	}
	username, password, ok := r.BasicAuth()
	if !ok || len(headers) > 1 {
		return usersapi.Caller{}, usersapi.ErrCredentials
	}
	user, err := u.basic.Authenticate(r, username, password)
	if err != nil {
		return usersapi.Caller{}, credentialsProblem(err)
	}
	return person(user), nil
}

// credentialsProblem translates refusals for the dialect. That an account is
// locked is told to nobody.
func credentialsProblem(err error) error {
	blocked := (*throttle.Blocked)(nil)
	switch {
	case errors.As(err, &blocked):
		return &usersapi.Blocked{Wait: blocked.Wait}
	case errors.Is(err, users.ErrBusy):
		return fmt.Errorf("%w: %w", usersapi.ErrBusy, err)
	case errors.Is(err, users.ErrCredentials), errors.Is(err, users.ErrLocked):
		return fmt.Errorf("%w: %w", usersapi.ErrCredentials, err)
	}
	return err
}

// person is a user who acts with all that his roles allow, as his account says
// now.
func person(user *users.User) usersapi.Caller {
	return usersapi.Caller{Person: sessions.Person{UserID: user.ID, Admin: user.Has(users.RoleSessionAdmin)}}
}

// byToken proves the caller by an access token of any authorization server of
// the realm. The role is the account's; the token says nothing about it.
func (u *userCallers) byToken(r *http.Request) (usersapi.Caller, error) {
	err := error(sessions.ErrCallerMissing)
	for _, name := range u.issuers(r) {
		var c sessions.Caller
		if c, err = u.servers[name].Caller(r); errors.Is(err, sessions.ErrCallerInvalid) {
			continue // it may be another's
		}
		if err != nil {
			return usersapi.Caller{}, err
		}
		user, err := u.users.User(r.Context(), c.UserID)
		if errors.Is(err, users.ErrNotFound) || (err == nil && !user.LockedAt.IsZero()) {
			return usersapi.Caller{}, sessions.ErrCallerInvalid
		}
		if err != nil {
			return usersapi.Caller{}, err
		}
		caller := person(user)
		caller.Current = sessions.Key{AuthorizationServer: name, ID: c.SessionID}
		caller.Scoped, caller.Scopes = true, c.Scopes
		return caller, nil
	}
	return usersapi.Caller{}, err
}

// issuers are the authorization servers that may have issued the request's
// token: the one that a JWT names, if it is of this realm, or all of them. What
// is read here proves nothing; the server does.
func (u *userCallers) issuers(r *http.Request) []string {
	all := slices.Sorted(maps.Keys(u.servers))
	_, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	parts := strings.Split(strings.TrimSpace(token), ".")
	if len(parts) != 3 {
		return all
	}
	var claims struct {
		Issuer string `json:"iss"`
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(payload, &claims) != nil {
		return all[:min(len(all), 1)] // any of them will say that it is none
	}
	for _, name := range all {
		if strings.HasSuffix(claims.Issuer, "/"+name) {
			return []string{name}
		}
	}
	return all[:min(len(all), 1)]
}

// byCertificate proves the caller by a client certificate that this server's
// own listener has verified. No header speaks of certificates here.
func (u *userCallers) byCertificate(r *http.Request) (usersapi.Caller, error) {
	if u.certificateUser == "" || r.TLS == nil || len(r.TLS.VerifiedChains) == 0 || len(r.TLS.PeerCertificates) == 0 {
		return usersapi.Caller{}, sessions.ErrCallerMissing
	}
	leaf := r.TLS.PeerCertificates[0]
	user, username, err := u.certified(r, leaf)
	if err != nil {
		u.judge.Refused(r, username, signin.At{}, err)
		return usersapi.Caller{}, credentialsProblem(err)
	}
	return person(user), nil
}

// certified is the user whom a verified certificate names.
func (u *userCallers) certified(r *http.Request, leaf *x509.Certificate) (user *users.User, username string, err error) {
	names := certificateNames(leaf, u.certificateUser)
	// A connection may outlive the certificate that it began with. Several names
	// are no name: who may choose one of them is not said.
	if len(names) != 1 || u.now().After(leaf.NotAfter) || u.now().Before(leaf.NotBefore) {
		return nil, "", users.ErrCredentials
	}
	key, err := users.Key(names[0])
	if err != nil {
		return nil, names[0], users.ErrCredentials
	}
	user, err = u.users.UserByName(r.Context(), key)
	switch {
	case errors.Is(err, users.ErrNotFound):
		return nil, names[0], users.ErrCredentials
	case err != nil:
		return nil, names[0], err
	case !user.LockedAt.IsZero():
		return nil, names[0], users.ErrLocked
	}
	return user, names[0], nil
}

// emailAddress is the attribute of that name (RFC 2985 §5.2.1).
var emailAddress = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}

// commonName is the attribute of that name (RFC 4519 §2.3).
var commonName = asn1.ObjectIdentifier{2, 5, 4, 3}

// certificateNames are the values of an attribute of a certificate.
func certificateNames(leaf *x509.Certificate, attribute string) []string {
	subject := func(oid asn1.ObjectIdentifier) (values []string) {
		for _, name := range leaf.Subject.Names {
			if text, ok := name.Value.(string); ok && name.Type.Equal(oid) {
				values = append(values, text)
			}
		}
		return values
	}
	switch attribute {
	case configs.CertificateCN:
		return subject(commonName)
	case configs.CertificateMail:
		return subject(emailAddress)
	case configs.CertificateSANMail:
		return leaf.EmailAddresses
	case configs.CertificateSANDNS:
		return leaf.DNSNames
	case configs.CertificateSANURI:
		var values []string
		for _, uri := range leaf.URIs {
			values = append(values, uri.String())
		}
		return values
	}
	return nil
}
