package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gatehouse.dev/gatehouse/sessions"
)

func newSessions(s streams) *cobra.Command {
	return group(&cobra.Command{Use: "sessions", Short: "See and end the sessions of an authorization server"},
		newSessionsList(s), newSessionsEnd(s))
}

// sessionItem is one session in a list.
type sessionItem struct {
	ID              string    `json:"id"` // the sid
	ClientID        string    `json:"client_id"`
	ClientName      string    `json:"client_name"`
	UserID          string    `json:"user_id"`
	Username        string    `json:"username,omitempty"`
	Origin          string    `json:"origin"`
	Scopes          []string  `json:"scopes"`
	Offline         bool      `json:"offline"`
	Detached        bool      `json:"detached"`
	AuthenticatedAt time.Time `json:"authenticated_at"`
	ConsentedAt     time.Time `json:"consented_at,omitzero"`
	CreatedAt       time.Time `json:"created_at"`
	LastUsedAt      time.Time `json:"last_used_at"`
	ExpiresAt       time.Time `json:"expires_at"`
}

func newSessionsList(s streams) *cobra.Command {
	var a serverCommand
	var user, client, output string
	var limit int
	c := &cobra.Command{
		Use:   "list --as NAME --config FILE",
		Short: "List the live sessions, newest first",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			if err := checkLimit(limit); err != nil {
				return err
			}
			return a.with(c.Context(), s, func(d *serverDoor) error {
				filter, err := d.filter(c.Context(), user, client)
				if err != nil {
					return err
				}
				filter.Limit = limit
				items, err := d.sessionItems(c.Context(), filter)
				if err != nil {
					return err
				}
				mayGoOn(s, len(items), limit, "--limit")
				return list(s.out, output, items, "ID\tCLIENT\tUSER\tAUTHENTICATED\tLAST USED\tEXPIRES\tOFFLINE", func(i sessionItem) []string {
					name, offline := i.Username, ""
					if name == "" {
						name = i.UserID
					}
					if i.Offline {
						offline = "yes"
					}
					return []string{i.ID, i.ClientID, name, when(i.AuthenticatedAt), when(i.LastUsedAt), when(i.ExpiresAt), offline}
				})
			})
		},
	}
	c.Flags().StringVar(&user, "user", "", "only sessions of this `user` (name or id)")
	c.Flags().StringVar(&client, "client", "", "only sessions of this client `id`")
	c.Flags().IntVar(&limit, "limit", 1000, "at most this `number`")
	outputFlag(c, &output)
	return a.flags(c)
}

// filter chooses sessions by what an operator types.
func (d *serverDoor) filter(ctx context.Context, user, client string) (sessions.Filter, error) {
	f := sessions.Filter{ClientID: client}
	if user != "" {
		u, err := findUser(ctx, d.realm, user)
		if err != nil {
			return f, err
		}
		f.UserID = u.ID
	}
	return f, nil
}

func (d *serverDoor) sessionItems(ctx context.Context, filter sessions.Filter) ([]sessionItem, error) {
	found, err := d.store.Sessions(ctx, filter)
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(found))
	for i := range found {
		ids[i] = found[i].UserID
	}
	names, err := usernames(ctx, d.realm, ids)
	if err != nil {
		return nil, err
	}
	items := make([]sessionItem, len(found))
	for i := range found {
		f := &found[i]
		items[i] = sessionItem{ID: f.ID, ClientID: f.ClientID, ClientName: f.ClientName, UserID: f.UserID, Username: names[f.UserID],
			Origin: f.Origin, Scopes: f.Scopes, Offline: f.Offline, Detached: f.Detached, AuthenticatedAt: f.AuthenticatedAt,
			ConsentedAt: f.ConsentedAt, CreatedAt: f.CreatedAt, LastUsedAt: f.LastUsedAt, ExpiresAt: f.ExpiresAt}
	}
	return items, nil
}

func newSessionsEnd(s streams) *cobra.Command {
	var a serverCommand
	var user, client, session, all string
	c := &cobra.Command{
		Use:   "end --as NAME --config FILE",
		Short: "End sessions; it takes effect on every node before the command returns",
		Long: "End sessions; it takes effect on every node before the command returns.\n\n" +
			"At least one of --session, --user and --client says which; several narrow it down.\n" +
			"--all-of-user ends everything of a user in the whole realm: the sign-ins in all\n" +
			"browsers, and the sessions at all authorization servers.",
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			given := strings.Join([]string{user, client, session}, "")
			switch {
			case given == "" && all == "":
				return usagef("which sessions? Give --session, --user, --client or --all-of-user")
			case given != "" && all != "":
				return usagef("--all-of-user goes with no other choice")
			}
			return a.with(c.Context(), s, func(d *serverDoor) error {
				if all != "" {
					u, err := findUser(c.Context(), d.realm, all)
					if err != nil {
						return err
					}
					return endUser(c.Context(), s, d.realm, u, sessions.ReasonEndedByOperator)
				}
				filter, err := d.filter(c.Context(), user, client)
				if err != nil {
					return err
				}
				n, err := d.end(c.Context(), session, filter)
				if err == nil && n == 0 && session != "" {
					err = fmt.Errorf("session %q: %w", session, sessions.ErrNotFound)
				}
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(s.out, "%s ended\n", count(n, "session"))
				return err
			})
		},
	}
	c.Flags().StringVar(&session, "session", "", "the session with this `id` (sid)")
	c.Flags().StringVar(&user, "user", "", "sessions of this `user` (name or id)")
	c.Flags().StringVar(&client, "client", "", "sessions of this client `id`")
	c.Flags().StringVar(&all, "all-of-user", "", "everything of this `user` (name or id)")
	return a.flags(c)
}

// end ends one session, or all that filter chooses, and tells how many it was.
// What ended in between is no error.
func (d *serverDoor) end(ctx context.Context, id string, filter sessions.Filter) (int, error) {
	ending := sessions.Ending{By: operator(), Reason: sessions.ReasonEndedByOperator}
	if id == "" && filter.UserID == "" {
		n, err := d.manager().End(ctx, sessions.Target{Client: filter.ClientID}, ending)
		return n, ignoreNotFound(err)
	}
	end := func(id string) (int, error) {
		n, err := d.manager().End(ctx, sessions.Target{Session: id, OfUser: filter.UserID, OfClient: filter.ClientID}, ending)
		return n, ignoreNotFound(err)
	}
	if id != "" {
		return end(id)
	}
	total := 0
	for {
		found, err := d.store.Sessions(ctx, filter)
		if err != nil {
			return total, err
		}
		ended := 0
		for i := range found {
			n, err := end(found[i].ID)
			if err != nil {
				return total, err
			}
			ended += n
		}
		total += ended
		if ended == 0 {
			return total, nil
		}
	}
}

func ignoreNotFound(err error) error {
	if errors.Is(err, sessions.ErrNotFound) {
		return nil
	}
	return err
}
