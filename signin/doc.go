// Package signin is the one place that judges a user name and password, for the
// sign-in page and for HTTP Basic alike: an attempt is counted by the realm's
// throttle before anything is hashed, given back where the password was right
// or was not judged, and recorded where it was refused.
//
// It makes no logins and shows no pages. It knows HTTP requests only as far as
// they say where an attempt comes from.
package signin
