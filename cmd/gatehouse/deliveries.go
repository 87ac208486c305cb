package main

import (
	"context"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"gatehouse.dev/gatehouse/deliveries"
)

func newDeliveries(s streams) *cobra.Command {
	return group(&cobra.Command{Use: "deliveries", Short: "See what clients were told, or wait to be told, of ended sessions"}, newDeliveriesList(s))
}

// deliveryItem is one delivery in a list.
type deliveryItem struct {
	ID        string           `json:"id"` // the jti
	ClientID  string           `json:"client_id"`
	SessionID string           `json:"session_id"`
	Subject   string           `json:"subject"`
	URI       string           `json:"uri"`
	State     deliveries.State `json:"state"`
	CreatedAt time.Time        `json:"created_at"`
	Attempts  int              `json:"attempts"`
	NextAt    time.Time        `json:"next_at,omitzero"`
	SettledAt time.Time        `json:"settled_at,omitzero"`
	LastError string           `json:"last_error,omitempty"`
}

func newDeliveriesList(s streams) *cobra.Command {
	var a serverCommand
	var state, client, session, output string
	var limit int
	c := &cobra.Command{
		Use:   "list --as NAME --config FILE",
		Short: "List logout messages to clients, newest first",
		Long: "List logout messages to clients, newest first: those that wait to be sent, or sent\n" +
			"again, those that were acknowledged, and those that were given up.",
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			if err := checkLimit(limit); err != nil {
				return err
			}
			filter := deliveries.Filter{State: deliveries.State(state), ClientID: client, SessionID: session, Limit: limit}
			switch filter.State {
			case "", deliveries.Waiting, deliveries.Sent, deliveries.Abandoned:
			default:
				return usagef("--state is %s, %s or %s", deliveries.Waiting, deliveries.Sent, deliveries.Abandoned)
			}
			return a.with(c.Context(), s, func(d *serverDoor) error {
				items, err := d.deliveryItems(c.Context(), filter)
				if err != nil {
					return err
				}
				mayGoOn(s, len(items), limit, "--limit")
				return list(s.out, output, items, "ID\tCLIENT\tSESSION\tSTATE\tENDED\tATTEMPTS\tNEXT\tSETTLED\tERROR", func(i deliveryItem) []string {
					return []string{i.ID, i.ClientID, i.SessionID, string(i.State), when(i.CreatedAt), strconv.Itoa(i.Attempts), when(i.NextAt),
						when(i.SettledAt), i.LastError}
				})
			})
		},
	}
	c.Flags().StringVar(&state, "state", "", "only those in this `state`: waiting, sent or abandoned")
	c.Flags().StringVar(&client, "client", "", "only those to this client `id`")
	c.Flags().StringVar(&session, "session", "", "only those about this session `id` (sid)")
	c.Flags().IntVar(&limit, "limit", 1000, "at most this `number`")
	outputFlag(c, &output)
	return a.flags(c)
}

func (d *serverDoor) deliveryItems(ctx context.Context, filter deliveries.Filter) ([]deliveryItem, error) {
	found, err := d.db.Deliveries(ctx, d.name, filter)
	if err != nil {
		return nil, err
	}
	items := make([]deliveryItem, len(found))
	for i := range found {
		f := &found[i]
		items[i] = deliveryItem{ID: f.ID, ClientID: f.ClientID, SessionID: f.SessionID, Subject: f.Subject, URI: f.URI, State: f.State,
			CreatedAt: f.CreatedAt, Attempts: f.Attempts, SettledAt: f.SettledAt, LastError: f.LastError}
		if f.State == deliveries.Waiting {
			items[i].NextAt = f.NextAt
		}
	}
	return items, nil
}
