package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/configs"
	"gatehouse.dev/gatehouse/keys"
)

// What of demo.yaml the walk uses.
const (
	demoServer = "myAS"
	demoFirst  = "oidc-client"
	demoSecond = "calendar"
)

func newDemo(s streams) *cobra.Command {
	var walking, verbose bool
	var port uint16
	c := &cobra.Command{
		Use:   "demo",
		Short: "Try the whole product on this machine, nothing to prepare",
		Long: "Try the whole product on this machine, nothing to prepare.\n\n" +
			"A server with two authorization servers and three users runs on a database in a\n" +
			"temporary directory until Ctrl-C, and leaves nothing behind. With --walk a program\n" +
			"uses it instead of you and shows what is said on the wire.",
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			level := slog.LevelWarn
			if verbose {
				level = slog.LevelInfo
			}
			logger := slog.New(slog.NewTextHandler(s.err, &slog.HandlerOptions{Level: level}))
			if walking {
				return demoWalk(c.Context(), s, logger)
			}
			return demo(c.Context(), s, logger, port, c.Flags().Changed("port"))
		},
	}
	c.Flags().BoolVar(&walking, "walk", false, "show the session API as a program uses it, and check every answer")
	c.Flags().Uint16Var(&port, "port", 8080, "listen on this `port` of localhost; 0 for any that is free")
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "log every request")
	return c
}

// demoConfig is the demo's configuration with a fresh key, on a database in dir.
func demoConfig(dir string) (*configs.Config, error) {
	cfg, err := configs.Source{Name: "demo.yaml", Data: configs.Demo(), AllowNoKey: true}.Parse()
	if err != nil {
		return nil, err
	}
	cfg.KeyEncryptionKey = configs.Secret(keys.GenerateKEK())
	cfg.Database = configs.Secret("sqlite:" + filepath.ToSlash(filepath.Join(dir, "gatehouse.db")))
	return cfg, nil
}

// withDemo runs f with the demo's configuration, and removes the database
// afterwards.
func withDemo(f func(*configs.Config) error) (err error) {
	dir, err := os.MkdirTemp("", "gatehouse-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	cfg, err := demoConfig(dir)
	if err != nil {
		return err
	}
	return f(cfg)
}

// demo serves until ctx is done, on the addresses of demo.yaml or, where
// another port was chosen, on that and on any for operations.
func demo(ctx context.Context, s streams, logger *slog.Logger, port uint16, chosen bool) error {
	return withDemo(func(cfg *configs.Config) error {
		if chosen {
			cfg.Listen, cfg.OperationsListen = fmt.Sprintf("127.0.0.1:%d", port), "127.0.0.1:0"
		}
		public, err := net.Listen("tcp", cfg.Listen)
		if errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("%w: choose another with --port", err)
		}
		if err != nil {
			return err
		}
		if chosen {
			cfg.PublicURL = fmt.Sprintf("http://localhost:%d", public.Addr().(*net.TCPAddr).Port)
		}
		i, err := start(ctx, cfg, startOptions{public: public, logger: logger})
		if err != nil {
			return err
		}
		fmt.Fprintln(s.out, i)
		fmt.Fprint(s.out, demoText(cfg, i))
		err = i.wait(ctx)
		fmt.Fprintln(s.out, "\nThe demo has ended; its database is gone.")
		return err
	})
}

// demoText says what there is to try.
func demoText(cfg *configs.Config, i *instance) string {
	var b strings.Builder
	b.WriteString("\nIssuers:\n")
	for _, name := range cfg.AuthorizationServerNames() {
		fmt.Fprintf(&b, "  %s\n", cfg.Issuer(name))
	}
	b.WriteString("\nUsers (name, password):\n")
	for _, u := range cfg.Realms[defaultRealm].Users {
		fmt.Fprintf(&b, "  %-8s %-12s %s\n", u.Username, string(u.Password), strings.Join(u.Roles, ", "))
	}
	fmt.Fprintf(&b, "\nClients of %s (id, secret, redirect URI):\n", demoServer)
	for _, client := range cfg.AuthorizationServers[demoServer].Clients {
		fmt.Fprintf(&b, "  %-12s %-18s %s\n", client.ClientID, client.ClientSecret, strings.Join(client.RedirectURIs, " "))
	}
	issuer := cfg.Issuer(demoServer)
	fmt.Fprintf(&b, "\nTry:\n")
	fmt.Fprintf(&b, "  curl %s/.well-known/openid-configuration\n", issuer)
	fmt.Fprintf(&b, "  curl -u reports:reports-demo -d grant_type=client_credentials %s/token\n", issuer)
	fmt.Fprintf(&b, "  curl -i %s/sessions/\n", issuer)
	fmt.Fprintf(&b, "  gatehouse demo --walk      (in another terminal: a program uses the session API and shows how)\n")
	if len(i.addresses) > 1 {
		fmt.Fprintf(&b, "  curl %s/readyz\n", i.addresses[1])
	}
	b.WriteString("\nCtrl-C ends it and leaves nothing behind.\n")
	return b.String()
}

// demoWalk serves the demo on a free port and walks through it.
func demoWalk(ctx context.Context, s streams, logger *slog.Logger) error {
	return withDemo(func(cfg *configs.Config) error {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		cfg.PublicURL = fmt.Sprintf("http://localhost:%d", listener.Addr().(*net.TCPAddr).Port)
		cfg.OperationsListen = ""
		i, err := start(ctx, cfg, startOptions{public: listener, logger: logger})
		if err != nil {
			return err
		}
		// Straight to the listener: localhost may mean another address first,
		// and the environment a proxy.
		transport := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, listener.Addr().String())
		}}
		walkErr := newDemoWalk(cfg, s, transport).run(ctx)
		transport.CloseIdleConnections() // the server would wait for those that were never used
		if errors.Is(walkErr, errWalk) {
			walkErr = errSilent // it has said so
		}
		done, cancel := context.WithCancel(ctx)
		cancel()
		return errors.Join(walkErr, i.wait(done))
	})
}

// newDemoWalk is the walk through a running demo, which transport reaches.
func newDemoWalk(cfg *configs.Config, s streams, transport http.RoundTripper) *walk {
	user := cfg.Realms[defaultRealm].Users[0]
	return &walk{
		issuer:    cfg.Issuer(demoServer),
		username:  user.Username,
		password:  string(user.Password),
		first:     demoClient(cfg, demoFirst),
		second:    demoClient(cfg, demoSecond),
		out:       s.out,
		transport: transport,
	}
}

func demoClient(cfg *configs.Config, id string) clients.Metadata {
	for _, client := range cfg.AuthorizationServers[demoServer].Clients {
		if client.ClientID == id {
			return client
		}
	}
	panic("demo.yaml has no client " + id) // it is built in, and a test loads it
}
