// Package audit knows what is recorded of who did what to whom: the kinds of
// events, the form of one, and how a reader chooses among them.
//
// Events are rows that nobody changes, in order of time. Each is written in the
// transaction of the act that it tells of, so that neither is there without the
// other. Only refused sign-ins, which change nothing, are written by themselves,
// and those of one account from one network within a minute are one row with a
// count. Refreshes, introspections and issued tokens are never events: they are
// many, and sessions tell of them what matters. No event holds a token, code,
// secret, cookie or password, nor a user name that was typed and is nobody's:
// people type passwords into the wrong field.
//
// docs/audit.md lists the events for operators. The package imports nothing of
// ours and stores nothing.
package audit
