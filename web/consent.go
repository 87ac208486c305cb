package web

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/oauth"
	"gatehouse.dev/gatehouse/sessions"
)

// consentForm is what the consent page shows.
type consentForm struct {
	Fields    map[string]string // hidden
	Client    asker
	Person    string
	Before    time.Time // when he last allowed the client something; zero: never
	More      bool      // something is new since then
	Scopes    []scope
	Resources []scope
	Links     []link
	Switch    string // URL of the sign-in page for another account
}

// scope is one permission, or one resource that it is for.
type scope struct {
	Name string
	Key  string // of the catalogue; empty: it has no text for it
	Said string // the operator's words; empty: he has none
	New  bool   // the user has allowed the client something before, but not this
}

// ScopeTexts are an operator's words for scopes: by scope, then by language
// (BCP 47). They complete "would like to:", as "see your photos" does.
type ScopeTexts map[string]map[string]string

// in is the text for a scope in a language, in English, or in any; empty where
// there is none.
func (s ScopeTexts) in(lang, scope string) string {
	texts := s[scope]
	for _, l := range append([]string{lang, fallback}, slices.Sorted(maps.Keys(texts))...) {
		if text := texts[l]; text != "" {
			return text
		}
	}
	return ""
}

// link leads to a page of the client's.
type link struct{ URL, Text string }

// showConsent asks the user whether the client may have what it asks for.
func (p *Pages) showConsent(w http.ResponseWriter, r *http.Request) error {
	server, i, err := p.interaction(r)
	if err != nil {
		return err
	}
	login, user, err := p.present(r)
	if err != nil {
		return err
	}
	if login == nil {
		if p.cfg.Cookie.Hash(r) == nil {
			p.CookiesBlocked(w, r)
			return nil
		}
		// The login ended on the way here: /authorize asks for a new one. The
		// stamp must not claim a sign-in, or it would blame the cookies.
		i.Stamp = oauth.Stamp{Began: i.Stamp.Began, Nonce: i.Stamp.Nonce}
		return p.redirect(w, r, server.Resume(i))
	}
	// The form is good for this user in this login only; taken to another
	// browser it decides nothing.
	if i.Stamp.LoginID != login.ID || i.Stamp.UserID != user.ID {
		i.Stamp.SignedIn = false
	}
	i.Stamp.LoginID, i.Stamp.UserID = login.ID, user.ID
	i.Stamp.Decision, i.Stamp.Scopes, i.Stamp.Resources, i.Stamp.DecidedAt = "", nil, nil, time.Time{}

	before, err := server.Remembered(r.Context(), user.ID, i.Client.ClientID)
	if err != nil {
		return fmt.Errorf("reading the consent: %w", err)
	}
	f := consentForm{Fields: server.Fields(i), Client: p.asker(i.Server, i.Client), Person: person(user), Links: links(&i.Client.Metadata)}
	f.Switch = p.switchAccount(f.Fields)
	p.ask(&f, i, before, p.catalogue.choose(i.UILocales, r).lang)
	return p.show(w, r, page{name: "consent", title: "consent.title", leaves: true, locales: i.UILocales, data: f})
}

// ask writes into the form what the client asks for, and marks what is new
// since the user last allowed it something.
func (p *Pages) ask(f *consentForm, i *oauth.Interaction, before *sessions.Consent, lang string) {
	if before != nil {
		f.Before = before.At
	} else {
		before = &sessions.Consent{Scopes: i.Scopes, Resources: i.Resources} // all is new: nothing stands out
	}
	said := p.cfg.Scopes[i.Server]
	for _, s := range i.Scopes {
		if s == "offline_access" && !i.Client.Allows(clients.GrantRefreshToken) {
			continue // nothing comes of it: nothing to ask
		}
		f.Scopes = append(f.Scopes, scope{Name: s, Key: scopeText[s], Said: said.in(lang, s), New: !slices.Contains(before.Scopes, s)})
	}
	for _, r := range i.Resources {
		f.Resources = append(f.Resources, scope{Name: r, New: !slices.Contains(before.Resources, r)})
	}
	isNew := func(s scope) bool { return s.New }
	f.More = slices.ContainsFunc(f.Scopes, isNew) || slices.ContainsFunc(f.Resources, isNew)
}

// postConsent writes the decision into the stamp and goes back to the
// authorization request.
func (p *Pages) postConsent(w http.ResponseWriter, r *http.Request) error {
	server, i, err := p.interaction(r)
	if err != nil {
		return err
	}
	decision := r.PostForm.Get("decision")
	if decision != oauth.DecisionAllow && decision != oauth.DecisionDeny {
		return errForm
	}
	login, user, err := p.present(r)
	if err != nil {
		return err
	}
	if login == nil || i.Stamp.LoginID != login.ID || i.Stamp.UserID != user.ID {
		return errNotAsked
	}
	if decision == oauth.DecisionDeny {
		p.auditDenial(r, i, login)
	}
	i.Stamp.Decision, i.Stamp.Scopes, i.Stamp.Resources, i.Stamp.DecidedAt = decision, i.Scopes, i.Resources, p.now()
	return p.redirect(w, r, server.Resume(i))
}

// scopeText are the catalogue keys of scopes that can be said in words.
var scopeText = map[string]string{
	"openid": "scope.openid", "profile": "scope.profile", "email": "scope.email",
	"phone": "scope.phone", "address": "scope.address", "offline_access": "scope.offline_access",
}

// links are the client's pages that can be linked to.
func links(m *clients.Metadata) []link {
	var out []link
	for _, l := range []link{{m.ClientURI, "consent.about"}, {m.PolicyURI, "consent.policy"}, {m.TosURI, "consent.terms"}} {
		if u, err := url.Parse(l.URL); err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Hostname() != "" && u.User == nil {
			out = append(out, l)
		}
	}
	return out
}
