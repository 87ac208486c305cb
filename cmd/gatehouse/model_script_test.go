//go:build unix

package main

import (
	"fmt"
	"time"

	"pgregory.net/rapid"
)

// modelSteps is the greatest length of a sequence, and modelAsks is how many
// questions are asked after each step.
const (
	modelSteps = 60
	modelAsks  = 2
)

// modelOp is an operation; its name is what the list of steps shows.
type modelOp string

const (
	opAuthorize   modelOp = "authorize"
	opSignIn      modelOp = "sign in"
	opSignOut     modelOp = "sign out"
	opRedeem      modelOp = "redeem"
	opRefresh     modelOp = "refresh"
	opRevoke      modelOp = "revoke"
	opEnd         modelOp = "end over the session API"
	opOperatorEnd modelOp = "end as the operator"
	opLock        modelOp = "lock or unlock"
	opPassword    modelOp = "set a password"
	opWithdraw    modelOp = "withdraw a consent"
	opWait        modelOp = "wait"
	opSweep       modelOp = "sweep"
	opFlush       modelOp = "write last uses"
	opLogout      modelOp = "log out from an application"
	opAccount     modelOp = "end on the account page"
	opDelete      modelOp = "delete a client"
	opDeliver     modelOp = "tell clients"
	opOutbox      modelOp = "look into the outbox"
)

// modelOps are the operations as often as they are wanted of 128.
var modelOps = func() (all []modelOp) {
	for _, o := range []struct {
		op    modelOp
		times int
	}{
		{opAuthorize, 24}, {opRefresh, 26}, {opWait, 24}, {opRedeem, 8}, {opEnd, 7}, {opRevoke, 7}, {opSignIn, 2},
		{opOperatorEnd, 3}, {opSweep, 2}, {opSignOut, 3}, {opLock, 2}, {opFlush, 2}, {opPassword, 2}, {opWithdraw, 2},
		{opLogout, 3}, {opAccount, 3}, {opDelete, 1}, {opDeliver, 4}, {opOutbox, 3},
	} {
		for range o.times {
			all = append(all, o.op)
		}
	}
	return all
}()

// modelWaits are what the clock moves by: all kinds of grace and lifetime, just
// before and just after.
var modelWaits = []time.Duration{
	3 * time.Second, 11 * time.Second, time.Second, 9 * time.Second, 61 * time.Second, 4 * time.Minute, 6 * time.Minute, 20 * time.Minute,
	38 * time.Minute, 41 * time.Minute, 43 * time.Minute, 58 * time.Minute, 61 * time.Minute, 63 * time.Minute, 119 * time.Minute, 123 * time.Minute, 3*time.Hour + 3*time.Minute,
	5*time.Hour + time.Minute, 8*time.Hour + time.Minute, 12*time.Hour + time.Minute, 20*time.Hour + time.Minute,
}

// modelStep is one step with everything that chance decides about it. Numbers
// are taken modulo what there is to choose from, the newest being 0.
type modelStep struct {
	op                    modelOp
	node                  int
	browser, user, client int
	pick, variant         int
	wait                  time.Duration
	asks                  []modelAsk
}

// modelAsk is one question about one token.
type modelAsk struct{ pick, question, node int }

// modelScript is a sequence.
type modelScript []modelStep

// GoString keeps the list short: the steps are shown when they are taken.
func (s modelScript) GoString() string { return fmt.Sprintf("%d steps", len(s)) }

// modelScripts makes sequences. Their average length is -rapid.steps.
var modelScripts = rapid.Custom(func(t *rapid.T) modelScript {
	var s modelScript
	t.Repeat(map[string]func(*rapid.T){"step": func(t *rapid.T) {
		if len(s) < modelSteps {
			s = append(s, drawModelStep(t))
		}
	}})
	return s
})

func drawModelStep(t *rapid.T) modelStep {
	// Ranges lean to their lower end, where what is newest stands. Operations
	// must not, so theirs is a number of seven bits.
	n := func(below int) int { return rapid.IntRange(0, below-1).Draw(t, "") }
	op := 0
	for range 7 {
		op *= 2
		if rapid.Bool().Draw(t, "") {
			op++
		}
	}
	s := modelStep{op: modelOps[op], node: n(2), browser: n(3), user: n(3), client: n(len(modelClients)), pick: n(16), variant: n(12)}
	if s.pick == 7 { // seldom: it has to be registered and deleted
		s.client = len(modelClients)
	}
	if s.op == opWait {
		s.wait = modelWaits[n(len(modelWaits))]
	}
	for range modelAsks {
		s.asks = append(s.asks, modelAsk{pick: n(32), question: n(modelQuestions), node: n(2)})
	}
	return s
}
