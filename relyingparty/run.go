package relyingparty

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// secretVariable is the environment variable that may hold the client's secret.
const secretVariable = "RELYINGPARTY_CLIENT_SECRET" // #nosec G101 -- the name of a variable

// Run is the program: it serves one relying party until SIGINT or SIGTERM. It
// returns the exit code: 0, 1 after a failure, 2 for a wrong command line.
func Run(ctx context.Context, args []string, getenv func(string) string, out, errs io.Writer) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	cfg := Config{Logger: slog.New(slog.NewTextHandler(errs, nil))}
	flags := flag.NewFlagSet("relyingparty", flag.ContinueOnError)
	flags.SetOutput(errs)
	flags.StringVar(&cfg.Issuer, "issuer", "http://localhost:8080/authorization-servers/myAS", "issuer `URL` of the OpenID Provider")
	flags.StringVar(&cfg.ClientID, "client-id", "", "`id` of this application there (required)")
	secretFile := flags.String("client-secret-file", "", "`file` with the client's secret; otherwise it is taken from the environment\nvariable "+
		secretVariable+". Without one it is a public client")
	listen := flags.String("listen", "localhost:9001", "listen on this `address`")
	flags.StringVar(&cfg.URL, "url", "", "`URL` under which browsers reach it (default http:// and the address); the redirect\nURI is /callback below it")
	flags.StringVar(&cfg.Name, "name", "", "`name` that it shows (default the client id)")
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2 // flags has said so
	case flags.NArg() > 0:
		fmt.Fprintf(errs, "relyingparty: unexpected argument %q\n", flags.Arg(0))
		return 2
	case cfg.ClientID == "":
		fmt.Fprintln(errs, "relyingparty: --client-id is missing; see --help")
		return 2
	}
	cfg.ClientSecret = getenv(secretVariable)
	if *secretFile != "" {
		secret, err := os.ReadFile(*secretFile)
		if err != nil {
			fmt.Fprintf(errs, "relyingparty: %v\n", err)
			return 1
		}
		cfg.ClientSecret = strings.TrimSpace(string(secret))
	}
	if err := serve(ctx, cfg, *listen, out); err != nil {
		fmt.Fprintf(errs, "relyingparty: %v\n", err)
		return 1
	}
	return 0
}

// serve listens and serves until ctx is done.
func serve(ctx context.Context, cfg Config, address string, out io.Writer) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	defer listener.Close()
	if cfg.URL == "" {
		host, _, err := net.SplitHostPort(address)
		if err != nil || host == "" {
			host = "localhost"
		}
		_, port, err := net.SplitHostPort(listener.Addr().String())
		if err != nil {
			return err
		}
		cfg.URL = "http://" + net.JoinHostPort(host, port)
	}
	p, err := New(cfg)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s is at %s/, its redirect URI is %s\n", p.cfg.Name, p.origin, p.oauth.RedirectURL)
	return p.Serve(ctx, listener)
}

// Serve answers requests until ctx is done and those that it has are answered,
// or the listener fails. It closes the listener.
func (p *RelyingParty) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler:           p,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       120 * time.Second,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(p.cfg.Logger.Handler(), slog.LevelDebug),
	}
	defer p.client.CloseIdleConnections()
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	// Browsers open connections ahead of need, which would be waited for.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		return server.Close()
	}
	return nil
}
