//go:build unix

package main

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gatehouse.dev/gatehouse/storage/pgtest"
)

// How many checks of each database there are, how long their sequences are on
// average before they are cut off at modelSteps, and how many checks there are
// in `make test-long`. A check is several sequences.
const (
	modelChecks    = 125
	modelLength    = 30
	modelSequences = 4
	modelLong      = 1_250
	modelLongTime  = 10 * time.Minute
)

// Random sequences of what users, clients, operators and time do, at two nodes
// on one database: no token that the model calls dead is accepted anywhere, none
// that it calls live is refused, lists have exactly the live sessions, and of
// each ending exactly those clients are told that have to be.
func TestRandomSequencesAgreeWithTheModel(t *testing.T) {
	setRapid(t)
	houses := openModelHouses(t)
	runSequences(t, houses)
	// An outcome comes about a few times in a run, and so in some runs never.
	for more := 0; more < 4 && !t.Failed() && whole(houses) && len(missing(houses)) > 0; more++ {
		setFlag(t, "rapid.seed", newSeed())
		runSequences(t, houses)
	}
	if !t.Failed() {
		judge(t, houses)
	}
}

func TestLongRandomSequencesAgreeWithTheModel(t *testing.T) {
	if !long() {
		return
	}
	setRapid(t)
	houses := openModelHouses(t)
	began := time.Now()
	for n := 0; n < modelLong && time.Since(began) < modelLongTime && !t.Failed(); n += modelChecks {
		t.Run(strconv.Itoa(n), func(t *testing.T) { runSequences(t, houses) })
		setFlag(t, "rapid.seed", newSeed())
	}
	if !t.Failed() {
		judge(t, houses)
	}
}

// newSeed is a seed that rapid takes; 0 would leave the choice to it.
func newSeed() string { return strconv.FormatUint(rand.Uint64()|1, 10) }

// setRapid sets what the command line leaves open for as long as the test runs.
// Flags are the only way: rapid reads its settings from nowhere else, and it
// tells the seed only after a failure. Fail files are not for this test: what
// they hold means something else as soon as an operation is added.
func setRapid(t *testing.T) {
	t.Helper()
	for name, value := range map[string]string{
		"rapid.seed": newSeed(), "rapid.checks": strconv.Itoa(modelChecks), "rapid.steps": strconv.Itoa(modelLength), "rapid.nofailfile": "true",
	} {
		f := flag.Lookup(name)
		if before := f.Value.String(); before == f.DefValue && os.Getenv(strings.ToUpper(strings.ReplaceAll(name, ".", "_"))) == "" {
			setFlag(t, name, value)
			t.Cleanup(func() { setFlag(t, name, before) })
		}
	}
}

func setFlag(t *testing.T, name, value string) {
	t.Helper()
	if err := flag.Set(name, value); err != nil {
		t.Fatal(err)
	}
}

// modelDatabases are the databases that sequences run on.
var modelDatabases = []string{"sqlite", "postgres"}

// openModelHouses starts a house for each database.
func openModelHouses(t *testing.T) map[string]*modelHouse {
	t.Helper()
	return map[string]*modelHouse{"sqlite": openModelHouse(t, ""), "postgres": openModelHouse(t, pgtest.Shared(t).NewDatabase(t))}
}

// runSequences runs as many sequences as -rapid.checks says, side by side on
// each database.
func runSequences(t *testing.T, houses map[string]*modelHouse) {
	t.Helper()
	seed := flag.Lookup("rapid.seed").Value.String()
	t.Logf("this run again: -rapid.seed=%s", seed)
	t.Run("on", func(t *testing.T) {
		for _, name := range modelDatabases {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				h := houses[name]
				rapid.Check(t, func(t *rapid.T) {
					for range modelSequences {
						newWorld(t, h).run(modelScripts.Draw(t, "sequence"))
					}
				})
			})
		}
	})
}

// whole tells a run from a part of one, as somebody asked for it.
func whole(houses map[string]*modelHouse) bool {
	steps := 0
	for _, h := range houses {
		steps += h.steps
	}
	return steps >= modelChecks*modelLength
}

// missing are the outcomes that have not come about yet.
func missing(houses map[string]*modelHouse) []string {
	return slices.DeleteFunc(slices.Clone(modelOutcomes), func(what string) bool {
		for _, h := range houses {
			if h.done[what] > 0 {
				return true
			}
		}
		return false
	})
}

// judge tells what was done, and fails the test where that says too little: an
// outcome that never came about, or a model that shrugged too often.
func judge(t *testing.T, houses map[string]*modelHouse) {
	t.Helper()
	steps, done, asked := 0, map[string]int{}, map[verdict]int{}
	for _, h := range houses {
		steps += h.steps
		for what, n := range h.done {
			done[what] += n
		}
		for v, n := range h.asked {
			asked[v] += n
		}
	}
	var did strings.Builder
	for _, what := range slices.Sorted(maps.Keys(done)) {
		fmt.Fprintf(&did, "\n%7d %s", done[what], what)
	}
	t.Logf("%d steps; answers compared: %d live, %d dead, %d either%s", steps, asked[isLive], asked[isDead], asked[isEither], did.String())
	if !whole(houses) {
		return
	}
	for _, what := range missing(houses) {
		t.Errorf("not one of %d steps was: %s", steps, what)
	}
	if all := asked[isLive] + asked[isDead] + asked[isEither]; asked[isEither]*100 > all || asked[isLive]*5 < all || asked[isDead]*5 < all {
		t.Errorf("of %d answers the model leaves more than 1 in 100 open, or has less than 1 in 5 live or dead", all)
	}
}

// modelOutcomes are what must have come about in a run.
var modelOutcomes = []string{
	"sign-in", "sign-in by the page", "wrong password", "sign-out", "code", "prompt=none: code", "prompt=none: login_required",
	"prompt=none: consent_required", "redeemed", "code burned", "code replayed", "code repeated in time or too late",
	"rotated", "refreshed with the same token in return", "old refresh token in the grace", "refresh token reused",
	"access token revoked", "refresh token revoked", "DELETE over the session API", "end by the operator",
	"lock", "unlock", "password", "consent withdrawn", "sweep", "detached",
	"client deleted", "sign-out by the page", "account page: others", "account page: all", "account page: a login",
	"logout by an application: by its hint", "logout by an application: asked", "logout by an application: stays",
	"message written", "message sent: nothing fails", "message waiting: they refuse", "message waiting: connections break",
	"message waiting: the node forgets", "message sent again",
}
