package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// streams are what a command reads and writes. Answers go to out; log events,
// prompts and errors to err.
type streams struct {
	in  io.Reader
	out io.Writer
	err io.Writer
}

// errUsage: the command line is not one that we know.
var errUsage = errors.New("usage")

// errSilent: the command has failed and said so.
var errSilent = errors.New("failed")

// run is the whole program. It returns the exit code: 0, 1 after a failure, 2
// for a wrong command line. SIGINT, SIGTERM and SIGHUP end ctx; a
// second one ends the process.
func run(ctx context.Context, args []string, s streams) int {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // as under nohup
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(ctx, signals...)
	defer stop()
	signal.Ignore(syscall.SIGPIPE) // a reader who leaves must not keep us from cleaning up
	context.AfterFunc(ctx, stop)

	root := newRoot(s)
	root.SetArgs(args)
	command, err := root.ExecuteContextC(ctx)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errSilent):
		return exitFailure
	case errors.Is(err, errUsage):
		fmt.Fprintf(s.err, "gatehouse: %v\nSee '%s --help'.\n", err, command.CommandPath())
		return exitUsage
	}
	fmt.Fprintf(s.err, "gatehouse: %v\n", err)
	return exitFailure
}

// usagef is an error about the command line.
func usagef(format string, a ...any) error {
	return usageError(fmt.Sprintf(format, a...))
}

type usageError string

// Error is what is wrong with the command line.
func (e usageError) Error() string { return string(e) }

// Is reports whether target is errUsage.
func (e usageError) Is(target error) bool { return target == errUsage }

func newRoot(s streams) *cobra.Command {
	root := group(&cobra.Command{
		Use:   "gatehouse",
		Short: "OAuth 2.0 authorization server and OpenID Provider that knows who is inside",
	}, newServe(s), newDemo(s), newConfig(s), newMigrate(s), newUsers(s), newClients(s), newSessions(s), newKeys(s), newAudit(s), newDeliveries(s), newVersion(s))
	root.SilenceUsage, root.SilenceErrors = true, true
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usagef("%v", err) })
	return root
}

// group makes a command that only holds others.
func group(c *cobra.Command, commands ...*cobra.Command) *cobra.Command {
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usagef("unknown command %q for %q", args[0], c.CommandPath())
		}
		return nil
	}
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := c.Help(); err != nil {
			return err
		}
		return usagef("a command is missing")
	}
	c.AddCommand(commands...)
	return c
}

// noArgs and exactArgs are cobra's, as errors about the command line.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("unexpected argument %q", args[0])
	}
	return nil
}

func exactArgs(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usagef("missing argument %s", names[len(args)])
		case len(args) > len(names):
			return usagef("unexpected argument %q", args[len(names)])
		}
		return nil
	}
}
