//go:build unix

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/configs"
)

// authority makes certificates for tests.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         string
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{}
	a.certificate, a.key, a.pem, _ = issue(t, nil, name)
	return a
}

// issue makes a certificate for localhost, by the authority or, without one, of
// its own.
func issue(t *testing.T, by *authority, name string) (*x509.Certificate, *ecdsa.PrivateKey, string, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: by == nil, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := template, key
	if by != nil {
		parent, signer = by.certificate, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, key, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

func TestServerSpeaksTLS(t *testing.T) {
	ca, clientCA, stranger := newAuthority(t, "ca"), newAuthority(t, "client ca"), newAuthority(t, "stranger")
	dir := t.TempDir()
	_, _, certificate, key := issue(t, ca, "server")
	s := startServer(t, serverOptions{Config: func(c *configs.Config) {
		c.PublicURL = strings.Replace(c.PublicURL, "http:", "https:", 1)
		c.TLS = configs.TLS{
			CertificateFile: writeFile(t, filepath.Join(dir, "cert.pem"), certificate),
			KeyFile:         writeFile(t, filepath.Join(dir, "key.pem"), key),
			ClientCAFile:    writeFile(t, filepath.Join(dir, "ca.pem"), clientCA.pem),
		}
	}})
	get := func(config *tls.Config) (*http.Response, error) {
		config.RootCAs = ca.pool()
		transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
		defer transport.CloseIdleConnections()
		res, err := (&http.Client{Transport: transport}).Get(s.Issuer("myAS") + "/jwks")
		if err == nil {
			res.Body.Close()
		}
		return res, err
	}
	pair := func(by *authority) []tls.Certificate {
		_, _, certificate, key := issue(t, by, "client")
		pair, err := tls.X509KeyPair([]byte(certificate), []byte(key))
		if err != nil {
			t.Fatal(err)
		}
		return []tls.Certificate{pair}
	}
	for name, config := range map[string]*tls.Config{"without a client certificate": {}, "with one": {Certificates: pair(clientCA)}} {
		res, err := get(config)
		if err != nil || res.StatusCode != http.StatusOK || res.ProtoMajor != 2 {
			t.Errorf("%s: %v %v", name, res, err)
		} else if res.Header.Get("Strict-Transport-Security") == "" {
			t.Errorf("%s: no Strict-Transport-Security", name)
		}
	}
	stray := pair(stranger)[0]
	if res, err := get(&tls.Config{GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &stray, nil }}); err == nil {
		t.Errorf("with a stranger's certificate: %s", res.Status)
	}
	if conn, err := tls.Dial("tcp", strings.TrimPrefix(s.URL, "https://"), &tls.Config{RootCAs: ca.pool(), MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}); err == nil {
		conn.Close()
		t.Error("TLS 1.1 is spoken")
	}
	callback, final := func() (string, *http.Response) {
		values, final := newBrowser(t).Authorize(authorizeURL(s.Issuer("myAS")))
		return values.Get("code"), final
	}()
	if callback == "" {
		t.Errorf("signing in over TLS: %s %s", final.Status, text(t, final))
	}
}

func TestCertificatesAreTakenOverWhenTheyChange(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	now, changed := time.Now(), time.Now()
	write := func(name string) string {
		_, _, certificate, key := issue(t, nil, name)
		writeFile(t, certFile, certificate)
		writeFile(t, keyFile, key)
		changed = changed.Add(time.Second)
		for _, file := range []string{certFile, keyFile} {
			if err := os.Chtimes(file, changed, changed); err != nil {
				t.Fatal(err)
			}
		}
		return key
	}
	write("first")
	c, err := newCertificates(certFile, keyFile, "", func() time.Time { return now }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	served := func() string {
		config, err := c.serverConfig().GetConfigForClient(nil)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(config.Certificates[0].Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		return leaf.Subject.CommonName
	}
	if got := served(); got != "first" {
		t.Fatalf("served %q", got)
	}
	key := write("second")
	if got := served(); got != "first" {
		t.Errorf("served %q: the files are looked at too often", got)
	}
	now = now.Add(certificateCheck)
	if got := served(); got != "second" {
		t.Errorf("served %q after the change, want second", got)
	}

	write("third")
	writeFile(t, keyFile, key) // not yet the third's
	now = now.Add(certificateCheck)
	if got := served(); got != "second" {
		t.Errorf("served %q with a key that does not fit, want second still", got)
	}
	if err := os.Remove(certFile); err != nil {
		t.Fatal(err)
	}
	now = now.Add(certificateCheck)
	if got := served(); got != "second" {
		t.Errorf("served %q without a file, want second still", got)
	}
	write("fourth")
	now = now.Add(certificateCheck)
	if got := served(); got != "fourth" {
		t.Errorf("served %q, want fourth", got)
	}
}

func TestUnreadableTLSFilesKeepTheServerFromStarting(t *testing.T) {
	dir := t.TempDir()
	_, _, certificate, key := issue(t, nil, "server")
	_, _, _, other := issue(t, nil, "another")
	good, goodKey := writeFile(t, filepath.Join(dir, "cert.pem"), certificate), writeFile(t, filepath.Join(dir, "key.pem"), key)
	otherKey, text := writeFile(t, filepath.Join(dir, "other.pem"), other), writeFile(t, filepath.Join(dir, "text.pem"), "text")
	for name, files := range map[string][3]string{
		"no certificate":        {filepath.Join(dir, "none"), goodKey, ""},
		"no key":                {good, filepath.Join(dir, "none"), ""},
		"another key":           {good, otherKey, ""},
		"no PEM":                {text, goodKey, ""},
		"no client CA":          {good, goodKey, filepath.Join(dir, "none")},
		"a client CA of no use": {good, goodKey, text},
	} {
		if _, err := newCertificates(files[0], files[1], files[2], time.Now, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%s: no error", name)
		} else if strings.Contains(err.Error(), "PRIVATE KEY") {
			t.Errorf("%s: the error shows a key", name)
		}
	}
}
