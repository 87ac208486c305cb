package users

import (
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// What a new password may not be.
var (
	// ErrWeak: it is too short or too long.
	ErrWeak = fmt.Errorf("a password has %d characters at least and %d bytes at most", MinPassword, MaxPassword)
	// ErrCommon: it is one of those that are guessed first.
	ErrCommon = errors.New("the password is one of the commonest, which are guessed first")
	// ErrNamesake: it is the user's name.
	ErrNamesake = errors.New("the password is the user name")
)

// common are the commonest passwords of MinPassword characters and more in lower
// case, one a line, the commonest first. Where they are from, common/README.md
// tells.
//
//go:embed common/passwords.txt
var common string

// Acceptable judges what a person of that name wants as a new password: nil, or
// ErrWeak, ErrCommon or ErrNamesake (NIST SP 800-63B §5.1.1.2, OWASP ASVS 5.0
// 6.2.1 and 6.2.4). Case makes no common password, and no name, another one.
func Acceptable(username, password string) error {
	switch {
	case utf8.RuneCountInString(password) < MinPassword || len(password) > MaxPassword:
		return ErrWeak
	case isName(username, password):
		return ErrNamesake
	case isCommon(password):
		return ErrCommon
	}
	return nil
}

// isName tells whether a password is the user's name, as names are compared.
func isName(username, password string) bool {
	mine, err := Key(username)
	if err != nil {
		return false
	}
	key, err := Key(strings.TrimSpace(password))
	return err == nil && key == mine
}

// isCommon tells whether a password is one of the commonest, or one character
// again and again.
func isCommon(password string) bool {
	password = strings.ToLower(password)
	_, size := utf8.DecodeRuneInString(password)
	if strings.Repeat(password[:size], len(password)/size) == password {
		return true
	}
	return !strings.Contains(password, "\n") && strings.Contains("\n"+common, "\n"+password+"\n")
}
