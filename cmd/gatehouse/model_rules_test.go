//go:build unix

package main

import (
	"fmt"
	"time"
)

// The model says which token lives. It is written from the rules that the
// documentation promises (docs/concepts.md), knows no database and no tokens,
// and never looks at what the server answers, but for the ids that it names
// things by. What is over by time is marked as over when the clock moves past
// its end and never comes back.

// Times of the model's house. The two authorization servers differ in which of
// login and session gives up first.
const (
	modelLoginIdle     = time.Hour
	modelLoginLifetime = 8 * time.Hour
	modelAccess        = 5 * time.Minute
	modelGrace         = 10 * time.Second
	modelCode          = time.Minute
	modelReplayGrace   = 2 * time.Second
	modelHistory       = 24 * time.Hour
)

// Where the rules leave slack. Uses are noted at most once a minute for each
// session, so what the server knows of the last use may be a minute old; and
// what is judged by such times may be judged up to two minutes late, so that
// they can't end what is in use. A login has the slack always, a session only
// where a batch is all that is known of its use.
const (
	modelBatch = time.Minute
	modelSlack = 2 * time.Minute
)

// verdict is what the model says of a thing. The order matters: of several
// conditions the least verdict counts.
type verdict int

const (
	isDead verdict = iota
	isEither
	isLive
)

func (v verdict) String() string { return [...]string{"dead", "either", "live"}[v] }

// modelServer is one authorization server.
type modelServer struct {
	name                                        string
	idle, lifetime, offlineIdle, offlineMaximum time.Duration
	ownOnly                                     bool // clients see their own sessions only
}

// modelClient is one client.
type modelClient struct {
	id, secret, redirectURI    string
	server                     *modelServer
	public, refreshes, rotates bool
	asks                       bool   // the user is asked for consent
	alg                        string // of ID tokens and logout tokens
	silent                     bool   // is not told of endings
	registered, deleted        bool   // of the guest
}

type modelUser struct {
	id, name string
	n        int
	locked   bool
	password int // which of the known passwords
}

// modelLogin is one browser signed in.
type modelLogin struct {
	id                      string
	n                       int
	user                    *modelUser
	authTime, used, expires time.Time
	over                    string                     // why; empty: not yet
	proof                   map[*modelClient]time.Time // a new grant needs a later authTime
	// perhaps is the same where an ending met a session that was over by time:
	// whether it was still there to be ended depends on the sweeper.
	perhaps map[*modelClient]time.Time
}

// modelSession is one client in one login.
type modelSession struct {
	sid, subject   string // empty until a token told them
	n              int
	client         *modelClient
	login          *modelLogin
	grants         []*modelGrant
	authTime, used time.Time
	detached       bool
	lapsed         bool   // what needs the login is over by time
	over           string // why; empty: not yet
	ended          time.Time
	expired        bool // over by its own time, so that a sweeper may or may not have ended it
	told           modelTold
}

// modelGrant is one authorization.
type modelGrant struct {
	n           int
	session     *modelSession
	offline     bool
	code        string
	codeExpires time.Time
	redeemed    time.Time // zero: not yet
	generation  int       // of the current refresh token
	rotated     time.Time
	refresh     []string // by generation, from 1
	over        string   // why; empty: not yet
}

// modelToken is a token that was issued.
type modelToken struct {
	n          int
	grant      *modelGrant
	value      string
	generation int       // of a refresh token; 0: an access token
	expires    time.Time // of an access token
	revoked    bool
}

func (t *modelToken) String() string {
	kind := "access token"
	if t.generation > 0 {
		kind = fmt.Sprintf("refresh token of generation %d", t.generation)
	}
	return fmt.Sprintf("token %d (%s of grant %d, session %d, %s)", t.n, kind, t.grant.n, t.grant.session.n, t.grant.session.client.id)
}

// lapsedGrant is why a grant is over that is over by time.
const lapsedGrant = "its session expired"

// modelHint is an ID token.
type modelHint struct {
	session *modelSession
	value   string
	sid     bool // it has the sid
}

// model is everything there is.
type model struct {
	now      time.Time
	logins   []*modelLogin
	sessions []*modelSession
	grants   []*modelGrant
	tokens   []*modelToken
	hints    []*modelHint
	consents map[modelConsent]bool

	detachments int
}

// modelConsent is what a user allowed a client, with or without offline_access.
type modelConsent struct {
	user    *modelUser
	client  *modelClient
	offline bool
}

// idle judges what was used last at used and may be idle for life; the answer
// is open from early before that to the slack behind it.
func (m *model) idle(used time.Time, life, early time.Duration) verdict {
	switch since := m.now.Sub(used); {
	case since >= life+modelSlack:
		return isDead
	case since >= life-early:
		return isEither
	}
	return isLive
}

func (m *model) login(l *modelLogin) verdict {
	if l == nil || l.over != "" || !m.now.Before(l.expires) {
		return isDead
	}
	return m.idle(l.used, modelLoginIdle, 0)
}

// attached judges what of a session lives by its login.
func (m *model) attached(s *modelSession) verdict {
	if s.over != "" || s.detached || s.lapsed || !m.now.Before(s.authTime.Add(s.client.server.lifetime)) {
		return isDead
	}
	v := m.login(s.login)
	if s.client.refreshes {
		v = min(v, m.idle(s.used, s.client.server.idle, modelBatch))
	}
	return v
}

// outliving judges what of a session needs no login.
func (m *model) outliving(s *modelSession) verdict {
	if s.over != "" || !m.now.Before(s.authTime.Add(s.client.server.offlineMaximum)) {
		return isDead
	}
	return m.idle(s.used, s.client.server.offlineIdle, modelBatch)
}

func (m *model) session(s *modelSession) verdict {
	v := m.attached(s)
	for _, g := range s.grants {
		v = max(v, m.grant(g))
	}
	return v
}

func (m *model) grant(g *modelGrant) verdict {
	switch {
	case g.over != "" || g.session.over != "":
		return isDead
	case g.offline && !g.redeemed.IsZero():
		return m.outliving(g.session)
	}
	return m.attached(g.session)
}

// code judges whether a code can be redeemed.
func (m *model) code(g *modelGrant) verdict {
	if !g.redeemed.IsZero() || !m.now.Before(g.codeExpires) {
		return isDead
	}
	return m.grant(g)
}

func (m *model) token(t *modelToken) verdict {
	g := t.grant
	switch {
	case t.generation == 0 && (t.revoked || !m.now.Before(t.expires)):
		return isDead
	case t.generation > 0 && t.generation != g.generation && !m.graceful(t):
		return isDead
	}
	return m.grant(g)
}

// graceful tells whether a refresh token is the one before the current one and
// still answered.
func (m *model) graceful(t *modelToken) bool {
	return t.generation == t.grant.generation-1 && m.now.Sub(t.grant.rotated) < modelGrace
}

// move lets time pass.
func (m *model) move(by time.Duration) {
	m.now = m.now.Add(by)
	for _, l := range m.logins {
		if l.over == "" && m.login(l) == isDead {
			m.endLogin(l, "the login expired", byTime)
		}
	}
	for _, s := range m.sessions {
		if s.over != "" {
			continue
		}
		if m.attached(s) == isDead {
			s.lapsed = true
		}
		for _, g := range s.grants {
			if g.over == "" && m.grant(g) == isDead {
				g.over = lapsedGrant
			}
		}
		if m.session(s) == isDead {
			m.finish(s, "it expired", byTime)
			s.expired = true
		}
	}
}

// open tells whether the model can't say of something whether it lives.
func (m *model) open() bool {
	for _, l := range m.logins {
		if m.login(l) == isEither {
			return true
		}
	}
	for _, s := range m.sessions {
		if m.attached(s) == isEither || m.session(s) == isEither {
			return true
		}
	}
	return false
}

// use notes that a session was used.
func (m *model) use(s *modelSession) { s.used = m.now }

// signIn makes user the one at a browser that had the login before.
func (m *model) signIn(user *modelUser, before *modelLogin) *modelLogin {
	l := before
	if m.login(before) == isDead || before.user != user {
		if m.login(before) != isDead {
			m.endLogin(before, "another user signed in", decided)
		}
		l = &modelLogin{n: len(m.logins), user: user, proof: map[*modelClient]time.Time{}, perhaps: map[*modelClient]time.Time{}}
		m.logins = append(m.logins, l)
	}
	l.authTime, l.used, l.expires = m.now, m.now, m.now.Add(modelLoginLifetime)
	return l
}

// mustSignIn tells whether a client's request needs the user to prove who he
// is: yes (isDead: the login is no good for it), no, or perhaps.
func (m *model) mustSignIn(l *modelLogin, c *modelClient, offline bool) verdict {
	v := m.login(l)
	if v == isDead {
		return isDead
	}
	over := !m.now.Before(l.authTime.Add(c.server.lifetime)) || (offline && !m.now.Before(l.authTime.Add(c.server.offlineMaximum)))
	if since, ok := l.proof[c]; over || (ok && !l.authTime.After(since)) {
		return isDead
	}
	if since, ok := l.perhaps[c]; ok && !l.authTime.After(since) {
		return isEither
	}
	return v
}

// authorize makes a grant with a code, and remembers the consent to it.
func (m *model) authorize(l *modelLogin, c *modelClient, offline bool, code string) *modelGrant {
	var s *modelSession
	for _, before := range m.sessions {
		if before.login == l && before.client == c && before.over == "" && !before.detached {
			s = before
		}
	}
	if s == nil {
		s = &modelSession{n: len(m.sessions), client: c, login: l}
		m.sessions = append(m.sessions, s)
	}
	s.lapsed, s.authTime, s.used, l.used = false, l.authTime, m.now, m.now
	g := &modelGrant{n: len(m.grants), session: s, offline: offline, code: code, codeExpires: m.now.Add(modelCode)}
	s.grants = append(s.grants, g)
	m.grants = append(m.grants, g)
	m.consents[modelConsent{l.user, c, false}] = true
	m.consents[modelConsent{l.user, c, offline}] = true
	return g
}

// redeem makes the first tokens of a grant.
func (m *model) redeem(g *modelGrant, access, refresh string) {
	g.redeemed, g.rotated, g.generation = m.now, m.now, 1
	m.use(g.session)
	m.issue(g, access)
	if refresh != "" {
		m.hold(g, refresh)
	}
}

// issue notes an access token: its expiry is in whole seconds (RFC 7519 §2).
func (m *model) issue(g *modelGrant, value string) {
	m.tokens = append(m.tokens, &modelToken{n: len(m.tokens), grant: g, value: value,
		expires: m.now.Add(modelAccess).Truncate(time.Second)})
}

// hold notes the refresh token of the current generation.
func (m *model) hold(g *modelGrant, value string) {
	g.refresh = append(g.refresh, value)
	m.tokens = append(m.tokens, &modelToken{n: len(m.tokens), grant: g, value: value, generation: g.generation})
}

// refreshed notes an accepted refresh. What lives without the login doesn't
// keep it alive.
func (m *model) refreshed(g *modelGrant) {
	m.use(g.session)
	if !g.offline {
		g.session.login.used = m.now
	}
}

// endGrant ends a grant, and the session with it where no other can be
// refreshed.
func (m *model) endGrant(g *modelGrant, why string) {
	if g.over != "" || g.session.over != "" {
		return
	}
	g.over = why
	for _, other := range g.session.grants {
		if other.over == "" && (!other.redeemed.IsZero() || m.now.Before(other.codeExpires)) {
			return
		}
	}
	if g.session.client.refreshes {
		m.endSession(g.session, why, g.session.lastCause())
	}
}

func (m *model) endSession(s *modelSession, why string, cause modelCause) {
	if s.over != "" {
		return
	}
	m.finish(s, why, cause)
	for _, g := range s.grants {
		if g.over == "" {
			g.over = why
		}
	}
}

// endForGood ends a session as somebody decided: anybody but its own client
// (nil: no client at all) keeps it from coming back without a fresh proof. A
// session that was over by time may have been there still.
func (m *model) endForGood(s *modelSession, by *modelClient, why string) {
	switch {
	case s.over == "" && by != s.client:
		s.login.proof[s.client] = m.now
	case s.expired && by != s.client:
		s.login.perhaps[s.client] = m.now
	}
	m.endSession(s, why, decided)
	s.expired = false
}

func (m *model) endLogin(l *modelLogin, why string, cause modelCause) {
	if l.over != "" {
		return
	}
	l.over = why
	for _, s := range m.sessions {
		if s.login == l {
			m.leave(s)
		}
		if s.login != l || s.over != "" || s.detached {
			continue
		}
		outlives := false
		for _, g := range s.grants {
			outlives = outlives || (g.offline && !g.redeemed.IsZero() && m.grant(g) != isDead)
		}
		if !outlives {
			m.endSession(s, why, cause)
			continue
		}
		s.detached = true
		m.announce(s, cause, &s.told.detachDue)
		m.detachments++
		for _, g := range s.grants {
			if g.over == "" && (!g.offline || g.redeemed.IsZero()) {
				g.over = why
			}
		}
	}
}

// endUser ends everything of a user but what is in the login kept (nil: all).
// Nothing is detached.
func (m *model) endUser(u *modelUser, kept *modelLogin, why string) {
	for _, s := range m.sessions {
		if s.login.user == u && (s.login != kept || s.detached) {
			m.endSession(s, why, decided)
		}
	}
	for _, l := range m.logins {
		if l.user == u && l != kept && l.over == "" {
			l.over = why
		}
	}
}

// visible tells whether the holder of a token of session by may see session s.
func (m *model) visible(s, by *modelSession) bool {
	return s.sid != "" && s.login.user == by.login.user && s.client.server == by.client.server &&
		(s.client == by.client || !s.client.server.ownOnly)
}
