package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/configs"
	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/storage"
)

// serverCommand is what the commands for one authorization server have in
// common.
type serverCommand struct {
	file, name string
}

// flags adds the flags of every such command.
func (a *serverCommand) flags(c *cobra.Command) *cobra.Command {
	configFlag(c, &a.file)
	c.Flags().StringVar(&a.name, "as", "", "`name` of the authorization server (required where there are several)")
	return c
}

// serverDoor is one authorization server as an operator's command meets it.
type serverDoor struct {
	name  string
	root  *configs.Config
	cfg   *configs.AuthorizationServer
	db    *storage.DB
	store *storage.Server
	realm *storage.Realm
}

// manager ends things at the authorization server.
func (d *serverDoor) manager() *sessions.Manager {
	return &sessions.Manager{Store: d.store, Realm: d.realm, Now: time.Now}
}

// with runs f with the authorization server that --as names.
func (a *serverCommand) with(ctx context.Context, s streams, f func(*serverDoor) error) (err error) {
	cfg, err := loadConfig(a.file)
	if err != nil {
		return err
	}
	name, known := a.name, cfg.AuthorizationServerNames()
	if name == "" && len(known) == 1 {
		name = known[0]
	}
	if name == "" {
		return usagef("--as is missing: %s", strings.Join(known, ", "))
	}
	as, ok := cfg.AuthorizationServers[name]
	if !ok {
		return usagef("no authorization server %q is configured, but %s", name, strings.Join(known, ", "))
	}
	db, err := openDatabase(ctx, cfg, time.Now, commandOrigin, commandLogger(s))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	realm, err := openRealm(cfg, db, as.Realm)
	if err != nil {
		return err
	}
	return f(&serverDoor{
		name: name, root: cfg, cfg: as, db: db, realm: realm,
		store: db.For(storage.ServerConfig{Name: name, Realm: as.Realm, Lifetimes: serverLifetimes(cfg, name)}),
	})
}

func newClients(s streams) *cobra.Command {
	return group(&cobra.Command{Use: "clients", Short: "Look after the clients of an authorization server"},
		newClientsAdd(s), newClientsList(s), newClientsShow(s), newClientsDelete(s))
}

func newClientsAdd(s streams) *cobra.Command {
	var a serverCommand
	var m clients.Metadata
	var scopes []string
	var metadata string
	c := &cobra.Command{
		Use:   "add --as NAME --config FILE",
		Short: "Register a client; its secret is printed once and never again",
		Long: "Register a client. An id is made where none is given. A client that authenticates with\n" +
			"a secret gets one, which is printed once: the database keeps a hash only.\n\n" +
			"--metadata takes a JSON document of client metadata (RFC 7591 §2), which can say more\n" +
			"than the flags; flags go before it.",
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			document, err := readMetadata(s, metadata)
			if err != nil {
				return err
			}
			return a.with(c.Context(), s, func(d *serverDoor) error {
				m.Scope = strings.Join(scopes, " ")
				return addClient(c.Context(), s, d, merge(document, m))
			})
		},
	}
	f := c.Flags()
	f.StringVar(&m.ClientID, "id", "", "client `id`; one is made where none is given")
	f.StringVar(&m.ClientName, "name", "", "`name` to show to users")
	f.StringArrayVar(&m.RedirectURIs, "redirect-uri", nil, "redirect `URI`, may be repeated")
	f.StringArrayVar(&m.PostLogoutRedirectURIs, "post-logout-redirect-uri", nil, "`URI` to come back to after a logout, may be repeated")
	f.StringSliceVar(&m.GrantTypes, "grant-type", nil, "grant `type`, may be repeated: "+strings.Join(clients.GrantTypes(), ", "))
	f.StringSliceVar(&scopes, "scope", nil, "`scope` it may ask for, may be repeated")
	f.StringVar(&m.TokenEndpointAuthMethod, "auth-method", "", "`method` at the token endpoint: "+strings.Join(clients.AuthMethods(), ", "))
	f.StringVar(&m.ApplicationType, "application-type", "", "`type`: web or native")
	f.BoolVar(&m.SkipConsent, "skip-consent", false, "do not ask users for consent: a client of the house")
	f.StringVar(&metadata, "metadata", "", "`file` with client metadata as JSON; - for standard input")
	return a.flags(c)
}

// readMetadata reads a JSON document of client metadata strictly.
func readMetadata(s streams, file string) (clients.Metadata, error) {
	const limit = 64 << 10
	var m clients.Metadata
	in := s.in
	switch file {
	case "":
		return m, nil
	case "-":
	default:
		f, err := os.Open(file)
		if err != nil {
			return m, err
		}
		defer f.Close()
		in = f
	}
	d := json.NewDecoder(io.LimitReader(in, limit))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return m, fmt.Errorf("client metadata: %w", err)
	}
	if m.ClientSecret != "" {
		return m, errors.New("client metadata: client_secret is made here and can't be chosen")
	}
	return m, nil
}

// merge puts what the flags say over a document.
func merge(document, flags clients.Metadata) clients.Metadata {
	m := document
	for _, member := range []struct{ to, from *string }{
		{&m.ClientID, &flags.ClientID}, {&m.ClientName, &flags.ClientName}, {&m.Scope, &flags.Scope},
		{&m.TokenEndpointAuthMethod, &flags.TokenEndpointAuthMethod}, {&m.ApplicationType, &flags.ApplicationType},
	} {
		if *member.from != "" {
			*member.to = *member.from
		}
	}
	for _, member := range []struct{ to, from *[]string }{
		{&m.RedirectURIs, &flags.RedirectURIs}, {&m.PostLogoutRedirectURIs, &flags.PostLogoutRedirectURIs}, {&m.GrantTypes, &flags.GrantTypes},
	} {
		if *member.from != nil {
			*member.to = *member.from
		}
	}
	m.SkipConsent = m.SkipConsent || flags.SkipConsent
	return m
}

// addClient registers a client and prints its id and, where it has one, its
// secret.
func addClient(ctx context.Context, s streams, d *serverDoor, m clients.Metadata) error {
	if m.ClientID == "" {
		m.ClientID = strings.ToLower(rand.Text())
	}
	if d.static(m.ClientID) != nil {
		return fmt.Errorf("client %q stands in the configuration file", m.ClientID)
	}
	m.Defaults(d.cfg.AccessToken.Format)
	if faults := m.Validate(); len(faults) > 0 {
		lines := make([]error, len(faults))
		for i, fault := range faults {
			lines[i] = errors.New(fault.String())
		}
		return fmt.Errorf("the client has %s:\n%w", count(len(faults), "fault"), errors.Join(lines...))
	}
	client := &clients.Client{Metadata: m, CreatedAt: time.Now().UTC().Truncate(time.Millisecond)}
	secret := ""
	if slices.Contains([]string{clients.AuthClientSecretBasic, clients.AuthClientSecretPost}, m.TokenEndpointAuthMethod) {
		raw := make([]byte, 32)
		rand.Read(raw)
		secret = base64.RawURLEncoding.EncodeToString(raw)
		sum := sha256.Sum256([]byte(secret))
		client.SecretSHA = sum[:]
	}
	if err := d.store.InsertClient(ctx, client); err != nil {
		return fmt.Errorf("client %q: %w", m.ClientID, err)
	}
	answer := struct {
		ID     string `json:"client_id"`
		Secret string `json:"client_secret,omitempty"`
	}{m.ClientID, secret}
	return writeJSON(s.out, answer)
}

// static returns the configured client of that id, or nil.
func (d *serverDoor) static(id string) *clients.Metadata {
	i := slices.IndexFunc(d.cfg.Clients, func(m clients.Metadata) bool { return m.ClientID == id })
	if i < 0 {
		return nil
	}
	return &d.cfg.Clients[i]
}

// clientItem is one client in a list.
type clientItem struct {
	clients.Metadata
	UID       string    `json:"uid,omitempty"`
	Number    int64     `json:"number,omitempty"`
	Source    string    `json:"source"` // configuration or database
	CreatedAt time.Time `json:"created_at,omitzero"`
}

// clientItems are the live clients, by id: rows, and configured ones whose row
// the next start of a server will make. Secrets are left out.
func (d *serverDoor) clientItems(ctx context.Context) ([]clientItem, error) {
	rows, err := d.store.Clients(ctx)
	if err != nil {
		return nil, err
	}
	var items []clientItem
	seen := map[string]bool{}
	for _, row := range rows {
		item := clientItem{Metadata: row.Metadata, UID: row.UID, Number: row.Number, Source: "database", CreatedAt: row.CreatedAt}
		if static := d.static(row.ClientID); static != nil {
			item.Metadata, item.Source = *static, "configuration"
		} else if row.Static || !row.DeletedAt.IsZero() {
			continue // it has left the file: the next start marks it as gone
		}
		seen[row.ClientID] = true
		items = append(items, item)
	}
	for _, m := range d.cfg.Clients {
		if !seen[m.ClientID] {
			items = append(items, clientItem{Metadata: m, Source: "configuration"})
		}
	}
	for i := range items {
		items[i].ClientSecret = ""
	}
	slices.SortFunc(items, func(a, b clientItem) int { return strings.Compare(a.ClientID, b.ClientID) })
	return items, nil
}

func newClientsList(s streams) *cobra.Command {
	var a serverCommand
	var output string
	c := &cobra.Command{
		Use:   "list --as NAME --config FILE",
		Short: "List the clients",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			return a.with(c.Context(), s, func(d *serverDoor) error {
				items, err := d.clientItems(c.Context())
				if err != nil {
					return err
				}
				return list(s.out, output, items, "ID\tNAME\tSOURCE\tAUTH METHOD\tGRANT TYPES\tCREATED", func(i clientItem) []string {
					return []string{i.ClientID, i.ClientName, i.Source, i.TokenEndpointAuthMethod, strings.Join(i.GrantTypes, " "), when(i.CreatedAt)}
				})
			})
		},
	}
	outputFlag(c, &output)
	return a.flags(c)
}

func newClientsShow(s streams) *cobra.Command {
	var a serverCommand
	c := &cobra.Command{
		Use:   "show CLIENT_ID --as NAME --config FILE",
		Short: "Print a client's metadata as JSON, without its secret",
		Args:  exactArgs("CLIENT_ID"),
		RunE: func(c *cobra.Command, args []string) error {
			return a.with(c.Context(), s, func(d *serverDoor) error {
				items, err := d.clientItems(c.Context())
				if err != nil {
					return err
				}
				i := slices.IndexFunc(items, func(i clientItem) bool { return i.ClientID == args[0] })
				if i < 0 {
					return fmt.Errorf("no client %q at %s", args[0], d.name)
				}
				return writeJSON(s.out, items[i])
			})
		},
	}
	return a.flags(c)
}

func newClientsDelete(s streams) *cobra.Command {
	var a serverCommand
	c := &cobra.Command{
		Use:   "delete CLIENT_ID --as NAME --config FILE",
		Short: "Delete a client; all of its sessions end",
		Args:  exactArgs("CLIENT_ID"),
		RunE: func(c *cobra.Command, args []string) error {
			return a.with(c.Context(), s, func(d *serverDoor) error {
				if d.static(args[0]) != nil {
					return fmt.Errorf("client %q stands in the configuration file, and would be back at the next start: take it out of %s and restart the server", args[0], a.file)
				}
				n, err := d.manager().End(c.Context(), sessions.Target{Client: args[0]}, sessions.Ending{
					By: operator(), Reason: sessions.ReasonClientDeleted,
					Effects: []sessions.Effect{sessions.DeleteClient{AuthorizationServer: d.name, ClientID: args[0]}},
				})
				if errors.Is(err, sessions.ErrNotFound) {
					return fmt.Errorf("no client %q at %s", args[0], d.name)
				}
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(s.out, "deleted, %s ended\n", count(n, "session"))
				return err
			})
		},
	}
	return a.flags(c)
}
