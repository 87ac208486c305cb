package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificateCheck is how often, at most, the files are looked at for changes.
const certificateCheck = 5 * time.Second

// certificates serves TLS from files, and takes over their contents when they
// change. A change that can't be read is logged and the former contents stay.
type certificates struct {
	certificate, key string // PEM files
	clientCA         string // PEM file; empty: client certificates are not asked for
	now              func() time.Time
	logger           *slog.Logger

	mu      sync.Mutex
	config  *tls.Config
	seen    [3]fileState
	checked time.Time
}

type fileState struct {
	modified time.Time
	size     int64
}

// newCertificates reads the files; they must be readable now.
func newCertificates(certificate, key, clientCA string, now func() time.Time, logger *slog.Logger) (*certificates, error) {
	c := &certificates{certificate: certificate, key: key, clientCA: clientCA, now: now, logger: logger}
	seen, err := c.stat()
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	config, err := c.load()
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	c.config, c.seen, c.checked = config, seen, now()
	return c, nil
}

// serverConfig is what a listener is given.
func (c *certificates) serverConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return c.current(), nil
		},
	}
}

func (c *certificates) current() *tls.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if now.Sub(c.checked) < certificateCheck {
		return c.config
	}
	c.checked = now
	seen, err := c.stat()
	if err == nil && seen == c.seen {
		return c.config
	}
	var config *tls.Config
	if err == nil {
		config, err = c.load()
	}
	if err != nil {
		// Also while a certificate and its key are being replaced one after the
		// other: the next look finds both.
		c.logger.Warn("tls files not taken over", "error", err)
		return c.config
	}
	c.config, c.seen = config, seen
	c.logger.Info("tls files taken over", "certificate_file", c.certificate)
	return c.config
}

func (c *certificates) stat() (seen [3]fileState, err error) {
	for i, name := range []string{c.certificate, c.key, c.clientCA} {
		if name == "" {
			continue
		}
		info, err := os.Stat(name)
		if err != nil {
			return seen, err
		}
		seen[i] = fileState{info.ModTime(), info.Size()}
	}
	return seen, nil
}

func (c *certificates) load() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(c.certificate, c.key)
	if err != nil {
		return nil, fmt.Errorf("%s, %s: %w", c.certificate, c.key, err)
	}
	config := &tls.Config{
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{"h2", "http/1.1"},
		Certificates: []tls.Certificate{pair},
	}
	if c.clientCA != "" {
		pem, err := os.ReadFile(c.clientCA)
		if err != nil {
			return nil, err
		}
		config.ClientCAs = x509.NewCertPool()
		if !config.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s: %w", c.clientCA, errors.New("no certificate in it"))
		}
		// Asked for, not demanded: browsers come to the same port.
		config.ClientAuth = tls.VerifyClientCertIfGiven
	}
	return config, nil
}
