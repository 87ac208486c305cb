package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"gatehouse.dev/gatehouse/configs"
	"gatehouse.dev/gatehouse/keys"
	"gatehouse.dev/gatehouse/storage"
)

const (
	// keysReload is how often signing keys are read again, well within the time
	// for which a new key is published before it signs.
	keysReload = 30 * time.Second
	// shutdownGrace is how long requests may take to finish at a shutdown.
	shutdownGrace = 30 * time.Second
)

func newServe(s streams) *cobra.Command {
	var file, format, level string
	var profile bool
	c := &cobra.Command{
		Use:   "serve --config FILE",
		Short: "Run the server",
		Long: "Run the server.\n\nTables are created or brought up to date, and keys and the configured users made,\n" +
			"where they are missing. Several nodes may serve one PostgreSQL database.\n" +
			"SIGTERM or SIGINT end it once the requests it has are answered.",
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			events := &logBuffer{w: s.err}
			defer events.flush()
			logger, err := newLogger(events, format, level)
			if err != nil {
				return err
			}
			cfg, err := loadConfig(file)
			if err != nil {
				return err
			}
			tuneCollector()
			if profile && cfg.OperationsListen == "" {
				return usagef("--profile needs operations_listen in the configuration")
			}
			i, err := start(c.Context(), cfg, startOptions{logger: logger, profile: profile})
			if err != nil {
				return err
			}
			fmt.Fprintln(s.out, i)
			return i.wait(c.Context())
		},
	}
	configFlag(c, &file)
	logFlags(c, &format, &level)
	c.Flags().BoolVar(&profile, "profile", false, "serve Go's profiles of this process on the operations listener, below "+profilesPath)
	return c
}

// gcPercent is how much the heap grows between two collections, unless the
// operator has chosen by GOGC. What lives is small, about 10 MiB, and what a
// request leaves behind is garbage: the usual 100 would have the collector run
// all the time.
const gcPercent = 400

func tuneCollector() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}

func logFlags(c *cobra.Command, format, level *string) {
	c.Flags().StringVar(format, "log-format", "json", "`form` of log events: json or text")
	c.Flags().StringVar(level, "log-level", "info", "least `level` of log events: debug, info, warn or error")
}

// newLogger writes log events to w.
func newLogger(w io.Writer, format, level string) (*slog.Logger, error) {
	var options slog.HandlerOptions
	var least slog.Level
	if err := least.UnmarshalText([]byte(level)); err != nil {
		return nil, usagef("--log-level is debug, info, warn or error")
	}
	options.Level = least
	switch format {
	case "json":
		return slog.New(slog.NewJSONHandler(w, &options)), nil
	case "text":
		return slog.New(slog.NewTextHandler(w, &options)), nil
	}
	return nil, usagef("--log-format is json or text")
}

// startOptions are what the command line or a test chooses; the zero value
// serves.
type startOptions struct {
	public      net.Listener     // default: listens on the configured address
	operations  net.Listener     // default: listens on the configured address, if there is one
	now         func() time.Time // default: time.Now
	logger      *slog.Logger     // required
	connections int              // of the database at most; default: storage's
	profile     bool             // the operations listener serves profiles
}

// instance is one running server.
type instance struct {
	db         *storage.DB
	ready      *readiness
	public     *http.Server
	operations *http.Server // nil: there is no operations listener
	addresses  []string     // where it listens
	background sync.WaitGroup
	cancel     context.CancelFunc // ends what runs in the background
	failed     chan error         // a listener's end
	logger     *slog.Logger
}

// start opens the database, puts the server together, and listens. The caller
// calls wait, which ends it.
func start(ctx context.Context, cfg *configs.Config, o startOptions) (i *instance, err error) {
	if o.now == nil {
		o.now = time.Now
	}
	var listeners []net.Listener
	i = &instance{failed: make(chan error, 2), logger: o.logger}
	defer func() {
		if err == nil {
			return
		}
		for _, l := range listeners {
			l.Close()
		}
		if i.db != nil {
			i.db.Close()
		}
	}()
	for _, l := range []net.Listener{o.public, o.operations} {
		if l != nil {
			listeners = append(listeners, l)
		}
	}
	kek, err := openKEK(cfg)
	if err != nil {
		return nil, err
	}
	if i.db, err = openStorage(ctx, storage.Config{URL: string(cfg.Database), MaxConnections: o.connections, Now: o.now,
		Logger: o.logger, Origin: requestOrigin}); err != nil {
		return nil, err
	}
	h := &house{cfg: cfg, db: i.db, kek: kek, metrics: newMetrics(), now: o.now, logger: o.logger}
	all, err := h.assemble(ctx)
	if err != nil {
		return nil, err
	}
	told := newDeliveryMetrics(h.metrics.registry)
	messenger, err := h.newMessenger(all.signers, all.outgoing, told)
	if err != nil {
		return nil, err
	}
	i.ready = &readiness{db: i.db, now: o.now}
	i.public = newHTTPServer(all.handler, o.logger)
	for _, end := range all.close {
		i.public.RegisterOnShutdown(end)
	}
	scheme := "http"
	if cfg.TLS.CertificateFile != "" {
		c, err := newCertificates(cfg.TLS.CertificateFile, cfg.TLS.KeyFile, cfg.TLS.ClientCAFile, o.now, o.logger)
		if err != nil {
			return nil, err
		}
		i.public.TLSConfig, scheme = c.serverConfig(), "https"
	}
	public := o.public
	if public == nil {
		if public, err = net.Listen("tcp", cfg.Listen); err != nil {
			return nil, err
		}
		listeners = append(listeners, public)
	}
	i.addresses = append(i.addresses, scheme+"://"+public.Addr().String())
	operationsListener := o.operations
	if operationsListener == nil && cfg.OperationsListen != "" {
		if operationsListener, err = net.Listen("tcp", cfg.OperationsListen); err != nil {
			return nil, err
		}
		listeners = append(listeners, operationsListener)
	}
	if operationsListener != nil {
		handler := operations(i.ready, h.metrics)
		if o.profile {
			handler = withProfiles(handler)
		}
		i.operations = newHTTPServer(handler, o.logger)
		i.addresses = append(i.addresses, "http://"+operationsListener.Addr().String())
	}

	// Nothing fails from here on.
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	i.cancel = cancel
	for _, t := range all.touchers {
		i.background.Go(func() { t.run(background) })
	}
	i.background.Go(func() { reloadKeys(background, all.rings, o.logger) })
	sweeping := &sweeper{jobs: all.sweeps, metrics: newSweepMetrics(h.metrics.registry), logger: o.logger}
	i.background.Go(func() { sweeping.run(background) })
	if all.mails != nil {
		i.background.Go(func() { all.mails.Run(background) })
	}
	i.db.OnDelivery(messenger.Wake)
	i.background.Go(func() { messenger.Run(background) })
	counting := newBacklog(h, told)
	i.background.Go(func() { counting.run(background) })
	go i.listen(func() error {
		if i.public.TLSConfig != nil {
			return i.public.ServeTLS(public, "", "")
		}
		return i.public.Serve(public)
	})
	if i.operations != nil {
		go i.listen(func() error { return i.operations.Serve(operationsListener) })
	}
	// Hashing passwords and making keys leave memory behind that is not needed
	// again for long.
	debug.FreeOSMemory()
	return i, nil
}

// newHTTPServer is a server for whoever may connect: slow, silent and
// talkative ones cost it little.
func newHTTPServer(handler http.Handler, logger *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       120 * time.Second,
		MaxHeaderBytes:    64 << 10, // an authorization request of 8 KiB, encoded twice in a page's URL, fits
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
}

func (i *instance) listen(serve func() error) {
	if err := serve(); !errors.Is(err, http.ErrServerClosed) {
		i.failed <- err
	}
}

// String says where it listens, in one line.
func (i *instance) String() string {
	line := "gatehouse listens on " + i.addresses[0]
	if len(i.addresses) > 1 {
		line += ", for operations on " + i.addresses[1]
	}
	return line
}

// wait returns when ctx is done or a listener has failed, after the server has
// ended in order: not ready, no new requests, the present ones answered,
// last-used times written, database closed.
func (i *instance) wait(ctx context.Context) error {
	var failure error
	select {
	case <-ctx.Done():
	case failure = <-i.failed:
	}
	return errors.Join(failure, i.shutdown(context.WithoutCancel(ctx)))
}

func (i *instance) shutdown(ctx context.Context) error {
	i.logger.InfoContext(ctx, "shutting down")
	i.ready.stopping.Store(true)
	ctx, cancel := context.WithTimeout(ctx, shutdownGrace)
	defer cancel()
	err := i.public.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = errors.Join(fmt.Errorf("requests were not answered within %s", shutdownGrace), i.public.Close())
	}
	if i.operations != nil {
		// Last, so that it can tell that the node is not ready while requests finish.
		err = errors.Join(err, i.operations.Close())
	}
	i.cancel()
	i.background.Wait()
	return errors.Join(err, i.db.Close())
}

// reloadKeys reads signing keys again until ctx is done.
func reloadKeys(ctx context.Context, rings []*keys.Ring, logger *slog.Logger) {
	ticker := time.NewTicker(keysReload)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, ring := range rings {
			if err := ring.Reload(ctx); err != nil && ctx.Err() == nil {
				logger.WarnContext(ctx, "signing keys not read again", "error", err)
			}
		}
	}
}
