package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/users"
)

func passwordFlag(c *cobra.Command, stdin *bool) {
	c.Flags().BoolVar(stdin, "password-stdin", false, "read the password from standard input, up to the end of its first line, instead of asking")
}

// newPassword gets a new password for the user of that name, asked for twice at
// the terminal without an echo or read from standard input, and returns its PHC
// string. One that people could not choose for themselves is the operator's
// choice, as in the configuration file, but for its length; he is warned.
func newPassword(ctx context.Context, s streams, username string, stdin bool) (string, error) {
	var password string
	var err error
	if stdin {
		password, err = readLine(s.in)
	} else {
		password, err = askTwice(ctx, s)
	}
	if err != nil {
		return "", err
	}
	passwords, err := users.NewPasswords(1)
	if err != nil {
		return "", err
	}
	if err := users.Acceptable(username, password); errors.Is(err, users.ErrWeak) {
		return "", err
	} else if err != nil {
		fmt.Fprintf(s.err, "warning: %v\n", err)
	}
	return passwords.Hash(ctx, password)
}

// readLine reads one line, without its end, of at most what a password may have.
func readLine(r io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(r, users.MaxPassword+2)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("reading the password: %w", err)
	}
	return strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"), nil
}

func askTwice(ctx context.Context, s streams) (string, error) {
	file, ok := s.in.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return "", usagef("standard input is no terminal to ask for the password: use --password-stdin")
	}
	var answers [2]string
	for i, prompt := range []string{"Password: ", "Again: "} {
		fmt.Fprint(s.err, prompt)
		answer, err := ask(ctx, int(file.Fd()))
		fmt.Fprintln(s.err)
		if err != nil {
			return "", fmt.Errorf("reading the password: %w", err)
		}
		answers[i] = answer
	}
	if answers[0] != answers[1] {
		return "", errors.New("the two passwords differ")
	}
	return answers[0], nil
}

// ask reads a line from a terminal without an echo. Where ctx ends before (an
// interrupt), the echo is switched on again before the program ends.
func ask(ctx context.Context, fd int) (string, error) {
	before, err := term.GetState(fd)
	if err != nil {
		return "", err
	}
	type result struct {
		line []byte
		err  error
	}
	read := make(chan result, 1)
	go func() {
		line, err := term.ReadPassword(fd)
		read <- result{line, err}
	}()
	select {
	case r := <-read:
		return string(r.line), r.err
	case <-ctx.Done():
		return "", errors.Join(ctx.Err(), term.Restore(fd, before))
	}
}

// operator is who acts at the command line: the operating system's user.
func operator() sessions.Actor {
	name := strconv.Itoa(os.Getuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	return sessions.Actor{Kind: sessions.ActorOperator, ID: name}
}
