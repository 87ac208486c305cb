// Command floor is what the server is compared with: a bare net/http program
// that makes the same signatures, seals and MACs, sends the database the same
// statements through pgx, reads the same columns and writes answers of the same
// form. It judges nothing: no liveness, no scopes, no redirect URIs. It is as
// fast as a program in Go can be that answers these requests, and good for
// nothing else.
//
// Its statements are the server's, to the letter; the bench compares what both
// send and fails where they differ.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// config is what the bench writes into a file, as JSON.
type config struct {
	Listen      string
	Database    string              // URL
	Connections int                 // of the pool
	Base        string              // scheme, host and port of issuers
	Secrets     map[string]string   // of clients
	Documents   map[string]document // by path
}

// document is an answer that is always the same.
type document struct {
	Header map[string]string
	Body   string
}

func run() error {
	if len(os.Args) != 2 {
		return fmt.Errorf("usage: floor FILE")
	}
	text, err := os.ReadFile(os.Args[1]) //nolint:gosec // whoever starts it names the file
	if err != nil {
		return err
	}
	var c config
	if err := json.Unmarshal(text, &c); err != nil {
		return fmt.Errorf("reading %s: %w", os.Args[1], err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	poolConfig, err := pgxpool.ParseConfig(c.Database)
	if err != nil {
		return fmt.Errorf("reading the database's URL: %w", err)
	}
	poolConfig.MaxConns = int32(c.Connections) //nolint:gosec // the bench's own number
	pool, err := pgxpool.NewWithConfig(ctx, poolConfig)
	if err != nil {
		return fmt.Errorf("connecting to the database: %w", err)
	}
	defer pool.Close()

	mux := http.NewServeMux()
	for _, name := range []string{"jwt", "opaque"} {
		s, err := newServer(name, c, pool)
		if err != nil {
			return err
		}
		s.mount(mux)
	}
	for path, d := range c.Documents {
		mux.HandleFunc("GET "+path, d.serve)
	}
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		<-ctx.Done()
		server.Close()
	}()
	fmt.Printf("floor listens on http://%s\n", listener.Addr())
	if err := server.Serve(listener); ctx.Err() == nil {
		return err
	}
	return nil
}

func (d document) serve(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	for name, value := range d.Header {
		h.Set(name, value)
	}
	_, _ = w.Write([]byte(d.Body)) // fails only where the caller is gone
}
