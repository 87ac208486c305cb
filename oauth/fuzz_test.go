package oauth

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

func FuzzParseCode(f *testing.F) {
	code, _ := newCode(randomID(grantIDLength))
	for _, seed := range []string{code, "", ".", "a.b", code + ".", strings.Repeat("A", 22) + "." + strings.Repeat("\x00", 43)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, code string) {
		id, hash, ok := parseCode(code)
		if ok && (!isID(id, grantIDLength) || len(hash) != 32 || !strings.HasPrefix(code, id+".")) {
			t.Errorf("%q: %q, %x", code, id, hash)
		}
	})
}

func FuzzParseRefresh(f *testing.F) {
	s := &Server{cfg: Config{Name: "myAS"}, refresh: newRoot(f).MAC("refresh token")}
	g := &Grant{ID: randomID(grantIDLength), Secret: make([]byte, 32)}
	good := s.newRefresh(g, 1)
	for _, seed := range []string{good, "", "...", "a.1.1.b", strings.Replace(good, ".1.", ".2.", 1), strings.Replace(good, ".1.1.", ".1.2.", 1)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		v, ok := parseRefresh(token)
		if !ok {
			return
		}
		if !isID(v.grantID, grantIDLength) || v.generation < 1 {
			t.Errorf("%q: %+v", token, v)
		}
		// A token has one spelling, and nobody but us makes one.
		if token != good && s.proven(g, v) && v.grantID == g.ID && token != s.newRefresh(g, v.generation) {
			t.Errorf("%q is proven", token)
		}
	})
}

// FuzzOpenStamp: what we did not seal for this request never opens, wherever
// else its bytes are from.
func FuzzOpenStamp(f *testing.F) {
	now := time.Now()
	root := newRoot(f)
	s := Stamps{Box: root.Box("stamp"), Server: "myAS", Now: func() time.Time { return now }}
	stamp := s.Begin()
	request := url.Values{"client_id": {"web"}}
	good := s.Seal(stamp, request)
	strangers := []Stamps{
		{Box: root.Box("stamp"), Server: "partnerAS", Now: s.Now},
		{Box: root.Box("access token"), Server: "myAS", Now: s.Now},
		{Box: newRoot(f).Box("stamp"), Server: "myAS", Now: s.Now},
	}
	for _, seed := range [][2]string{{good, "client_id=web"}, {good, "client_id=other"}, {good + "=", "client_id=web"}, {"1.AAAA", ""}, {"", ""}, {".", "a=b"},
		{"", "a=b&a=c&gatehouse_stamp=x"}, {"", "a=&b=%00"}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, sealed, query string) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		same := withoutStamp(q).Encode() == request.Encode()
		if _, err := s.Open(sealed, q); (err == nil) != (sealed == good && same) {
			t.Errorf("%q for %q: %v", sealed, query, err)
		}
		for _, stranger := range strangers {
			if _, err := s.Open(stranger.Seal(stamp, q), q); err == nil {
				t.Errorf("one of %s opens for %q", stranger.Server, query)
			}
		}
		ours := s.Seal(stamp, q)
		if opened, err := s.Open(ours, q); err != nil || opened.Nonce != stamp.Nonce || !opened.Began.Equal(stamp.Began) {
			t.Errorf("ours for %q: %+v, %v", query, opened, err)
		}
		if _, err := s.Open(ours, request); (err == nil) != same {
			t.Errorf("sealed for %q, opened for %q: %v", query, request, err)
		}
	})
}

func FuzzBasic(f *testing.F) {
	for _, seed := range []string{"Basic aWQ6c2VjcmV0", "Basic ", "basic aTo=", "Bearer x", "", "Basic aWQ6JXp6"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		id, secret, err := basic(header)
		if err != nil && (id != "" && secret != "") {
			t.Errorf("%q: an error with %q, %q", header, id, secret)
		}
	})
}

func FuzzTokenForm(f *testing.F) {
	for _, seed := range []string{"grant_type=client_credentials", "a=b&a=c", "resource=a&resource=b", "%zz", "", "a;b", "=", "=0&=0", "\x00=\xff", "grant_type=x&%67rant_type=y"} {
		f.Add(seed, "x=y")
	}
	f.Fuzz(func(t *testing.T, body, query string) {
		r := httptest.NewRequest(http.MethodPost, "/token", strings.NewReader(body))
		r.URL.RawQuery = query
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		form, err := readForm(httptest.NewRecorder(), r, "resource")
		if err != nil {
			if e := asError(err); e.Code != "invalid_request" || describable(e.Description) == "" {
				t.Errorf("%q: %v", body, err)
			}
			return
		}
		want, err := url.ParseQuery(body)
		dropEmpty(want)
		if err != nil || len(want) != len(form) {
			t.Errorf("%q is read as %v", body, form)
		}
		for name, values := range form {
			if len(values) > 1 && name != "resource" {
				t.Errorf("%q: %s is there %d times", body, name, len(values))
			}
		}
		if _, err := presented(r, form); err != nil && asError(err).Status >= 500 {
			t.Errorf("%q: %v", body, err)
		}
	})
}
