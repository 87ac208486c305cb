package web

import (
	"net/http"
	"net/url"
	"regexp"
	"time"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/oauth"
)

// accountOther asks the sign-in page not to propose the present user.
const accountOther = "other"

// consentForm is what the consent page shows.
type consentForm struct {
	Fields    map[string]string // hidden
	Client    string
	Logo      string // URL; empty: none
	Person    string
	Scopes    []scope
	Resources []string
	Links     []link
	Switch    string // URL of the sign-in page for another account
}

// scope is one permission: a catalogue key where it is known in words.
type scope struct{ Name, Text string }

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

	logo, origin := p.logo(i.Client.LogoURI)
	f := consentForm{Fields: server.Fields(i), Client: i.Client.Name(), Logo: logo, Person: person(user),
		Resources: i.Resources, Links: links(&i.Client.Metadata)}
	for _, s := range i.Scopes {
		if s == "offline_access" && !i.Client.Allows(clients.GrantRefreshToken) {
			continue // nothing comes of it: nothing to ask
		}
		f.Scopes = append(f.Scopes, scope{Name: s, Text: scopeText[s]})
	}
	other := url.Values{"account": {accountOther}}
	for name, value := range f.Fields {
		other.Set(name, value)
	}
	f.Switch = p.path + "/login?" + other.Encode()
	return p.show(w, r, page{name: "consent", title: "consent.title", leaves: true, images: origin,
		locales: i.UILocales, data: f})
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

// plainHost is a host that means itself in a CSP source (CSP Level 3 §2.3.1):
// neither a wildcard nor anything that would end the directive.
var plainHost = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$`)

// logo is the client's logo if it can be shown, and the origin to allow for it
// where that is not our own.
func (p *Pages) logo(uri string) (logo, origin string) {
	u, err := url.Parse(uri)
	if err != nil || u.User != nil || !plainHost.MatchString(u.Host) {
		return "", ""
	}
	origin = u.Scheme + "://" + u.Host
	switch {
	case origin == p.origin:
		return uri, ""
	case u.Scheme == "https":
		return uri, origin
	}
	return "", ""
}
