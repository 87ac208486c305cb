// Package users holds the accounts of one realm and what proves one: the
// Store that keeps them, password hashing (Argon2id, bounded in how many run at
// once) and the one function that judges a user name and password.
//
// It knows nothing of browsers, logins or tokens.
package users
