package configs

import (
	"encoding/base64"
	"maps"
	"net/netip"
	"slices"
	"time"

	"gatehouse.dev/gatehouse/clients"
)

// Config is the whole configuration of one server. A Config that Load or
// Parse returned is valid and has all defaults filled in; nothing in it needs
// checking again. It holds secrets: it must not be logged.
type Config struct {
	Listen                    string                          `yaml:"listen"`                       // host:port
	PublicURL                 string                          `yaml:"public_url"`                   // scheme and host, without a slash at the end
	BasePath                  string                          `yaml:"base_path"`                    // empty, or with a slash at its beginning and none at its end
	OperationsListen          string                          `yaml:"operations_listen"`            // host:port; empty: nowhere
	TrustedProxies            []netip.Prefix                  `yaml:"trusted_proxies"`              // whose X-Forwarded-For and Forwarded are believed
	TLS                       TLS                             `yaml:"tls"`                          //
	Database                  Secret                          `yaml:"database"`                     // sqlite:PATH or postgres://…, which may hold a password
	KeyEncryptionKey          Secret                          `yaml:"key_encryption_key"`           // base64; empty only with Source.AllowNoKey
	PreviousKeyEncryptionKeys []Secret                        `yaml:"previous_key_encryption_keys"` // base64
	Outgoing                  Outgoing                        `yaml:"outgoing"`                     //
	SMTP                      SMTP                            `yaml:"smtp"`                         //
	Realms                    map[string]*Realm               `yaml:"realms"`                       // by name; never empty
	AuthorizationServers      map[string]*AuthorizationServer `yaml:"authorization_servers"`        // by id; never empty
}

// TLS names the files with which the server speaks TLS itself; all empty: it
// speaks plain HTTP, behind a proxy or on a loopback address.
type TLS struct {
	CertificateFile string `yaml:"certificate_file"` // PEM, the leaf first
	KeyFile         string `yaml:"key_file"`         // PEM
	ClientCAFile    string `yaml:"client_ca_file"`   // PEM; mutual TLS where it is set
}

// Outgoing governs the requests that the server itself makes.
type Outgoing struct {
	AllowPrivate []netip.Prefix `yaml:"allow_private"` // private and loopback addresses that may be reached all the same
}

// SMTP is the mail server; an empty address: no mail is sent.
type SMTP struct {
	Address  string `yaml:"address"` // host:port
	From     string `yaml:"from"`    // a mail address, perhaps with a name
	Username string `yaml:"username"`
	Password Secret `yaml:"password"`
	TLS      string `yaml:"tls"` // one of the SMTP constants
}

// How the connection to the mail server is protected.
const (
	SMTPStartTLS = "starttls" // STARTTLS, which the server must offer
	SMTPImplicit = "implicit" // TLS from the first byte on
	SMTPNoTLS    = "none"     // for a server on this machine only
)

// Realm is a directory of users with its logins.
type Realm struct {
	Login      Login      `yaml:"login"`
	Throttle   Throttle   `yaml:"throttle"`
	Audit      Audit      `yaml:"audit"`
	Appearance Appearance `yaml:"appearance"`
	UsersAPI   UsersAPI   `yaml:"users_api"`
	Users      []User     `yaml:"users"` // created at start if absent
}

// Login is the life of a login session.
type Login struct {
	IdleLifetime time.Duration `yaml:"idle_lifetime"`
	Lifetime     time.Duration `yaml:"lifetime"`
	Remember     bool          `yaml:"remember"` // whether people may stay signed in when they close the browser

	// LogoutEndsOffline: when people sign out, sessions with offline_access end
	// too, which outlive the login otherwise.
	LogoutEndsOffline bool `yaml:"logout_ends_offline"`
}

// Throttle is how many attempts to sign in may fail before each further one
// costs a wait.
type Throttle struct {
	Account int64         `yaml:"account"` // for one account
	Address int64         `yaml:"address"` // for one IPv4 address or IPv6 network of 64 bits
	Window  time.Duration `yaml:"window"`  // in which they are counted; the longest wait
}

// Audit is the record of who did what to whom.
type Audit struct {
	Retention time.Duration `yaml:"retention"` // how long events are kept
}

// UsersAPI is what the users dialect of the session API takes.
type UsersAPI struct {
	// CertificateUser is the attribute of a client certificate that is a user
	// name, one of CertificateUsers; empty: certificates are not taken.
	CertificateUser string `yaml:"certificate_user"`
}

// Attributes of client certificates that can be user names.
const (
	CertificateCN      = "subject.CN"
	CertificateMail    = "subject.emailAddress"
	CertificateSANMail = "san.email"
	CertificateSANDNS  = "san.dns"
	CertificateSANURI  = "san.uri"
)

// CertificateUsers are those attributes.
func CertificateUsers() []string {
	return []string{CertificateCN, CertificateMail, CertificateSANMail, CertificateSANDNS, CertificateSANURI}
}

// User is an account that is created if the realm has none of its name.
type User struct {
	Username string   `yaml:"username"`
	Password Secret   `yaml:"password"`
	Name     string   `yaml:"name"`
	Email    string   `yaml:"email"`
	Roles    []string `yaml:"roles"`
}

// RoleSessionAdmin is the role that sees and ends other people's sessions.
const RoleSessionAdmin = "session-admin"

// AuthorizationServer is one issuer.
type AuthorizationServer struct {
	Realm        string             `yaml:"realm"`
	AccessToken  AccessToken        `yaml:"access_token"`
	Session      Session            `yaml:"session"`
	Offline      Offline            `yaml:"offline"`
	PKCE         string             `yaml:"pkce"` // one of the PKCE constants
	Resources    []Resource         `yaml:"resources"`
	Scopes       []Scope            `yaml:"scopes"`
	Registration string             `yaml:"registration"` // one of the Registration constants
	SessionAPI   SessionAPI         `yaml:"session_api"`
	Clients      []clients.Metadata `yaml:"clients"`

	FrontChannelLogout bool `yaml:"front_channel_logout"` // OpenID Connect Front-Channel Logout 1.0
	SessionManagement  bool `yaml:"session_management"`   // OpenID Connect Session Management 1.0
}

// Which authorization requests must use PKCE (RFC 7636).
const (
	PKCEAll    = "all"    // every one
	PKCENonce  = "nonce"  // unless a confidential client sends a nonce (RFC 9700 §2.1.1)
	PKCEPublic = "public" // those of public clients
)

// Who may register clients (RFC 7591). This release offers RegistrationOff
// alone.
const (
	RegistrationOff   = "off"
	RegistrationToken = "token" // who has an initial access token
	RegistrationOpen  = "open"  // anybody
)

// AccessToken is the form and life of access tokens.
type AccessToken struct {
	Format     string        `yaml:"format"`      // clients.FormatJWT or clients.FormatOpaque
	SigningAlg string        `yaml:"signing_alg"` // of JWTs; one of clients.IDTokenAlgs
	Lifetime   time.Duration `yaml:"lifetime"`
}

// Session is the life of an OAuth 2.0 session.
type Session struct {
	IdleLifetime time.Duration `yaml:"idle_lifetime"`
	Lifetime     time.Duration `yaml:"lifetime"`
	RefreshGrace time.Duration `yaml:"refresh_grace"` // how long the previous refresh token is answered with the current one
	History      time.Duration `yaml:"history"`       // how long ended sessions stay listed for operators
}

// Offline is the life of a session with offline_access once its login is
// over.
type Offline struct {
	IdleLifetime time.Duration `yaml:"idle_lifetime"`
	Lifetime     time.Duration `yaml:"lifetime"`
}

// Resource is a resource server for which clients may ask tokens (RFC 8707).
type Resource struct {
	Identifier           string   `yaml:"identifier"` // an absolute URI without fragment
	Scopes               []string `yaml:"scopes"`
	IntrospectionClients []string `yaml:"introspection_clients"` // client ids
}

// SessionAPI is what the JSON:API dialect demands and shows.
type SessionAPI struct {
	Scopes           SessionScopes     `yaml:"scopes"`
	Visibility       string            `yaml:"visibility"` // VisibilityUser or VisibilityClient
	CustomAttributes []CustomAttribute `yaml:"custom_attributes"`
}

// SessionScopes are the scopes that the session API demands; empty: none.
type SessionScopes struct {
	Read   string `yaml:"read"`
	Manage string `yaml:"manage"`
}

// Which of a user's sessions a client sees and ends in the session API.
const (
	VisibilityUser   = "user"   // all
	VisibilityClient = "client" // its own
)

// CustomAttribute is one that sessions may carry.
type CustomAttribute struct {
	Name      string `yaml:"name"`      // a JSON:API member name of at most 50 characters
	Pattern   string `yaml:"pattern"`   // regular expression (RE2) that the whole value must match
	Updatable bool   `yaml:"updatable"` // whether the client may change it
	Source    string `yaml:"source"`    // where the server takes it from at each authorization, as the Source constants say; empty: only the client sets it
}

// Default returns the configuration of an empty file, which lacks what only
// the operator can say: the key-encryption key and authorization servers.
func Default() *Config {
	c := &Config{
		Listen:               "127.0.0.1:8080",
		PublicURL:            "http://localhost:8080",
		OperationsListen:     "127.0.0.1:9090",
		Database:             "sqlite:gatehouse.db",
		Realms:               map[string]*Realm{"default": {}},
		AuthorizationServers: map[string]*AuthorizationServer{},
	}
	c.Realms["default"].setDefaults()
	return c
}

const day = 24 * time.Hour

func (r *Realm) setDefaults() {
	r.Login = Login{IdleLifetime: day, Lifetime: 30 * day, Remember: true}
	r.Throttle = Throttle{Account: 10, Address: 100, Window: 15 * time.Minute}
	r.Audit = Audit{Retention: 365 * day}
}

func (s *AuthorizationServer) setDefaults() {
	*s = AuthorizationServer{
		Realm:        "default",
		AccessToken:  AccessToken{Format: clients.FormatJWT, SigningAlg: "ES256", Lifetime: 5 * time.Minute},
		Session:      Session{IdleLifetime: day, Lifetime: 30 * day, RefreshGrace: 10 * time.Second, History: 30 * day},
		Offline:      Offline{IdleLifetime: 30 * day, Lifetime: 365 * day},
		PKCE:         PKCENonce,
		Registration: RegistrationOff,
		SessionAPI:   SessionAPI{Visibility: VisibilityUser},
	}
}

func (a *CustomAttribute) setDefaults() {
	*a = CustomAttribute{Updatable: true} // the rest depends on the source
}

// Issuer is the issuer identifier of an authorization server (RFC 8414 §2).
func (c *Config) Issuer(as string) string {
	return c.PublicURL + c.BasePath + "/authorization-servers/" + as
}

// AuthorizationServerNames are the ids of the authorization servers, sorted.
func (c *Config) AuthorizationServerNames() []string {
	return slices.Sorted(maps.Keys(c.AuthorizationServers))
}

// RealmNames are the names of the realms, sorted.
func (c *Config) RealmNames() []string { return slices.Sorted(maps.Keys(c.Realms)) }

// KeyEncryptionKeys are the key-encryption keys, 32 bytes each: the current
// one, which seals, then the previous ones, which only open. None where the
// configuration has none.
func (c *Config) KeyEncryptionKeys() [][]byte {
	var keys [][]byte
	for _, secret := range append([]Secret{c.KeyEncryptionKey}, c.PreviousKeyEncryptionKeys...) {
		if key, ok := decodeKey(secret); ok {
			keys = append(keys, key)
		}
	}
	return keys
}

// decodeKey reads 32 bytes in base64, in the standard or the URL alphabet,
// padded or not.
func decodeKey(secret Secret) ([]byte, bool) {
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		if key, err := encoding.Strict().DecodeString(string(secret)); err == nil && len(key) == 32 {
			return key, true
		}
	}
	return nil, false
}

// Secret is a value that formatting, logging and encoding do not show;
// string(s) is the value.
type Secret string

const redacted = "[secret]"

// String hides the value.
func (s Secret) String() string { return redacted }

// GoString hides the value from %#v.
func (s Secret) GoString() string { return redacted }

// MarshalText hides the value from encoders.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
