package storagetest

import (
	"reflect"
	"time"

	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/users"
)

func userIsReadAsWritten(w *world) {
	want := users.User{
		ID: "0b8f", Username: "Älex", Password: "$argon2id$…", Roles: []string{users.RoleSessionAdmin}, Salt: []byte{0, 1, 255},
		Claims:    users.Claims{Name: "Alex ?", Email: "a@example.com", EmailVerified: true, Address: &users.Address{Country: "CH"}},
		CreatedAt: w.now(),
	}
	w.ok(w.realm.InsertUser(w.Context(), &want))
	key, err := users.Key("ÄLEX")
	w.ok(err)
	byID, err := w.realm.User(w.Context(), want.ID)
	w.ok(err)
	byName, err := w.realm.UserByName(w.Context(), key)
	w.ok(err)
	for _, got := range []*users.User{byID, byName} {
		if !reflect.DeepEqual(*got, want) {
			w.Errorf("read %+v, want %+v", *got, want)
		}
	}
}

func userNameIsUnique(w *world) {
	w.user("alex")
	for name, u := range map[string]users.User{
		"same name":              {ID: "other", Username: "name-alex"},
		"same name in capitals":  {ID: "other", Username: "NAME-Alex"},
		"same id":                {ID: "alex", Username: "other"},
		"same id and name":       {ID: "alex", Username: "name-alex"},
		"same name in fullwidth": {ID: "other", Username: "ｎａｍｅ-alex"},
	} {
		w.is(w.realm.InsertUser(w.Context(), &u), users.ErrExists, "%s", name)
	}
	w.userIn(w.a.Realm("other"), "alex")
}

func userNotFound(w *world) {
	w.user("alex")
	for _, id := range []string{"", "nobody", "ALEX", "alex ", "alex\x00", "\xff", "%", "' OR 1=1 --"} {
		_, err := w.realm.User(w.Context(), id)
		w.is(err, users.ErrNotFound, "User(%q)", id)
		_, err = w.realm.UserByName(w.Context(), id)
		w.is(err, users.ErrNotFound, "UserByName(%q)", id)
		w.is(w.realm.UnlockUser(w.Context(), id), users.ErrNotFound, "UnlockUser(%q)", id)
	}
	_, err := w.a.Realm("other").User(w.Context(), "alex")
	w.is(err, users.ErrNotFound, "another realm's user")
}

func usersAreListedByKey(w *world) {
	for _, id := range []string{"c", "a", "b", "ä", "z"} {
		w.user(id)
	}
	w.userIn(w.a.Realm("other"), "d")
	var got []string
	after := ""
	for {
		page, err := w.realm.Users(w.Context(), after, 2)
		w.ok(err)
		if len(page) == 0 {
			break
		}
		for _, u := range page {
			got = append(got, u.ID)
			after, err = users.Key(u.Username)
			w.ok(err)
		}
	}
	if want := []string{"a", "b", "c", "z", "ä"}; !reflect.DeepEqual(got, want) {
		w.Errorf("listed %q, want %q", got, want)
	}
}

func passwordUpgrade(w *world) {
	w.user("alex")
	for _, step := range []struct{ old, new, want string }{
		{"wrong", "evil", "phc"},
		{"", "evil", "phc"},
		{"phc", "stronger", "stronger"},
		{"phc", "late", "stronger"},
	} {
		w.ok(w.realm.UpgradePassword(w.Context(), "alex", step.old, step.new))
		u, err := w.realm.User(w.Context(), "alex")
		w.ok(err)
		if u.Password != step.want {
			w.Errorf("after an upgrade from %q the hash is %q, want %q", step.old, u.Password, step.want)
		}
	}
}

func unlockedUser(w *world) {
	w.user("alex")
	lock := sessions.Ending{Reason: sessions.ReasonUserLocked, Effects: []sessions.Effect{sessions.LockUser{UserID: "alex"}}}
	w.mustEnd(sessions.Target{User: "alex"}, lock, 0)
	began := w.now()
	w.pass(time.Minute)
	w.mustEnd(sessions.Target{User: "alex"}, lock, 0) // locking again keeps the time
	u, err := w.realm.User(w.Context(), "alex")
	w.ok(err)
	if !u.LockedAt.Equal(began) {
		w.Errorf("locked at %v, want %v", u.LockedAt, began)
	}
	_, err = w.realm.SignIn(w.Context(), w.signIn("alex", sessions.SignIn{}), sessions.Ending{})
	w.is(err, sessions.ErrUserLocked, "sign-in of a locked user")
	w.ok(w.realm.UnlockUser(w.Context(), "alex"))
	w.login("alex")
}
