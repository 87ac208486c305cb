package web_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/web"
)

// cdn is a host of others: the client reaches it whatever host it asks for, and
// the counter has how often it did.
func cdn(t *testing.T, handler http.HandlerFunc) (*http.Client, *atomic.Int64) {
	t.Helper()
	var asked atomic.Int64
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		handler(w, r)
	}))
	t.Cleanup(s.Close)
	return &http.Client{
		Timeout:       5 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, s.Listener.Addr().String())
			},
		},
	}, &asked
}

// picture is a PNG of an aperture.
func picture(t *testing.T, width, height int) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := png.Encode(&out, drawn(width, height)); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func drawn(width, height int) *image.RGBA {
	m := image.NewRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			dx, dy := 2*x-width, 2*y-height
			switch r := (dx*dx + dy*dy) * 100 / (width*width + 1); {
			case r < 12:
				m.Set(x, y, color.RGBA{0xf6, 0xb3, 0x3c, 0xff})
			case r < 30:
				m.Set(x, y, color.RGBA{0xff, 0xff, 0xff, 0xff})
			default:
				m.Set(x, y, color.RGBA{0x2f, 0x4a, 0x8a, 0xff})
			}
		}
	}
	return m
}

// webp is the head of a WebP image of a kind.
func webp(kind string, data ...byte) []byte {
	out := append([]byte("RIFF\x40\x00\x00\x00WEBP"+kind+"\x20\x00\x00\x00"), data...)
	return append(out, make([]byte, 64)...)
}

var logoURL = regexp.MustCompile(`<img class="tile" src="([^"]*)"`)

// logoOf is where a page has the client's logo.
func (a answer) logoOf() string {
	a.t.Helper()
	m := logoURL.FindStringSubmatch(a.body)
	if m == nil {
		a.t.Fatalf("no logo:\n%s", a.body)
	}
	here, err := url.Parse(a.url)
	if err != nil {
		a.t.Fatal(err)
	}
	to, err := here.Parse(strings.ReplaceAll(m[1], "&amp;", "&"))
	if err != nil {
		a.t.Fatal(err)
	}
	return to.String()
}

func TestLogoComesFromOurOrigin(t *testing.T) {
	logo := picture(t, 96, 96)
	client, asked := cdn(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "cdn.example" || r.URL.Path != "/logo.png" || r.Header.Get("Cookie") != "" || r.Header.Get("Referer") != "" {
			t.Errorf("asked for %s%s with %v", r.Host, r.URL.Path, r.Header)
		}
		w.Header().Set("Content-Type", "text/html") // counts for nothing
		w.Header().Set("Set-Cookie", "a=b")
		_, _ = w.Write(logo)
	})
	h := open(t, func(cfg *web.Config) { cfg.Outgoing = client })
	page := h.browser().get(h.request("album")).expect(200)
	to := page.logoOf()
	if !strings.HasPrefix(to, h.base+"/static/client-logo?") {
		t.Fatalf("the logo is at %s", to)
	}
	if asked.Load() != 0 {
		t.Error("a page alone has asked another host")
	}
	a := h.browser().do(http.MethodGet, to, "").expect(200)
	if a.body != string(logo) || a.header.Get("Content-Type") != "image/png" || a.header.Get("Set-Cookie") != "" {
		t.Errorf("%d bytes, %v", len(a.body), a.header)
	}
	if brief := h.browser().get(h.request("brief")).expect(200, `<span class="tile" aria-hidden="true">B</span>`); logoURL.MatchString(brief.body) {
		t.Error("a client without a logo has one")
	}
}

// TestOnlyImagesAreLogos: what a client's host sends is an image by its content,
// of a bounded size, or its monogram is shown.
func TestOnlyImagesAreLogos(t *testing.T) {
	encoded := func(encode func(*bytes.Buffer) error) string {
		var out bytes.Buffer
		if err := encode(&out); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	size := func(bits uint32) []byte { return binary.LittleEndian.AppendUint32([]byte{0x2f}, bits) }
	small := string(picture(t, 8, 8))
	var answers struct {
		status int
		body   string
	}
	client, asked := cdn(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "image/png")
		w.Header().Set("Location", "/other.png")
		w.WriteHeader(answers.status)
		_, _ = w.Write([]byte(answers.body))
	})
	h := open(t, func(cfg *web.Config) { cfg.Outgoing = client })
	b := h.browser()
	to := b.get(h.request("album")).logoOf()
	for _, c := range []struct {
		name, body string
		status     int
		media      string // empty: the monogram
	}{
		{"png", small, 200, "image/png"},
		{"jpeg", encoded(func(b *bytes.Buffer) error { return jpeg.Encode(b, drawn(8, 8), nil) }), 200, "image/jpeg"},
		{"gif", encoded(func(b *bytes.Buffer) error { return gif.Encode(b, drawn(8, 8), nil) }), 200, "image/gif"},
		{"webp, extended", string(webp("VP8X", 0, 0, 0, 0, 63, 0, 0, 63, 0, 0)), 200, "image/webp"},
		{"webp, lossless", string(webp("VP8L", size(63|63<<14)...)), 200, "image/webp"},
		{"webp, lossy", string(webp("VP8 ", 0, 0, 0, 0x9d, 0x01, 0x2a, 64, 0, 64, 0)), 200, "image/webp"},
		{"largest", small + strings.Repeat("\x00", 256<<10-len(small)), 200, "image/png"},

		{"a byte too large", small + strings.Repeat("\x00", 256<<10-len(small)+1), 200, ""},
		{"endless", strings.Repeat("\x00", 8<<20), 200, ""},
		{"svg", `<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>`, 200, ""},
		{"svg with declaration", `<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>`, 200, ""},
		{"html", "<!DOCTYPE html><script>alert(1)</script>", 200, ""},
		{"script", "alert(1)", 200, ""},
		{"bmp", "BM" + strings.Repeat("\x00", 64), 200, ""},
		{"icon", "\x00\x00\x01\x00" + strings.Repeat("\x00", 64), 200, ""},
		{"signature alone", "\x89PNG\r\n\x1a\n", 200, ""},
		{"gif that is html", "GIF89a<script>", 200, ""},
		{"too many pixels", string(picture(t, 2049, 1)), 200, ""},
		{"webp of too many pixels", string(webp("VP8X", 0, 0, 0, 0, 0xff, 0xff, 0xff, 63, 0, 0)), 200, ""},
		{"webp of no kind", string(webp("XXXX", 0, 0, 0, 0, 63, 0, 0, 63, 0, 0)), 200, ""},
		{"webp cut short", "RIFF\x04\x00\x00\x00WEBPVP", 200, ""},
		{"nothing", "", 200, ""},
		{"not found", small, 404, ""},
		{"server error", small, 500, ""},
		{"redirect", small, 302, ""},
		{"partial", small, 206, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			answers.status, answers.body = c.status, c.body
			h.wait(25 * time.Hour) // nothing is left of the last one
			asked.Store(0)
			a := b.do(http.MethodGet, to, "").expect(200)
			switch media := a.header.Get("Content-Type"); {
			case c.media != "" && (media != c.media || a.body != c.body):
				t.Errorf("%d bytes of %s, want %s", len(a.body), media, c.media)
			case c.media == "" && (media != "image/svg+xml" || !strings.Contains(a.body, ">PA</text>") || strings.Contains(a.body, "script")):
				t.Errorf("%s:\n%s", media, a.body)
			}
			if n := asked.Load(); n != 1 {
				t.Errorf("asked %d times", n)
			}
		})
	}
}

// TestFloodOfVisitorsAsksOnce: however many browsers want a logo, and whether it
// can be had or not, its host is asked once in a while.
func TestFloodOfVisitorsAsksOnce(t *testing.T) {
	var broken atomic.Bool
	logo := picture(t, 8, 8)
	client, asked := cdn(t, func(w http.ResponseWriter, _ *http.Request) {
		if broken.Load() {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_, _ = w.Write(logo)
	})
	for _, c := range []struct {
		name   string
		broken bool
		ttl    time.Duration
	}{{"a logo", false, time.Hour}, {"no logo", true, 10 * time.Minute}} {
		t.Run(c.name, func(t *testing.T) {
			broken.Store(c.broken)
			h := open(t, func(cfg *web.Config) { cfg.Outgoing = client })
			to := h.browser().get(h.request("album")).logoOf()
			asked.Store(0)
			flood := func() {
				var group sync.WaitGroup
				for i := range 40 {
					b := h.browser()
					// What the page puts behind the address makes no difference.
					group.Go(func() { b.do(http.MethodGet, to+fmt.Sprint("&x=", i), "").expect(200) })
				}
				group.Wait()
			}
			flood()
			h.wait(c.ttl - time.Minute)
			flood()
			if n := asked.Load(); n != 1 {
				t.Errorf("asked %d times within %v", n, c.ttl)
			}
			h.wait(2 * time.Minute)
			flood()
			if n := asked.Load(); n != 2 {
				t.Errorf("asked %d times in all", n)
			}
		})
	}
	// One that was there stands in for a while when its host fails.
	broken.Store(false)
	h := open(t, func(cfg *web.Config) { cfg.Outgoing = client })
	to := h.browser().get(h.request("album")).logoOf()
	media := func() string { return h.browser().do(http.MethodGet, to, "").expect(200).header.Get("Content-Type") }
	first := media()
	broken.Store(true)
	h.wait(2 * time.Hour)
	second := media()
	h.wait(23 * time.Hour)
	if third := media(); first != "image/png" || second != "image/png" || third != "image/svg+xml" {
		t.Errorf("shown: %s, then %s, then %s", first, second, third)
	}
}

// TestOnlyRegisteredLogosAreFetched: nobody can make us ask for what he likes.
func TestOnlyRegisteredLogosAreFetched(t *testing.T) {
	client, asked := cdn(t, func(http.ResponseWriter, *http.Request) {})
	h := open(t, func(cfg *web.Config) { cfg.Outgoing = client })
	b := h.browser()
	for _, q := range []url.Values{
		{}, {"as": {"myAS"}}, {"client": {"album"}}, {"as": {"other"}, "client": {"album"}}, {"as": {"myAS"}, "client": {"nobody"}},
		{"as": {"myAS"}, "client": {"house"}}, // which has none
		{"as": {"myAS"}, "client": {"album\x00"}}, {"as": {"myAS"}, "client": {"https://cdn.example/logo.png"}},
		{"as": {"myAS"}, "client": {"house"}, "logo_uri": {"https://evil.example/x.png"}, "v": {"https://evil.example/x.png"}},
	} {
		b.do(http.MethodGet, h.base+"/static/client-logo?"+q.Encode(), "").expect(404)
	}
	b.do(http.MethodPost, h.base+"/static/client-logo?as=myAS&client=album", "").expect(405)
	if n := asked.Load(); n != 0 {
		t.Errorf("asked %d times", n)
	}
	// Without a client for it nothing is fetched, and no page refers to it.
	none := open(t, nil)
	page := none.browser().get(none.request("album")).expect(200, `aria-hidden="true">PA</span>`)
	if logoURL.MatchString(page.body) {
		t.Error("there is an image")
	}
	none.browser().do(http.MethodGet, none.base+"/static/client-logo?as=myAS&client=album", "").expect(200, ">PA</text>")
}
