// Package web is what a person sees of one realm: the sign-in, consent and
// sign-out pages, the pages about his account, and those that explain an error.
// They are plain HTML forms that work without JavaScript, in the languages of
// the catalogue (texts), with the name, logo and colours that the realm's
// operator gives them.
//
// A page does one job. Sign-in and consent find the authorization request that
// sent the browser in sealed form fields (package oauth), write what the user
// did into its stamp and send the browser back to /authorize, which alone
// decides what comes next. Sign-out finds what an application asked for at
// /end_session in the same way, and is the one page that sends the browser to an
// application itself: to a URI that it registered for that. No page redirects
// anywhere else. Sign-in is also for pages of our own, which it knows by name
// (visit.go); their forms are sealed (seal.go), and what they do is a rule of
// sessions.Directory.
//
// No page loads anything from another host. The logos of clients are fetched by
// us, once for all browsers, and served from our own origin.
//
// The package keeps nothing but those: logins and accounts are in the stores
// that it is given, and endings go through sessions.Manager.End.
package web
