package web

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/sync/singleflight"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/oauth"
)

// Bounds on the logos of clients, which come from hosts of others.
const (
	maxLogo      = 256 << 10 // bytes
	maxLogoSide  = 2048      // pixels
	maxLogos     = 32 << 20  // bytes of all that are kept
	logoFetches  = 4         // at a time
	logoTimeout  = 5 * time.Second
	logoTTL      = time.Hour
	logoRetry    = 10 * time.Minute // after a failure
	logoStale    = 24 * time.Hour   // for so long an older one stands in when fetching fails
	logoCacheAge = "public, max-age=3600"
	tileCacheAge = "public, max-age=300"
)

// logos fetches the logos of clients, so that no browser asks another host for
// them and tells it who signs in where. A URI is asked at most once in logoTTL,
// or logoRetry where that failed, however many browsers want it.
type logos struct {
	http   *http.Client // nil: none are fetched
	now    func() time.Time
	logger *slog.Logger
	cache  *otter.Cache[string, fetchedLogo] // by URI
	group  singleflight.Group
	slots  chan struct{}
}

// fetchedLogo is what a URI gave.
type fetchedLogo struct {
	asset           // without a body: there is no logo to be had
	at    time.Time // when the body came
	until time.Time // when the URI may be asked again
}

func newLogos(client *http.Client, now func() time.Time, logger *slog.Logger) (*logos, error) {
	cache, err := otter.New(&otter.Options[string, fetchedLogo]{
		MaximumWeight: maxLogos,
		Weigher: func(uri string, l fetchedLogo) uint32 {
			return uint32(min(len(uri)+len(l.body), maxLogo+4096) + 256) // #nosec G115 -- bounded
		},
	})
	if err != nil {
		return nil, fmt.Errorf("web: logo cache: %w", err)
	}
	return &logos{http: client, now: now, logger: logger, cache: cache, slots: make(chan struct{}, logoFetches)}, nil
}

// get is the logo behind a URI that a client has registered; false where there
// is none to be had.
func (l *logos) get(ctx context.Context, uri string) (asset, bool) {
	if found, ok := l.fresh(uri); ok {
		return found.asset, len(found.body) > 0
	}
	if l.http == nil {
		return asset{}, false
	}
	v, _, _ := l.group.Do(uri, func() (any, error) {
		// Who came while another's request was on its way finds its answer here.
		if found, ok := l.fresh(uri); ok {
			return found.asset, nil
		}
		// Not the caller's context: others wait for the same answer.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), logoTimeout)
		defer cancel()
		return l.refresh(ctx, uri), nil
	})
	got, _ := v.(asset)
	return got, len(got.body) > 0
}

func (l *logos) fresh(uri string) (fetchedLogo, bool) {
	found, ok := l.cache.GetIfPresent(uri)
	return found, ok && l.now().Before(found.until)
}

// refresh asks the URI and keeps what it gave.
func (l *logos) refresh(ctx context.Context, uri string) asset {
	select {
	case l.slots <- struct{}{}:
		defer func() { <-l.slots }()
	case <-ctx.Done():
		return asset{} // nobody has asked; the next one may
	}
	next := fetchedLogo{at: l.now()}
	var err error
	if next.asset, err = l.fetch(ctx, uri); err == nil {
		next.until = l.now().Add(logoTTL)
	} else {
		host := ""
		if u, parsed := url.Parse(uri); parsed == nil {
			host = u.Host
		}
		l.logger.LogAttrs(ctx, slog.LevelInfo, "logo of a client not fetched", slog.String("host", host), slog.Any("error", reason(err)))
		next = fetchedLogo{}
		if old, ok := l.cache.GetIfPresent(uri); ok && l.now().Sub(old.at) < logoStale {
			next = old
		}
		next.until = l.now().Add(logoRetry)
	}
	l.cache.Set(uri, next)
	return next.asset
}

// reason is an error of the outgoing client without the URL, whose query may
// hold what is nobody's business.
func reason(err error) error {
	if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}

// fetch asks a URI for an image.
func (l *logos) fetch(ctx context.Context, uri string) (asset, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, http.NoBody) //nolint:gosec // of a registered client; the outgoing client judges the address
	if err != nil {
		return asset{}, err
	}
	req.Header.Set("Accept", "image/webp, image/png, image/jpeg, image/gif")
	res, err := l.http.Do(req) //nolint:gosec // as above
	if err != nil {
		return asset{}, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return asset{}, fmt.Errorf("status %d", res.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxLogo+1))
	switch {
	case err != nil:
		return asset{}, err
	case len(body) > maxLogo:
		return asset{}, fmt.Errorf("more than %d bytes", maxLogo)
	}
	media, err := imageType(body)
	if err != nil {
		return asset{}, err
	}
	return asset{body: body, media: media}, nil
}

// imageType tells the type of an image by its content; what its server calls it
// counts for nothing. SVG is no image here: it is a document that can act. An
// image that would unfold to more than a logo's size is refused as well.
func imageType(body []byte) (string, error) {
	var size image.Config
	var err error
	media := http.DetectContentType(body)
	switch media {
	case mediaPNG:
		size, err = png.DecodeConfig(bytes.NewReader(body))
	case mediaJPEG:
		size, err = jpeg.DecodeConfig(bytes.NewReader(body))
	case mediaGIF:
		size, err = gif.DecodeConfig(bytes.NewReader(body))
	case mediaWebP:
		size, err = webpSize(body)
	default:
		return "", errors.New("not a PNG, JPEG, WebP or GIF image")
	}
	if err != nil {
		return "", fmt.Errorf("not a readable image: %w", err)
	}
	if size.Width < 1 || size.Height < 1 || size.Width > maxLogoSide || size.Height > maxLogoSide {
		return "", fmt.Errorf("%d by %d pixels", size.Width, size.Height)
	}
	return media, nil
}

// webpSize reads the size in front of a WebP image (RFC 9649 §2.5 to 2.7).
func webpSize(body []byte) (image.Config, error) {
	if len(body) < 30 {
		return image.Config{}, io.ErrUnexpectedEOF
	}
	data := body[20:]
	switch string(body[12:16]) {
	case "VP8X":
		return image.Config{Width: 1 + uint24(data[4:]), Height: 1 + uint24(data[7:])}, nil
	case "VP8L":
		bits := int(binary.LittleEndian.Uint32(data[1:]))
		return image.Config{Width: 1 + bits&0x3fff, Height: 1 + bits>>14&0x3fff}, nil
	case "VP8 ":
		return image.Config{Width: int(binary.LittleEndian.Uint16(data[6:])) & 0x3fff, Height: int(binary.LittleEndian.Uint16(data[8:])) & 0x3fff}, nil
	}
	return image.Config{}, errors.New("unknown kind of WebP")
}

func uint24(b []byte) int { return int(b[0]) | int(b[1])<<8 | int(b[2])<<16 }

// asker is the client on whose behalf a page asks.
type asker struct {
	Name     string
	Logo     string // URL of ours; empty: none
	Monogram string
}

// asker is a client as pages show it.
func (p *Pages) asker(server string, c *clients.Client) asker {
	a := asker{Name: c.Name(), Monogram: monogram(c.Name())}
	if c.LogoURI != "" && p.logos.http != nil {
		// The last part changes with the URI, so that a new logo shows at once.
		a.Logo = p.path + "/static/client-logo?" + url.Values{"as": {server}, "client": {c.ClientID}, "v": {digest([]byte(c.LogoURI))}}.Encode()
	}
	return a
}

// clientLogo serves the logo that a client of the named authorization server
// has registered, or its monogram where the logo can't be had.
func (p *Pages) clientLogo(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	server, ok := p.cfg.Servers[q.Get("as")]
	if !ok {
		return errMissing
	}
	client, err := server.Client(r.Context(), q.Get("client"))
	if errors.Is(err, oauth.ErrNotFound) || err == nil && client.LogoURI == "" {
		return errMissing
	}
	if err != nil {
		return err
	}
	if logo, ok := p.logos.get(r.Context(), client.LogoURI); ok {
		serveFile(w, logo, logoCacheAge)
		return nil
	}
	serveFile(w, monogramTile(client.Name()), tileCacheAge)
	return nil
}
