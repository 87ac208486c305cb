// Package mail tells users by mail that somebody has signed in to their account
// from somewhere new.
//
// A mail is part of the notice that it is about, which a sign-in writes in its
// own transaction: none is lost, and no sign-in waits for a mail server. Every
// node has a [Worker]. It claims what is due, for a lease, so that one node sends
// each; has it worded by whoever knows the realm's name and the user's language;
// and gives it to the mail server with an [SMTP]. What fails for the time being
// is sent again at growing distances, for 24 hours. As the Message-ID stays the
// same, a mail that was sent twice, because a node died between sending it and
// noting that it did, can be told to be one.
//
// It sends plain text to one address at a time and takes no mail. It writes no
// address and no word of a mail into logs.
package mail
