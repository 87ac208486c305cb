//go:build unix

package main

import (
	"fmt"
	"net/http"
	"sync"
	"testing"

	"gatehouse.dev/gatehouse/storage/pgtest"
)

// endingParties is how many parties each authorization server has in the tests
// of endings, and so how many of its sessions one browser has.
const endingParties = 25

// Whoever has read the 204 of an ending at one node finds the session dead at
// the other.
func TestEndedSessionIsDeadAtTheOtherNodeAtOnce(t *testing.T) {
	endings(t, 4) // times two servers with 25 parties: 200 each way
}

func TestLongEndedSessionIsDeadAtTheOtherNodeAtOnce(t *testing.T) {
	if !long() {
		return
	}
	endings(t, 40)
}

// endings ends the sessions of as many browsers, each way.
func endings(t *testing.T, browsers int) {
	jwt, opaque := houseParties("myAS", endingParties+1), houseParties("partnerAS", endingParties+1)
	nodes := startProcess(t, processOptions{Database: pgtest.Shared(t).NewDatabase(t), Nodes: 2, Change: []func(string) string{
		withParties(jwt), withParties(opaque), substitute("visibility: client", "visibility: user")}})
	all := desks(t, nodes, append(jwt, opaque...)...)
	for _, way := range []struct {
		name         string
		ended, asked []*desk
	}{{"ended at A, asked at B", all[0], all[1]}, {"ended at B, asked at A", all[1], all[0]}} {
		t.Run(way.name, func(t *testing.T) {
			count := 0
			for range browsers {
				count += endBrowser(t, nodes, way.ended, way.asked)
			}
			t.Logf("%d endings", count)
		})
	}
}

// endBrowser signs in with a new browser at all parties, ends each of these
// sessions with the token of another one, and returns how many there were. The
// last party of each server is the one that ends.
func endBrowser(t *testing.T, nodes []*node, ended, asked []*desk) (count int) {
	t.Helper()
	b := newVisitor(wide(nodes[0]), "alex", "alex-demo")
	half := len(ended) / 2
	for _, server := range [][2]int{{0, half}, {half, 2 * half}} {
		last := server[1] - 1
		by := asked[last].redeem(asked[last].authorize(b).Get("code"))
		for i := server[0]; i < last; i++ {
			v := beginVictim(t, b, asked[i])
			if status := ended[i].end(by.Access, v.sid); status != http.StatusNoContent {
				t.Fatalf("ending session %d at %s: %d", i, ended[i].as, status)
			}
			v.mustBeDead(asked[i])
			count++
		}
		if !asked[last].alive(by.Access) {
			t.Error("the session that ended the others is dead too")
		}
	}
	return count
}

// victim is a session with all that it has.
type victim struct{ sid, access, refresh, code string }

// beginVictim makes a session and sees it alive at the desk's node, so that
// whatever that node may remember of it is there.
func beginVictim(t *testing.T, b *visitor, d *desk) victim {
	t.Helper()
	first := d.redeem(d.authorize(b).Get("code"))
	v := victim{access: first.Access, refresh: first.Refresh, code: d.authorize(b, "prompt", "none").Get("code")}
	v.sid = d.introspect(v.access).SID
	if !d.alive(v.access) || v.sid == "" || v.refresh == "" || v.code == "" {
		t.Fatalf("the session to be ended at %s is not alive with a refresh token (%t) and a code (%t)", d.as, v.refresh != "", v.code != "")
	}
	return v
}

// mustBeDead asks everywhere at the same time, so that each question comes at
// once.
func (v victim) mustBeDead(d *desk) {
	d.t.Helper()
	var asking sync.WaitGroup
	for what, refused := range map[string]func() (bool, string){
		"introspection": func() (bool, string) { a := d.introspect(v.access); return a == introspected{}, fmt.Sprint(a) },
		"userinfo":      func() (bool, string) { s := d.userinfo(v.access); return s == http.StatusUnauthorized, fmt.Sprint(s) },
		"GET /session/": func() (bool, string) { s := d.session(v.access); return s == http.StatusUnauthorized, fmt.Sprint(s) },
		"refresh token": func() (bool, string) { a := d.refresh(v.refresh); return a.refused(), fmt.Sprint(a.Status, a.Error) },
		"code":          func() (bool, string) { a := d.redeem(v.code); return a.refused(), fmt.Sprint(a.Status, a.Error) },
	} {
		asking.Go(func() {
			if ok, answer := refused(); !ok {
				d.t.Errorf("%s of an ended session (%s) answers %s at the other node", what, d.as, answer)
			}
		})
	}
	asking.Wait()
}
