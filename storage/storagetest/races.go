package storagetest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/oauth"
	"gatehouse.dev/gatehouse/sessions"
)

// of is the i-th process's handle.
func (w *world) of(i int) Handles {
	if i%2 == 0 {
		return w.a
	}
	return w.b
}

// race runs f n times at once, at both handles in turn, and tells how often it
// was true.
func (w *world) race(n int, f func(i int, as ServerStore, realm RealmStore) bool) int {
	var (
		group sync.WaitGroup
		won   atomic.Int64
		start = make(chan struct{})
	)
	for i := range n {
		as, realm := w.of(i).Server("myAS", "staff"), w.of(i).Realm("staff")
		group.Go(func() {
			<-start
			if f(i, as, realm) {
				won.Add(1)
			}
		})
	}
	close(start)
	group.Wait()
	return int(won.Load())
}

func raceRedeem(w *world) {
	login := w.begin()
	for range 3 {
		grant, _ := w.authorize(login, "album", refresh)
		won := w.race(64, func(_ int, as ServerStore, _ RealmStore) bool {
			ok, err := as.Redeem(w.Context(), grant, w.now())
			if err != nil {
				w.Errorf("redeeming: %v", err)
			}
			return ok
		})
		if won != 1 {
			w.Errorf("%d of 64 redeemed one code, want 1", won)
		}
	}
}

func raceAdvance(w *world) {
	grant, _ := w.grant(w.begin(), "album", refresh)
	for generation := int64(1); generation < 4; generation++ {
		won := w.race(64, func(_ int, as ServerStore, _ RealmStore) bool {
			ok, err := as.Advance(w.Context(), grant, generation, w.now())
			if err != nil {
				w.Errorf("advancing: %v", err)
			}
			return ok
		})
		if won != 1 {
			w.Errorf("%d of 64 advanced one generation, want 1", won)
		}
	}
}

func raceTwins(w *world) {
	w.begin()
	for range 5 {
		login := w.login("alex")
		var seen sync.Map
		w.race(16, func(_ int, as ServerStore, _ RealmStore) bool {
			g := w.newGrant(login, "album", refresh)
			session, err := as.InsertGrant(w.Context(), g)
			if err != nil {
				w.Errorf("inserting: %v", err)
				return false
			}
			seen.Store(session.ID, true)
			ok, err := as.Redeem(w.Context(), g.Grant.ID, w.now())
			if err != nil || !ok {
				w.Errorf("redeeming: %v, %v", ok, err)
			}
			return ok
		})
		n := 0
		seen.Range(func(any, any) bool { n++; return true })
		if n != 1 {
			w.Errorf("16 grants of one client in one login made %d sessions", n)
		}
	}
}

func raceNonce(w *world) {
	w.begin()
	for range 5 {
		login := w.loginIn(w.realm, "alex", sessions.SignIn{AuthNonce: "nonce"})
		won := w.race(16, func(_ int, as ServerStore, _ RealmStore) bool {
			g := w.newGrant(login, "album", refresh)
			g.UseNonce = "nonce"
			_, err := as.InsertGrant(w.Context(), g)
			if err != nil && !errors.Is(err, oauth.ErrLoginRequired) {
				w.Errorf("inserting: %v", err)
			}
			return err == nil
		})
		if won != 1 {
			w.Errorf("%d of 16 used one nonce, want 1", won)
		}
	}
}

func raceAssertion(w *world) {
	for round := range 3 {
		won := w.race(32, func(_ int, as ServerStore, _ RealmStore) bool {
			err := as.UseAssertion(w.Context(), "album", fmt.Sprint(round), w.now().Add(time.Minute))
			if err != nil && !errors.Is(err, oauth.ErrReplayed) {
				w.Errorf("using an assertion: %v", err)
			}
			return err == nil
		})
		if won != 1 {
			w.Errorf("%d of 32 used one assertion, want 1", won)
		}
	}
}

// raceGrantsAndLock sets sign-ins, authorizations and redemptions against a
// lock of the account: whoever was first, nothing lives afterwards.
func raceGrantsAndLock(w *world) {
	w.client("album")
	for round := range 25 {
		user := w.user(fmt.Sprint("user", round)).ID
		login := w.login(user)
		var grants sync.Map
		w.race(8, func(i int, as ServerStore, realm RealmStore) bool {
			if i == 7 {
				_, err := realm.End(w.Context(), sessions.Target{User: user}, sessions.Ending{
					Reason: sessions.ReasonUserLocked, At: w.now(), Effects: []sessions.Effect{sessions.LockUser{UserID: user}}})
				if err != nil {
					w.Errorf("locking: %v", err)
				}
				return true
			}
			mine := login
			if i%3 == 0 {
				l, err := realm.SignIn(w.Context(), w.signIn(user, sessions.SignIn{}), sessions.Ending{})
				if err != nil {
					if !errors.Is(err, sessions.ErrUserLocked) {
						w.Errorf("signing in: %v", err)
					}
					return false
				}
				mine = l
			}
			return w.tryGrant(as, mine, kind(i%3), &grants)
		})
		w.nothingLives(user, &grants)
	}
}

// tryGrant inserts and redeems a grant as far as it is let.
func (w *world) tryGrant(as ServerStore, login *sessions.Login, k kind, grants *sync.Map) bool {
	g := w.newGrant(login, "album", k)
	_, err := as.InsertGrant(w.Context(), g)
	if err != nil {
		if !errors.Is(err, oauth.ErrNotLive) && !errors.Is(err, oauth.ErrLoginRequired) {
			w.Errorf("inserting: %v", err)
		}
		return false
	}
	grants.Store(g.Grant.ID, true)
	ok, err := as.Redeem(w.Context(), g.Grant.ID, w.now())
	if err != nil {
		w.Errorf("redeeming: %v", err)
	}
	return ok
}

func (w *world) nothingLives(user string, grants *sync.Map) {
	w.Helper()
	grants.Range(func(id, _ any) bool {
		state := w.state(id.(string))
		if state.Live || state.Session.Ended == nil || state.Grant.EndedAt.IsZero() {
			w.Errorf("a grant outlived the ending: %+v", state)
		}
		return true
	})
	if list, err := w.realm.Logins(w.Context(), user); err != nil || len(list) != 0 {
		w.Errorf("%d logins outlived the ending, %v", len(list), err)
	}
	if listed := w.listed(user); listed != "" {
		w.Errorf("sessions %q outlived the ending", listed)
	}
}

// raceGrantsAndLogout is the same for one login, where offline access, and
// nothing else, outlives the ending.
func raceGrantsAndLogout(w *world) {
	w.begin()
	for range 25 {
		login := w.login("alex")
		var grants sync.Map
		w.race(8, func(i int, as ServerStore, realm RealmStore) bool {
			if i == 7 {
				ending := logout()
				ending.At = w.now()
				_, err := realm.End(w.Context(), sessions.Target{Login: login.ID}, ending)
				w.is(err, nil, "ending the login")
				return true
			}
			return w.tryGrant(as, login, kind(i%3), &grants)
		})
		grants.Range(func(id, _ any) bool {
			state := w.state(id.(string))
			may := state.Grant.Offline && !state.Grant.RedeemedAt.IsZero()
			if state.Live != may || state.Grant.EndedAt.IsZero() != may {
				w.Errorf("after the login's end a grant is %+v, live %v", state.Grant, state.Live)
			}
			if state.Live && !state.Session.Detached {
				w.Errorf("a live session of an ended login is not detached: %+v", state.Session)
			}
			return true
		})
	}
}

// raceRefreshAndEnding wants that no refresh is answered behind an ending.
func raceRefreshAndEnding(w *world) {
	w.client("album")
	for round := range 20 {
		user := w.user(fmt.Sprint("user", round)).ID
		grant, session := w.grant(w.login(user), "album", refresh)
		var over atomic.Bool
		w.race(4, func(i int, as ServerStore, _ RealmStore) bool {
			if i == 3 {
				_, err := as.End(w.Context(), sessions.Target{Session: session.ID, OfUser: user}, logout())
				w.is(err, nil, "ending the session")
				over.Store(true)
				return true
			}
			for generation := int64(1); ; generation++ {
				before := over.Load()
				ok, err := as.Advance(w.Context(), grant, 1000+generation*10+int64(i), w.now())
				if err != nil {
					w.Errorf("refreshing: %v", err)
				}
				if ok && before {
					w.Error("a refresh was answered behind the ending")
				}
				if before || err != nil {
					return ok
				}
			}
		})
		w.live(grant, false, "the grant")
	}
}

// raceEverything mixes what locks in different ways; what it looks for is a
// deadlock or an error that no caller expects.
func raceEverything(w *world) {
	w.client("album")
	w.client("news")
	for _, user := range []string{"alex", "bea"} {
		w.user(user)
	}
	for range 6 {
		logins := []*sessions.Login{w.login("alex"), w.login("alex"), w.login("bea")}
		_, session := w.grant(logins[0], "news", offline)
		var grants sync.Map
		w.race(24, func(i int, as ServerStore, realm RealmStore) bool {
			ctx, login := w.Context(), logins[i%3]
			var err error
			switch i % 12 {
			case 0, 1, 2, 3:
				return w.tryGrant(as, login, kind(i%3), &grants)
			case 4:
				_, err = realm.End(ctx, sessions.Target{Login: login.ID}, logout())
			case 5:
				_, err = realm.End(ctx, sessions.Target{User: login.UserID}, logout())
			case 6:
				_, err = as.End(ctx, sessions.Target{Client: "album"}, logout())
			case 7:
				_, err = as.End(ctx, sessions.Target{Client: "album", OfUser: login.UserID}, logout())
			case 8:
				_, err = as.End(ctx, sessions.Target{Session: session.ID}, logout())
			case 9:
				_, err = realm.SignIn(ctx, w.signIn("alex", sessions.SignIn{Current: login.ID}), logout())
			case 10:
				_, err = realm.SignIn(ctx, w.signIn("bea", sessions.SignIn{Current: login.ID}), logout())
			case 11:
				var touches []sessions.Touch
				for _, l := range logins {
					touches = append(touches, sessions.Touch{LoginID: l.ID, AuthorizationServer: "myAS", SessionID: session.ID, At: w.now().Add(time.Duration(i) * time.Second)})
				}
				err = realm.Touch(ctx, touches)
			}
			if err != nil && !errors.Is(err, sessions.ErrNotFound) {
				w.Errorf("case %d: %v", i%12, err)
			}
			return err == nil
		})
	}
	w.mustEndAny(sessions.Target{User: "alex"})
	w.mustEndAny(sessions.Target{User: "bea"})
	if w.listed("alex")+w.listed("bea") != "" {
		w.Error("something outlived the end of everything")
	}
}

func raceRegister(w *world) {
	var numbers sync.Map
	won := w.race(24, func(i int, as ServerStore, _ RealmStore) bool {
		c := clients.Client{Metadata: clients.Metadata{ClientID: fmt.Sprint("client", i/3)}}
		err := as.InsertClient(w.Context(), &c)
		if err != nil {
			w.is(err, w.a.ErrClientExists, "inserting")
			return false
		}
		if _, twice := numbers.LoadOrStore(c.Number, true); twice {
			w.Errorf("number %d was given twice", c.Number)
		}
		return true
	})
	if won != 8 {
		w.Errorf("%d of 24 registered 8 clients", won)
	}
	static := []clients.Client{{Metadata: clients.Metadata{ClientID: "s1"}}, {Metadata: clients.Metadata{ClientID: "s2"}}}
	w.race(8, func(_ int, as ServerStore, _ RealmStore) bool {
		_, err := as.SyncStatic(w.Context(), static)
		w.is(err, nil, "several nodes that start at once")
		return err == nil
	})
	list, err := w.as.Clients(w.Context())
	w.ok(err)
	if len(list) != 10 {
		w.Errorf("%d clients, want 10", len(list))
	}
}
