package storagetest

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"sync"

	"gatehouse.dev/gatehouse/keys"
)

func rootsByOwner(w *world) {
	record := keys.RootRecord{ID: "1", Sealed: "sealed", CreatedAt: w.now()}
	// An authorization server and a realm of one name are two owners.
	owners := []keys.RootStore{w.a.Server("one", "staff"), w.a.Server("two", "staff"), w.a.Realm("one"), w.a.Realm("two")}
	for i, owner := range owners {
		mine := record
		mine.Sealed += string(rune('a' + i))
		w.ok(owner.InsertRoot(w.Context(), mine))
		w.is(owner.InsertRoot(w.Context(), record), keys.ErrExists, "inserting version 1 again")
	}
	w.ok(owners[0].ReplaceRoot(w.Context(), keys.RootRecord{ID: "1", Sealed: "anew"}))
	w.ok(owners[0].ReplaceRoot(w.Context(), keys.RootRecord{ID: "2", Sealed: "not there"}))
	for i, owner := range owners {
		got, err := owner.Roots(w.Context())
		w.ok(err)
		want := record
		want.Sealed += string(rune('a' + i))
		if i == 0 {
			want.Sealed = "anew"
		}
		if !reflect.DeepEqual(got, []keys.RootRecord{want}) {
			w.Errorf("owner %d has %+v, want %+v", i, got, want)
		}
	}
	none, err := w.a.Realm("three").Roots(w.Context())
	w.ok(err)
	if len(none) != 0 {
		w.Errorf("an owner without roots has %+v", none)
	}
	w.raceInsertRoot()
}

func (w *world) raceInsertRoot() {
	var (
		group sync.WaitGroup
		mu    sync.Mutex
		won   int
	)
	for i := range 8 {
		store := w.of(i).Realm("race")
		group.Go(func() {
			err := store.InsertRoot(w.Context(), keys.RootRecord{ID: "1", Sealed: "s", CreatedAt: w.now()})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			} else if !errors.Is(err, keys.ErrExists) {
				w.Errorf("racing for a root: %v", err)
			}
		})
	}
	group.Wait()
	if won != 1 {
		w.Errorf("%d of 8 inserted the same root, want 1", won)
	}
}

func signingKeys(w *world) {
	key := func(id, algorithm string, slot int) keys.SigningKeyRecord {
		return keys.SigningKeyRecord{
			ID: id, Algorithm: algorithm, Slot: slot, Sealed: "sealed " + id, Public: json.RawMessage(`{"kid":"` + id + `"}`),
			CreatedAt: w.now(), ActivatesAt: w.now().Add(1),
		}
	}
	has := func(want string) {
		w.Helper()
		list, err := w.as.SigningKeys(w.Context())
		w.ok(err)
		var ids []string
		for _, k := range list {
			ids = append(ids, k.ID)
		}
		slices.Sort(ids)
		if got := strings.Join(ids, " "); got != want {
			w.Errorf("keys are %q, want %q", got, want)
		}
	}
	has("")
	first := key("A", "RS256", 1)
	first.ActivatesAt = w.now()
	w.ok(w.as.InsertSigningKeys(w.Context(), []keys.SigningKeyRecord{first, key("B", "ES256", 1)}))
	for name, batch := range map[string][]keys.SigningKeyRecord{
		"slot taken":        {key("C", "RS256", 2), key("D", "ES256", 1)},
		"id taken":          {key("C", "RS256", 2), key("A", "RS256", 3)},
		"twice in one call": {key("C", "RS256", 2), key("C", "PS256", 1)},
	} {
		w.is(w.as.InsertSigningKeys(w.Context(), batch), keys.ErrExists, "%s", name)
		has("A B")
	}
	other := w.a.Server("other", "staff")
	w.ok(other.InsertSigningKeys(w.Context(), []keys.SigningKeyRecord{key("A", "RS256", 1)}))
	list, err := w.as.SigningKeys(w.Context())
	w.ok(err)
	if i := slices.IndexFunc(list, func(k keys.SigningKeyRecord) bool { return k.ID == "A" }); !reflect.DeepEqual(list[i], first) {
		w.Errorf("read %+v, want %+v", list[i], first)
	}
	replaced := first
	replaced.Sealed = "anew"
	w.ok(w.as.ReplaceSigningKey(w.Context(), replaced))
	w.ok(w.as.ReplaceSigningKey(w.Context(), key("gone", "RS256", 9)))
	list, err = other.SigningKeys(w.Context())
	w.ok(err)
	if list[0].Sealed != "sealed A" {
		w.Error("replacing a key changed another authorization server's")
	}
	w.ok(w.as.DeleteSigningKeys(w.Context(), nil))
	w.ok(w.as.DeleteSigningKeys(w.Context(), []string{"A", "gone"}))
	has("B")
	list, err = other.SigningKeys(w.Context())
	w.ok(err)
	if len(list) != 1 {
		w.Error("deleting a key deleted another authorization server's")
	}
}
