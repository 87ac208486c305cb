package web

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"gatehouse.dev/gatehouse/sessions"
)

// permission is what the visitor has allowed a client.
type permission struct {
	Client    asker
	Server    string // empty: the realm has one only
	Scopes    []scope
	Resources []string
	At        time.Time
	Withdraw  string // URL of the page that asks
}

// permissionList is what the page "Permissions" shows.
type permissionList struct {
	Done string // catalogue key; empty: nothing was done
	List []permission
}

// showPermissions lists what the visitor has allowed clients.
func (p *Pages) showPermissions(w http.ResponseWriter, r *http.Request, v *visitor) error {
	found, err := p.cfg.Directory.Permissions(r.Context(), v.person())
	if err != nil {
		return err
	}
	lang, data := p.lang(r), permissionList{Done: p.doneText(r, v)}
	for i := range found {
		k := &found[i]
		data.List = append(data.List, permission{Client: plainAsker(k.Name), Server: p.serverName(k.AuthorizationServer),
			Scopes: p.scopesInWords(k.AuthorizationServer, k.Scopes, lang), Resources: k.Resources, At: k.At,
			Withdraw: withQuery(p.path+accountPath+"/permissions/withdraw", "server", k.AuthorizationServer, "client", k.ClientID)})
	}
	return p.show(w, r, page{name: "permissions", title: "account.permissions", frame: p.accountFrame(v, "permissions"), data: data})
}

// clientSubject names a client in a form's seal. The server is quoted, so that no
// two clients have the same.
func clientSubject(server, client string) string { return strconv.Quote(server) + " " + client }

// askWithdraw asks whether a permission is to be withdrawn.
func (p *Pages) askWithdraw(w http.ResponseWriter, r *http.Request, v *visitor) error {
	found, err := p.cfg.Directory.Permissions(r.Context(), v.person())
	if err != nil {
		return err
	}
	server, client := r.URL.Query().Get("server"), r.URL.Query().Get("client")
	for i := range found {
		k := &found[i]
		if k.AuthorizationServer != server || k.ClientID != client {
			continue
		}
		back := p.path + accountPath + "/permissions"
		return p.askFirst(w, r, p.accountFrame(v, "permissions"), question{
			Title: "withdraw.title", Text: "withdraw.text", Name: k.Name, Submit: "withdraw.submit", Action: back + "/withdraw", Back: back,
			Ends: []application{{Client: plainAsker(k.Name), Server: p.serverName(server), Scopes: p.scopesInWords(server, k.Scopes, p.lang(r)),
				Consented: k.At}},
			Notes: []string{"withdraw.note.everywhere", "end.note.tokens"},
			Fields: map[string]string{"server": server, "client": client,
				sealField: p.seal(v, actWithdraw, clientSubject(server, client))}})
	}
	return errGone
}

// postWithdraw takes back what the visitor has allowed a client.
func (p *Pages) postWithdraw(w http.ResponseWriter, r *http.Request, v *visitor) error {
	server, client := r.PostForm.Get("server"), r.PostForm.Get("client")
	if err := p.sealed(r, v, actWithdraw, clientSubject(server, client)); err != nil {
		return err
	}
	err := p.cfg.Directory.Withdraw(r.Context(), v.person(), server, client)
	if errors.Is(err, sessions.ErrNotFound) {
		return errGone
	}
	if err != nil {
		return err
	}
	return p.redirect(w, r, p.done(p.path+accountPath+"/permissions", v, "withdrawn"))
}
