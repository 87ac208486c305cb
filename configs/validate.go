package configs

import (
	"fmt"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// validation judges a decoded Config as a whole.
type validation struct {
	*decoder
	*Config
}

// check reports message at path, unless it is empty or the path already has
// a fault, its own or that of what it lies in: one mistake, one fault.
func (v validation) check(path, message string) {
	if message == "" {
		return
	}
	for at := path; ; at = parent(at) {
		if v.broken[at] {
			return
		}
		if at == "" {
			break
		}
	}
	v.report(path, message)
}

// set reports whether the file has a value at path.
func (v validation) set(path string) bool {
	_, has := v.places[path]
	return has && !v.empty[path]
}

// oneOf demands one of known words.
func (v validation) oneOf(path, value string, known ...string) {
	if !slices.Contains(known, value) {
		v.check(path, "must be one of "+strings.Join(known, ", "))
	}
}

func (v validation) run() {
	v.addresses()
	v.publicURL()
	v.trust()
	v.keys()
	v.check("database", databaseFault(string(v.Database)))
	v.smtp()
	if len(v.Realms) == 0 {
		v.check("realms", "must have at least one realm")
	}
	for _, name := range v.RealmNames() {
		path := member("realms", name)
		if !plainName.MatchString(name) {
			v.check(path, badName)
		}
		v.realm(path, v.Realms[name])
	}
	if len(v.AuthorizationServers) == 0 {
		v.check("authorization_servers", "must have at least one authorization server")
	}
	for _, name := range v.AuthorizationServerNames() {
		path := member("authorization_servers", name)
		if !plainName.MatchString(name) {
			v.check(path, badName)
		}
		v.server(path, name, v.AuthorizationServers[name])
	}
}

const badName = "names must be 1 to 64 letters, digits, hyphens and underscores"

func (v validation) addresses() {
	v.check("listen", listenFault(v.Listen))
	if v.OperationsListen == "" {
		return
	}
	v.check("operations_listen", listenFault(v.OperationsListen))
	if v.OperationsListen == v.Listen && !strings.HasSuffix(v.Listen, ":0") {
		v.check("operations_listen", "must not be the address of listen: what it serves is not public")
	}
}

func listenFault(address string) string {
	host, port, err := net.SplitHostPort(address)
	n, notNumber := strconv.Atoi(port)
	if err != nil || notNumber != nil || n < 0 || n > 65535 || !hostName.MatchString(host) {
		return "must be host:port, with a port from 0 (any) to 65535"
	}
	return ""
}

// hostName is a name, an address or nothing (all addresses).
var hostName = regexp.MustCompile(`^([A-Za-z0-9._-]*|[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?)$`)

// publicURL checks the URL below which everything is served. It goes into
// issuers, which clients compare as strings, and into what browsers send as
// Origin, so it must be in the one form that all of them use.
func (v validation) publicURL() {
	v.PublicURL = strings.TrimSuffix(v.PublicURL, "/")
	v.check("public_url", publicURLFault(v.PublicURL))
	if v.BasePath != "" && !basePath.MatchString(v.BasePath) {
		v.check("base_path", "must be empty or begin with a slash, end without one and have segments of letters, digits and -._~ only")
	}
	if slices.ContainsFunc(strings.Split(v.BasePath, "/"), func(s string) bool { return s == "." || s == ".." }) {
		v.check("base_path", "must not have dot segments")
	}
}

var basePath = regexp.MustCompile(`^(/[A-Za-z0-9._~-]+)+$`)

func publicURLFault(raw string) string {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "":
		return "must be an https URL, or an http URL of a loopback host"
	case raw != u.Scheme+"://"+u.Host || strings.ContainsAny(raw, "#?@"):
		return "must have scheme, host and port only (a path belongs into base_path)"
	case !lowerHost.MatchString(u.Hostname()):
		return "must have its host in lower case and ASCII (xn-- for international names)"
	case strings.HasSuffix(u.Host, ":") || u.Port() != "" && !portNumber(u.Port()):
		return "has a port that is not a number from 1 to 65535"
	case u.Scheme == "https" && u.Port() == "443", u.Scheme == "http" && u.Port() == "80":
		return "must leave out the default port, as browsers do"
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return "must use https: plain http is for loopback hosts only"
	}
	return ""
}

var lowerHost = regexp.MustCompile(`^([a-z0-9_-]+(\.[a-z0-9_-]+)*|[0-9a-f:.]+)$`)

func portNumber(digits string) bool {
	n, err := strconv.Atoi(digits)
	return err == nil && n >= 1 && n <= 65535 && digits[0] != '0'
}

func loopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.IsLoopback()
}

func (v validation) trust() {
	for i, prefix := range v.TrustedProxies {
		if prefix.Bits() == 0 {
			v.check(element("trusted_proxies", i), "must not be all addresses: anybody could claim any address")
		}
	}
	t := v.TLS
	if (t.CertificateFile == "") != (t.KeyFile == "") {
		v.check("tls", "certificate_file and key_file need each other")
	}
	if t.ClientCAFile != "" && t.CertificateFile == "" {
		v.check("tls.client_ca_file", "needs certificate_file and key_file")
	}
}

func (v validation) keys() {
	const want = "must be 32 bytes in base64 (head -c 32 /dev/urandom | base64)"
	switch _, ok := decodeKey(v.KeyEncryptionKey); {
	case v.KeyEncryptionKey == "" && !v.source.AllowNoKey:
		v.check("key_encryption_key", "is required: "+want)
	case v.KeyEncryptionKey != "" && !ok:
		v.check("key_encryption_key", want)
	}
	var seen []string
	if key, ok := decodeKey(v.KeyEncryptionKey); ok {
		seen = append(seen, string(key))
	}
	for i, secret := range v.PreviousKeyEncryptionKeys {
		path := element("previous_key_encryption_keys", i)
		key, ok := decodeKey(secret)
		switch {
		case !ok:
			v.check(path, want)
		case slices.Contains(seen, string(key)):
			v.check(path, "stands there twice")
		}
		seen = append(seen, string(key))
	}
}

func databaseFault(database string) string {
	const want = "must be sqlite:PATH or postgres://user@host:port/name"
	if path, is := strings.CutPrefix(database, "sqlite:"); is {
		switch {
		case path == "":
			return want
		case strings.ContainsAny(path, "?#\x00") || strings.HasPrefix(path, ":"):
			return "must be the path of a file, without parameters"
		}
		return ""
	}
	u, err := url.Parse(database)
	switch {
	case err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" || u.Opaque != "":
		return want
	case u.Host == "" && u.Query().Get("host") == "":
		return "must name the host, or a socket's directory in ?host="
	case len(u.Path) < 2 && u.Query().Get("dbname") == "":
		return "must name the database behind the host"
	case strings.Contains(database, "#"):
		return "must have no fragment (write # as %23)"
	}
	return ""
}

func (v validation) smtp() {
	s := v.SMTP
	if s == (SMTP{}) {
		return
	}
	if host, port, err := net.SplitHostPort(s.Address); err != nil || host == "" || !hostName.MatchString(host) || !portNumber(port) {
		v.check("smtp.address", "must be host:port")
	}
	if from, err := mail.ParseAddress(s.From); err != nil || strings.ContainsAny(from.Address, " \"<>()[],;:\\") {
		v.check("smtp.from", "must be a mail address")
	}
	if s.TLS == "" {
		s.TLS, v.SMTP.TLS = SMTPStartTLS, SMTPStartTLS
	}
	v.oneOf("smtp.tls", s.TLS, SMTPStartTLS, SMTPImplicit, SMTPNoTLS)
	if host, _, err := net.SplitHostPort(s.Address); err == nil && s.TLS == SMTPNoTLS && !loopback(host) {
		v.check("smtp.tls", "none is for a server at a loopback address: mails and the password must not travel in the clear")
	}
	if (s.Username == "") != (s.Password == "") {
		v.check("smtp", "username and password need each other")
	}
}

// maxLifetime is far beyond any sensible lifetime and far below overflow.
const maxLifetime = 10 * 365 * day

// lifetimes checks an idle and an absolute lifetime below path. An idle
// lifetime that the file leaves open is shortened to the absolute one.
func (v validation) lifetimes(path string, idle *time.Duration, lifetime time.Duration) {
	v.check(member(path, "lifetime"), between(lifetime, time.Second, maxLifetime))
	if !v.set(member(path, "idle_lifetime")) {
		*idle = min(*idle, lifetime)
		return
	}
	v.check(member(path, "idle_lifetime"), between(*idle, time.Second, maxLifetime))
	if *idle > lifetime {
		v.check(member(path, "idle_lifetime"), "must not be longer than lifetime")
	}
}

func between(d, low, high time.Duration) string {
	if d < low || d > high {
		return fmt.Sprintf("must be from %s to %s", brief(low), brief(high))
	}
	return ""
}

func countFault(n, high int64) string {
	if n < 1 || n > high {
		return fmt.Sprintf("must be from 1 to %d", high)
	}
	return ""
}

// brief writes whole days, hours, minutes and seconds without zeros behind.
func brief(d time.Duration) string {
	if d > 0 && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	return text
}

func (v validation) realm(path string, r *Realm) {
	v.lifetimes(member(path, "login"), &r.Login.IdleLifetime, r.Login.Lifetime)
	at := member(path, "throttle")
	v.check(member(at, "account"), countFault(r.Throttle.Account, 1000))
	v.check(member(at, "address"), countFault(r.Throttle.Address, 1_000_000))
	v.check(member(at, "window"), between(r.Throttle.Window, time.Second, day))
	v.check(member(member(path, "audit"), "retention"), between(r.Audit.Retention, day, 3650*day))
	v.appearance(member(path, "appearance"), &r.Appearance)
	v.usersAPI(member(path, "users_api"), r.UsersAPI)
	seen := map[string]bool{}
	for i, user := range r.Users {
		at := element(member(path, "users"), i)
		name := strings.ToLower(user.Username)
		switch {
		case name == "" || len(name) > 255 || strings.TrimSpace(name) != name || strings.ContainsFunc(name, unicode.IsControl):
			v.check(member(at, "username"), "must be 1 to 255 bytes, without spaces around and control characters")
		case seen[name]:
			v.check(member(at, "username"), "another user of the realm has this name (letter case does not count)")
		}
		seen[name] = true
		if n := len(user.Password); n == 0 || n > 1024 {
			v.check(member(at, "password"), "must be 1 to 1024 bytes")
		}
		if len(user.Name) > 255 || strings.ContainsFunc(user.Name, unicode.IsControl) {
			v.check(member(at, "name"), "must be at most 255 bytes, without control characters")
		}
		if address, err := mail.ParseAddress(user.Email); user.Email != "" && (err != nil || address.Address != user.Email) {
			v.check(member(at, "email"), "must be a mail address")
		}
		for j, role := range user.Roles {
			if role != RoleSessionAdmin {
				v.check(element(member(at, "roles"), j), "must be "+RoleSessionAdmin)
			}
		}
	}
}

func (v validation) usersAPI(path string, api UsersAPI) {
	if api.CertificateUser == "" {
		return
	}
	at := member(path, "certificate_user")
	v.oneOf(at, api.CertificateUser, CertificateUsers()...)
	if v.TLS.ClientCAFile == "" {
		v.check(at, "needs tls.client_ca_file: only certificates that the server itself has verified are taken")
	}
}

// realmNames are the realms' names for a message, unless they are many.
func (v validation) realmNames() string {
	names := slices.DeleteFunc(v.RealmNames(), func(name string) bool { return !plainName.MatchString(name) })
	if len(names) == 0 || len(names) > 10 {
		return ""
	}
	return ": the file has " + strings.Join(names, ", ")
}
