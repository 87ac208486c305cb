package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"gatehouse.dev/gatehouse/configs"
	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/storage"
	"gatehouse.dev/gatehouse/users"
)

// userCommand is what the users commands have in common: one realm's store.
type userCommand struct {
	file, realm string
}

// flags adds the flags of every users command.
func (u *userCommand) flags(c *cobra.Command) *cobra.Command {
	configFlag(c, &u.file)
	c.Flags().StringVar(&u.realm, "realm", defaultRealm, "`name` of the realm")
	return c
}

// with runs f with the realm's store.
func (u *userCommand) with(ctx context.Context, s streams, f func(*storage.Realm) error) (err error) {
	cfg, err := loadConfig(u.file)
	if err != nil {
		return err
	}
	db, err := openDatabase(ctx, cfg, time.Now, commandOrigin, commandLogger(s))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	realm, err := openRealm(cfg, db, u.realm)
	if err != nil {
		return err
	}
	return f(realm)
}

// withUser runs f with the realm's store and an account of it, by id or name.
func (u *userCommand) withUser(ctx context.Context, s streams, who string, f func(*storage.Realm, *users.User) error) error {
	return u.with(ctx, s, func(realm *storage.Realm) error {
		user, err := findUser(ctx, realm, who)
		if err != nil {
			return err
		}
		return f(realm, user)
	})
}

// openRealm returns the store of a configured realm.
func openRealm(cfg *configs.Config, db *storage.DB, name string) (*storage.Realm, error) {
	r, ok := cfg.Realms[name]
	if !ok {
		return nil, usagef("no realm %q is configured, but %s", name, strings.Join(cfg.RealmNames(), ", "))
	}
	return db.Realm(storage.RealmConfig{Name: name, Servers: serversLifetimes(cfg, name), Lifetimes: sessions.Lifetimes{
		LoginIdle: r.Login.IdleLifetime, LoginAbsolute: r.Login.Lifetime,
	}}), nil
}

func newUsers(s streams) *cobra.Command {
	return group(&cobra.Command{Use: "users", Short: "Look after the accounts of a realm"},
		newUsersAdd(s), newUsersList(s), newUsersSetPassword(s), newUsersLock(s), newUsersUnlock(s))
}

func newUsersAdd(s streams) *cobra.Command {
	var u userCommand
	var name, email string
	var roles []string
	var stdin bool
	c := &cobra.Command{
		Use:   "add USERNAME --config FILE",
		Short: "Add an account",
		Args:  exactArgs("USERNAME"),
		RunE: func(c *cobra.Command, args []string) error {
			if _, err := users.Key(args[0]); err != nil {
				return usagef("%q can't be a user name", args[0])
			}
			for _, role := range roles {
				if role != users.RoleSessionAdmin {
					return usagef("no role %q, but %s", role, users.RoleSessionAdmin)
				}
			}
			return u.with(c.Context(), s, func(realm *storage.Realm) error {
				phc, err := newPassword(c.Context(), s, args[0], stdin)
				if err != nil {
					return err
				}
				user := newUser(args[0], time.Now)
				user.Password, user.Roles = phc, roles
				user.Claims = users.Claims{Name: name, Email: email}
				if err := realm.InsertUser(c.Context(), user); err != nil {
					return fmt.Errorf("user %q: %w", args[0], err)
				}
				_, err = fmt.Fprintln(s.out, user.ID)
				return err
			})
		},
	}
	c.Flags().StringVar(&name, "name", "", "`name` to show")
	c.Flags().StringVar(&email, "email", "", "mail `address`")
	c.Flags().StringSliceVar(&roles, "role", nil, "`role`, may be repeated: "+users.RoleSessionAdmin)
	passwordFlag(c, &stdin)
	return u.flags(c)
}

// userItem is one account in a list.
type userItem struct {
	ID        string    `json:"id"`
	Username  string    `json:"username"`
	Name      string    `json:"name,omitempty"`
	Email     string    `json:"email,omitempty"`
	Roles     []string  `json:"roles,omitempty"`
	CreatedAt time.Time `json:"created_at"`
	LockedAt  time.Time `json:"locked_at,omitzero"`
}

func newUsersList(s streams) *cobra.Command {
	var u userCommand
	var output string
	c := &cobra.Command{
		Use:   "list --config FILE",
		Short: "List the accounts",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			return u.with(c.Context(), s, func(realm *storage.Realm) error {
				items, err := userItems(c.Context(), realm)
				if err != nil {
					return err
				}
				return list(s.out, output, items, "ID\tUSERNAME\tNAME\tEMAIL\tROLES\tCREATED\tLOCKED", func(i userItem) []string {
					return []string{i.ID, i.Username, i.Name, i.Email, strings.Join(i.Roles, " "), when(i.CreatedAt), when(i.LockedAt)}
				})
			})
		},
	}
	outputFlag(c, &output)
	return u.flags(c)
}

func userItems(ctx context.Context, store users.Store) ([]userItem, error) {
	const page = 500
	var items []userItem
	for after := ""; ; {
		batch, err := store.Users(ctx, after, page)
		if err != nil {
			return nil, err
		}
		for i := range batch {
			u := &batch[i]
			items = append(items, userItem{ID: u.ID, Username: u.Username, Name: u.Claims.Name, Email: u.Claims.Email,
				Roles: u.Roles, CreatedAt: u.CreatedAt, LockedAt: u.LockedAt})
		}
		if len(batch) < page {
			return items, nil
		}
		if after, err = users.Key(batch[len(batch)-1].Username); err != nil {
			return nil, err
		}
	}
}

func newUsersSetPassword(s streams) *cobra.Command {
	var u userCommand
	var stdin bool
	c := &cobra.Command{
		Use:   "set-password USER --config FILE",
		Short: "Set an account's password; all of its sessions end",
		Args:  exactArgs("USER"),
		RunE: func(c *cobra.Command, args []string) error {
			return u.withUser(c.Context(), s, args[0], func(realm *storage.Realm, user *users.User) error {
				phc, err := newPassword(c.Context(), s, user.Username, stdin)
				if err != nil {
					return err
				}
				return endUser(c.Context(), s, realm, user, sessions.ReasonPasswordChanged, sessions.SetPassword{UserID: user.ID, PHC: phc})
			})
		},
	}
	passwordFlag(c, &stdin)
	return u.flags(c)
}

func newUsersLock(s streams) *cobra.Command {
	var u userCommand
	c := &cobra.Command{
		Use:   "lock USER --config FILE",
		Short: "Lock an account; all of its sessions end",
		Args:  exactArgs("USER"),
		RunE: func(c *cobra.Command, args []string) error {
			return u.withUser(c.Context(), s, args[0], func(realm *storage.Realm, user *users.User) error {
				return endUser(c.Context(), s, realm, user, sessions.ReasonUserLocked, sessions.LockUser{UserID: user.ID})
			})
		},
	}
	return u.flags(c)
}

func newUsersUnlock(s streams) *cobra.Command {
	var u userCommand
	c := &cobra.Command{
		Use:   "unlock USER --config FILE",
		Short: "Let a locked account sign in again",
		Args:  exactArgs("USER"),
		RunE: func(c *cobra.Command, args []string) error {
			return u.withUser(c.Context(), s, args[0], func(realm *storage.Realm, user *users.User) error {
				return realm.UnlockUser(c.Context(), user.ID)
			})
		},
	}
	return u.flags(c)
}

// endUser ends everything of a user together with an effect on the account,
// and says how many sessions that was.
func endUser(ctx context.Context, s streams, realm *storage.Realm, user *users.User, reason sessions.Reason, effects ...sessions.Effect) error {
	manager := &sessions.Manager{Realm: realm, Now: time.Now}
	n, err := manager.End(ctx, sessions.Target{User: user.ID}, sessions.Ending{By: operator(), Reason: reason, Effects: effects})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "%s ended\n", count(n, "session"))
	return err
}

// findUser finds an account by its id or its name.
func findUser(ctx context.Context, store users.Store, who string) (*users.User, error) {
	if _, err := uuid.Parse(who); err == nil {
		if user, err := store.User(ctx, who); !errors.Is(err, users.ErrNotFound) {
			return user, err
		}
	}
	key, err := users.Key(who)
	if err != nil {
		return nil, fmt.Errorf("user %q: %w", who, users.ErrNotFound)
	}
	user, err := store.UserByName(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("user %q: %w", who, err)
	}
	return user, nil
}

// usernames looks up the names of users by their ids; who is gone has none.
func usernames(ctx context.Context, store users.Store, ids []string) (map[string]string, error) {
	slices.Sort(ids)
	names := map[string]string{}
	for _, id := range slices.Compact(ids) {
		user, err := store.User(ctx, id)
		if errors.Is(err, users.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		names[id] = user.Username
	}
	return names, nil
}
