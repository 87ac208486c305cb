// Package throttle limits how often passwords of a realm can be guessed: for an
// account, whether it exists or not, and for an address. An attempt is counted
// before its password is hashed, so that guesses made at once can't slip past
// the limit, and given back where the password was right or was not judged.
//
// The first failures are free. From the limit on each costs a wait, which
// doubles from Limits.FirstWait up to Limits.Window. While a counter is blocked
// nothing is counted: hammering makes no wait longer.
//
// Names and addresses are kept nowhere. A counter is a bucket that the realm's
// MAC picks from a fixed number of them, so whoever invents names or addresses
// fills so many rows and no more, and can't work out which name shares a bucket
// with another.
//
// A browser that has signed in to an account before has a cookie that says so,
// and with it a counter of its own: who attacks the account, or shares the
// owner's address, can't lock the owner out. The cookie proves nothing else.
//
// The package knows no database. It does not check passwords, and does not tell
// whether an account exists.
package throttle
