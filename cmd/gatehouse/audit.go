package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"gatehouse.dev/gatehouse/audit"
	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/storage"
)

// requestOrigin is from where a request comes, for audit events; outside of a
// request the server acts by itself.
func requestOrigin(ctx context.Context) audit.Origin {
	note := noteOf(ctx)
	return audit.Origin{Address: note.address, RequestID: note.id}
}

// commandOrigin is who acts at the command line.
func commandOrigin(context.Context) audit.Origin {
	return audit.Origin{Actor: operator().String()}
}

// auditSweep has a realm's audit events removed when they are old enough.
type auditSweep struct {
	store *storage.Realm
	keep  time.Duration
	now   func() time.Time
}

func (s auditSweep) Sweep(ctx context.Context, _ time.Duration, limit int) (sessions.Swept, error) {
	n, err := s.store.SweepAudit(ctx, s.now().Add(-s.keep), limit)
	return sessions.Swept{Marks: n, More: n >= limit}, err
}

func newAudit(s streams) *cobra.Command {
	return group(&cobra.Command{Use: "audit", Short: "Read what was done, by whom, to whom"}, newAuditList(s))
}

// auditItem is one event in a list.
type auditItem struct {
	ID                  string       `json:"id"`
	At                  time.Time    `json:"at"`
	LastAt              time.Time    `json:"last_at"`
	Count               int          `json:"count"`
	Type                audit.Type   `json:"type"`
	Result              audit.Result `json:"result"`
	Reason              string       `json:"reason,omitempty"`
	Actor               string       `json:"actor"`
	AuthorizationServer string       `json:"authorization_server,omitempty"`
	UserID              string       `json:"user_id,omitempty"`
	Username            string       `json:"username,omitempty"`
	ClientID            string       `json:"client_id,omitempty"`
	SessionID           string       `json:"session_id,omitempty"`
	LoginID             string       `json:"login_id,omitempty"`
	Address             string       `json:"address,omitempty"`
	RequestID           string       `json:"request_id,omitempty"`
	Detail              string       `json:"detail,omitempty"`
}

// auditFlags are the filters as they are typed.
type auditFlags struct {
	as, user, client, session, address, result, since, until, before string
	types                                                            []string
	limit                                                            int
}

func newAuditList(s streams) *cobra.Command {
	var u userCommand
	var f auditFlags
	var output string
	types := make([]string, 0, len(audit.Types()))
	for _, t := range audit.Types() {
		types = append(types, string(t))
	}
	c := &cobra.Command{
		Use:   "list --config FILE",
		Short: "List audit events, newest first",
		Long: "List audit events of a realm and its authorization servers, newest first.\n\n" +
			"--since and --until take a time (2026-03-02T14:00:00Z), a day (2026-03-02, which begins\n" +
			"at 00:00 UTC) or how long ago (90m, 24h, 7d). --before takes the id of the last event of\n" +
			"a list, to go on behind it. Events: " + strings.Join(types, ", ") + ".",
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			filter, err := f.filter(time.Now())
			if err != nil {
				return err
			}
			return u.with(c.Context(), s, func(realm *storage.Realm) error {
				if f.user != "" {
					if filter.UserID, err = auditedUser(c.Context(), realm, f.user); err != nil {
						return err
					}
				}
				items, err := auditItems(c.Context(), realm, filter)
				if err != nil {
					return err
				}
				if len(items) > 0 {
					mayGoOn(s, len(items), filter.Limit, "--before "+items[len(items)-1].ID)
				}
				return list(s.out, output, items, "TIME\tEVENT\tRESULT\tCOUNT\tWHO\tWHOM\tCLIENT\tSESSION\tFROM\tREQUEST", auditRow)
			})
		},
	}
	flags := c.Flags()
	flags.StringVar(&f.user, "user", "", "only events about this `user` (name or id)")
	flags.StringVar(&f.as, "as", "", "only events of this authorization server, by `name`")
	flags.StringVar(&f.client, "client", "", "only events about this client `id`")
	flags.StringVar(&f.session, "session", "", "only events about this session `id` (sid)")
	flags.StringVar(&f.address, "address", "", "only events from this IP `address`")
	flags.StringSliceVar(&f.types, "type", nil, "only this `event`, may be repeated")
	flags.StringVar(&f.result, "result", "", "only this `result`: success or refused")
	flags.StringVar(&f.since, "since", "", "only events from this `time` on")
	flags.StringVar(&f.until, "until", "", "only events before this `time`")
	flags.StringVar(&f.before, "before", "", "only events older than the one with this `id`")
	flags.IntVar(&f.limit, "limit", 100, "at most this `number`, up to 1000")
	outputFlag(c, &output)
	return u.flags(c)
}

// filter is what was typed, but for the user, who is looked for in the realm.
func (f *auditFlags) filter(now time.Time) (audit.Filter, error) {
	filter := audit.Filter{
		ClientID: f.client, SessionID: f.session, AuthorizationServer: f.as,
		Result: audit.Result(f.result), Before: f.before, Limit: f.limit,
	}
	if err := checkLimit(f.limit); err != nil {
		return filter, err
	}
	if f.address != "" {
		ip, err := netip.ParseAddr(f.address)
		if err != nil {
			return filter, usagef("--address is an IP address")
		}
		// Refused sign-ins stand under the network.
		filter.Addresses = slices.Compact([]string{ip.Unmap().WithZone("").String(), audit.Network(f.address)})
	}
	for _, t := range f.types {
		filter.Types = append(filter.Types, audit.Type(t))
	}
	var err error
	if filter.Since, err = moment(f.since, now); err != nil {
		return filter, usagef("--since: %v", err)
	}
	if filter.Until, err = moment(f.until, now); err != nil {
		return filter, usagef("--until: %v", err)
	}
	if err := filter.Check(); err != nil {
		return filter, usagef("%v", err)
	}
	return filter, nil
}

// moment is a time as a person types it; the zero time for nothing.
func moment(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return now.AddDate(0, 0, -int(n)), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, fmt.Errorf("%q is neither a time (2026-03-02T14:00:00Z, 2026-03-02) nor a duration (90m, 24h, 7d)", text)
}

// auditedUser is the id of a user, who may be gone where an id was typed.
func auditedUser(ctx context.Context, realm *storage.Realm, name string) (string, error) {
	u, err := findUser(ctx, realm, name)
	if err == nil {
		return u.ID, nil
	}
	if id, bad := uuid.Parse(name); bad == nil {
		return id.String(), nil
	}
	return "", err
}

func auditItems(ctx context.Context, realm *storage.Realm, filter audit.Filter) ([]auditItem, error) {
	events, err := realm.Events(ctx, filter)
	if err != nil {
		return nil, err
	}
	var ids []string
	for i := range events {
		if events[i].UserID != "" {
			ids = append(ids, events[i].UserID)
		}
	}
	names, err := usernames(ctx, realm, ids)
	if err != nil {
		return nil, err
	}
	items := make([]auditItem, len(events))
	for i := range events {
		e := &events[i]
		items[i] = auditItem{ID: e.ID, At: e.At, LastAt: e.LastAt, Count: e.Count, Type: e.Type, Result: e.Result, Reason: e.Reason,
			Actor: e.Actor, AuthorizationServer: e.AuthorizationServer, UserID: e.UserID, Username: names[e.UserID],
			ClientID: e.ClientID, SessionID: e.SessionID, LoginID: e.LoginID, Address: e.Address, RequestID: e.RequestID, Detail: e.Detail}
	}
	return items, nil
}

// auditRow is an event as a line of the table.
func auditRow(i auditItem) []string {
	whom, who, event, result := i.Username, i.Actor, string(i.Type), string(i.Result)
	if whom == "" {
		whom = i.UserID
	}
	if i.Username != "" && who == (sessions.Actor{Kind: sessions.ActorUser, ID: i.UserID}).String() {
		who = "user:" + i.Username
	}
	if i.Reason != "" {
		result += " (" + i.Reason + ")"
	}
	return []string{when(i.At), event, result, strconv.Itoa(i.Count), who, whom, i.ClientID, i.SessionID, i.Address, i.RequestID}
}
