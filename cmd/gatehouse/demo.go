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
	"golang.org/x/sync/errgroup"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/configs"
	"gatehouse.dev/gatehouse/keys"
	"gatehouse.dev/gatehouse/relyingparty"
)

// What of demo.yaml the walk and the demo's applications use.
const (
	demoServer = "myAS"
	demoFirst  = "oidc-client"
	demoSecond = "calendar"
)

// demoPorts are the ports of localhost that the demo listens on; 0: any that is
// free.
type demoPorts struct {
	server        uint16
	first, second uint16 // of the applications
	chosen        bool   // server was chosen on the command line
}

func newDemo(s streams) *cobra.Command {
	var walking, verbose bool
	var ports demoPorts
	c := &cobra.Command{
		Use:   "demo",
		Short: "Try the whole product on this machine, nothing to prepare",
		Long: "Try the whole product on this machine, nothing to prepare.\n\n" +
			"A server with two authorization servers and three users runs on a database in a\n" +
			"temporary directory, and two applications whose users sign in with it, until Ctrl-C,\n" +
			"and nothing is left behind. With --walk a program uses the server instead of you and\n" +
			"shows what is said on the wire.",
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
			ports.chosen = c.Flags().Changed("port")
			return demo(c.Context(), s, logger, ports)
		},
	}
	c.Flags().BoolVar(&walking, "walk", false, "show the session API as a program uses it, and check every answer")
	c.Flags().Uint16Var(&ports.server, "port", 8080, "listen on this `port` of localhost; 0 for any that is free")
	c.Flags().Uint16Var(&ports.first, "photos-port", 9001, "`port` of the application Photo Album, likewise")
	c.Flags().Uint16Var(&ports.second, "calendar-port", 9002, "`port` of the application Calendar, likewise")
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
func demo(ctx context.Context, s streams, logger *slog.Logger, ports demoPorts) error {
	return withDemo(func(cfg *configs.Config) (err error) {
		if ports.chosen {
			cfg.Listen, cfg.OperationsListen = fmt.Sprintf("127.0.0.1:%d", ports.server), "127.0.0.1:0"
		}
		var listeners []net.Listener // all but those of a running server, which closes them itself
		defer func() {
			for _, l := range listeners {
				l.Close()
			}
		}()
		public, err := demoListen(cfg.Listen, "the server", "port")
		if err != nil {
			return err
		}
		listeners = append(listeners, public)
		if ports.chosen {
			cfg.PublicURL = fmt.Sprintf("http://localhost:%d", portOf(public))
		}
		// The server is told where the applications are, so they come first.
		parties := []*demoParty{{client: demoFirst, flag: "photos-port", port: ports.first}, {client: demoSecond, flag: "calendar-port", port: ports.second}}
		for _, party := range parties {
			if err := party.listen(cfg); err != nil {
				return err
			}
			listeners = append(listeners, party.listener)
		}
		for _, party := range parties {
			if err := party.assemble(cfg, public.Addr(), logger); err != nil {
				return err
			}
		}
		operations, err := net.Listen("tcp", cfg.OperationsListen)
		if errors.Is(err, syscall.EADDRINUSE) {
			operations, err = net.Listen("tcp", "127.0.0.1:0") // nobody relies on it in a demo
		}
		if err != nil {
			return err
		}
		i, err := start(ctx, cfg, startOptions{public: public, operations: operations, logger: logger})
		if err != nil {
			return err
		}
		fmt.Fprintln(s.out, i)
		fmt.Fprint(s.out, demoText(cfg, i, parties))
		running, ctx := errgroup.WithContext(ctx) // all end when one fails
		running.Go(func() error { return i.wait(ctx) })
		for _, party := range parties {
			running.Go(func() error { return party.app.Serve(ctx, party.listener) })
		}
		err = running.Wait()
		fmt.Fprintln(s.out, "\nThe demo has ended; its database is gone.")
		return err
	})
}

// demoListen listens, and says how to choose another port where one is taken.
func demoListen(address, who, flag string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s: %w: choose another with --%s", who, err, flag)
	}
	return l, err
}

func portOf(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }

// demoParty is one of the demo's applications.
type demoParty struct {
	client string // id
	flag   string // that chooses its port
	port   uint16

	name     string
	listener net.Listener
	url      string
	app      *relyingparty.RelyingParty
}

// listen takes the application's port, and registers what it is.
func (d *demoParty) listen(cfg *configs.Config) (err error) {
	client := demoClient(cfg, d.client)
	d.name = client.Name()
	if d.listener, err = demoListen(fmt.Sprintf("127.0.0.1:%d", d.port), d.name, d.flag); err != nil {
		return err
	}
	d.url = fmt.Sprintf("http://localhost:%d", portOf(d.listener))
	client.RedirectURIs = []string{d.url + "/callback"}
	client.PostLogoutRedirectURIs = []string{d.url + "/", d.url + "/signed-out"}
	client.BackchannelLogoutURI = d.url + "/backchannel-logout"
	return nil
}

// assemble makes the application, a client of the server at an address.
func (d *demoParty) assemble(cfg *configs.Config, server net.Addr, logger *slog.Logger) (err error) {
	d.app, err = relyingparty.New(relyingparty.Config{
		Issuer:       cfg.Issuer(demoServer),
		ClientID:     d.client,
		ClientSecret: string(demoClient(cfg, d.client).ClientSecret),
		URL:          d.url,
		Name:         d.name,
		Transport:    straightTo(server),
		Logger:       logger,
	})
	return err
}

// straightTo is a transport that reaches an address, whatever the host in a URL
// is: localhost may mean another address first, and the environment a proxy.
func straightTo(address net.Addr) *http.Transport {
	return &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address.String())
	}}
}

// demoText says what there is to try.
func demoText(cfg *configs.Config, i *instance, parties []*demoParty) string {
	var b strings.Builder
	users, issuer := cfg.Realms[defaultRealm].Users, cfg.Issuer(demoServer)
	one, two, user := parties[0], parties[1], users[0]
	b.WriteString("\nTwo applications whose users sign in with it:\n")
	for _, party := range parties {
		fmt.Fprintf(&b, "  %-12s %s\n", party.name, party.url)
	}
	b.WriteString("\nUsers (name, password):\n")
	for _, u := range users {
		fmt.Fprintf(&b, "  %-12s %-12s %s\n", u.Username, string(u.Password), strings.Join(u.Roles, ", "))
	}
	fmt.Fprintf(&b, `
See a session ended, in a browser:
  1. Open %s, click "Sign in", and sign in as %s with %s. Allow what is asked.
  2. Open %s in another tab and click "Sign in": nothing is asked any more (single sign-on).
  3. Go back to %s and reload: it lists both sessions, its own is marked.
  4. Click "End" beside %s.
  5. Go back to %s and reload: it was told that its session was ended. "Sign in again" wants the password.
`, one.url, user.Username, string(user.Password), two.url, one.name, two.name, two.name)
	fmt.Fprintf(&b, "\nPages of the server:\n  %s/account/sessions   where you are signed in\n  %s/admin/sessions     everybody's sessions, for session-admin\n",
		cfg.PublicURL, cfg.PublicURL)
	b.WriteString("\nIssuers:\n")
	for _, name := range cfg.AuthorizationServerNames() {
		fmt.Fprintf(&b, "  %s\n", cfg.Issuer(name))
	}
	fmt.Fprintf(&b, "\nClients of %s (id, secret, redirect URI):\n", demoServer)
	for _, client := range cfg.AuthorizationServers[demoServer].Clients {
		fmt.Fprintf(&b, "  %-12s %-18s %s\n", client.ClientID, client.ClientSecret, strings.Join(client.RedirectURIs, " "))
	}
	fmt.Fprintf(&b, "\nIn another terminal:\n")
	fmt.Fprintf(&b, "  curl %s/.well-known/openid-configuration\n", issuer)
	fmt.Fprintf(&b, "  curl -u reports:reports-demo -d grant_type=client_credentials %s/token\n", issuer)
	fmt.Fprintf(&b, "  curl -i %s/sessions/\n", issuer)
	fmt.Fprintf(&b, "  gatehouse demo --walk      (a program uses the session API and shows how)\n")
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
		// The walk is all of its clients; at their addresses there may be somebody else.
		clients := cfg.AuthorizationServers[demoServer].Clients
		for i := range clients {
			clients[i].BackchannelLogoutURI = ""
		}
		i, err := start(ctx, cfg, startOptions{public: listener, logger: logger})
		if err != nil {
			return err
		}
		transport := straightTo(listener.Addr())
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
		first:     *demoClient(cfg, demoFirst),
		second:    *demoClient(cfg, demoSecond),
		out:       s.out,
		transport: transport,
	}
}

// demoClient is a client of the demo, as part of cfg.
func demoClient(cfg *configs.Config, id string) *clients.Metadata {
	all := cfg.AuthorizationServers[demoServer].Clients
	for i := range all {
		if all[i].ClientID == id {
			return &all[i]
		}
	}
	panic("demo.yaml has no client " + id) // it is built in, and a test loads it
}
