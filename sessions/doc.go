// Package sessions is the domain: who is signed in where, and how that ends.
//
// A Login is one browser signed in to a realm. A Session is one client in one
// login (or in none: a device, an offline authorization that outlived its
// login); its ID is the `sid` claim. A Consent is the remembered act of a user.
// The Manager holds the rules, and its End is the only way in which a session
// ends, whoever asks and whatever for.
//
// The package declares the stores it needs and imports nothing of ours. It
// knows neither HTTP (but for the login cookie), nor tokens, nor databases.
package sessions
