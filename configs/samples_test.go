package configs

import (
	"encoding/base64"
	"errors"
	"io/fs"
	"path/filepath"
	"testing"
)

var testKey = base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef"))

// testEnv has what the samples refer to.
func testEnv(name string) (string, bool) {
	value, ok := map[string]string{
		"GATEHOUSE_KEY":               testKey,
		"GATEHOUSE_DATABASE_PASSWORD": "database-password",
		"CREDENTIALS_DIRECTORY":       "/run/credentials",
	}[name]
	return value, ok
}

func testFiles(files map[string]string) func(string) ([]byte, error) {
	return func(path string) ([]byte, error) {
		if text, ok := files[filepath.ToSlash(path)]; ok {
			return []byte(text), nil
		}
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
}

func TestDemoLoads(t *testing.T) {
	c, err := Source{Name: "demo.yaml", Data: Demo(), AllowNoKey: true}.Parse()
	if err != nil {
		t.Fatal(err)
	}
	if got := c.AuthorizationServerNames(); len(got) != 2 || got[0] != "myAS" || got[1] != "partnerAS" {
		t.Errorf("authorization servers are %q", got)
	}
	if c.AuthorizationServers["partnerAS"].Clients[0].AccessTokenFormat != "opaque" {
		t.Error("a client of partnerAS does not inherit opaque access tokens")
	}
	if got, want := c.Issuer("myAS"), "http://localhost:8080/authorization-servers/myAS"; got != want {
		t.Errorf("issuer is %s, want %s", got, want)
	}
	app := &c.AuthorizationServers["partnerAS"].Clients[1]
	if !app.MatchRedirectURI("http://127.0.0.1:51234/callback") {
		t.Error("the native client may not choose its port")
	}
	_, err = Source{Name: "demo.yaml", Data: Demo()}.Parse()
	if faults := (Faults{}); !errors.As(err, &faults) || len(faults) != 1 || faults[0].Path != "key_encryption_key" {
		t.Errorf("without AllowNoKey: %v", err)
	}
}

func TestSampleLoadsWithItsVariable(t *testing.T) {
	c, err := Load("gatehouse.yaml", testEnv)
	if err != nil {
		t.Fatal(err)
	}
	if keys := c.KeyEncryptionKeys(); len(keys) != 1 || string(keys[0]) != "0123456789abcdef0123456789abcdef" {
		t.Errorf("the keys are %q", keys)
	}
	if _, err := Load("gatehouse.yaml", func(string) (string, bool) { return "", false }); err == nil {
		t.Error("it loaded without GATEHOUSE_KEY")
	}
}

func TestProductionLoads(t *testing.T) {
	data, err := readUpTo("production.yaml", maxFile)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse("/etc/gatehouse/production.yaml", data, testEnv, testFiles(map[string]string{
		"/run/credentials/gatehouse-key": testKey + "\n",
		"/run/credentials/album-secret":  "album-secret\n",
	}))
	if err != nil {
		t.Fatal(err)
	}
	s := c.AuthorizationServers["main"]
	if s.Clients[0].ClientSecret != "album-secret" || s.SessionAPI.Scopes.Read == "" || s.SessionAPI.Scopes.Manage == "" {
		t.Errorf("secret %q, scopes %+v", s.Clients[0].ClientSecret, s.SessionAPI.Scopes)
	}
	if want := "postgres://gatehouse:database-password@db.example.com:5432/gatehouse?sslmode=verify-full"; string(c.Database) != want {
		t.Errorf("database is %q", string(c.Database))
	}
}
