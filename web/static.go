package web

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"mime"
	"net/http"
	"path"
	"strings"

	"github.com/gorilla/mux"
)

//go:embed static
var staticFiles embed.FS

// asset is a static file as served.
type asset struct {
	body  []byte
	media string
}

// loadAssets names each static file after its content, so that browsers may
// keep it for ever: style.css becomes style.0123456789abcdef.css.
func (p *Pages) loadAssets() error {
	p.assets, p.names = map[string]asset{}, map[string]string{}
	files, err := staticFiles.ReadDir("static")
	if err != nil {
		return fmt.Errorf("web: static files: %w", err)
	}
	for _, f := range files {
		body, err := staticFiles.ReadFile("static/" + f.Name())
		if err != nil {
			return fmt.Errorf("web: static files: %w", err)
		}
		ext := path.Ext(f.Name())
		p.names[f.Name()] = p.addAsset(strings.TrimSuffix(f.Name(), ext)+"."+digest(body)+ext, mime.TypeByExtension(ext), body)
	}
	return nil
}

// addAsset serves a file and returns its path.
func (p *Pages) addAsset(name, media string, body []byte) string {
	p.assets[name] = asset{body: body, media: media}
	return p.path + "/static/" + name
}

// digest tells contents apart in names.
func digest(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:8])
}

// static serves a file under its hashed name.
func (p *Pages) static(w http.ResponseWriter, r *http.Request) error {
	a, ok := p.assets[mux.Vars(r)["name"]]
	if !ok {
		return errMissing
	}
	serveFile(w, a, "public, max-age=31536000, immutable")
	return nil
}

// serveFile answers with a file that may be kept as cache says.
func serveFile(w http.ResponseWriter, a asset, cache string) {
	policy := filePolicy
	if a.media == mediaSVG {
		policy = svgPolicy
	}
	protect(w.Header(), policy)
	w.Header().Set("Cache-Control", cache)
	w.Header().Set("Content-Type", a.media)
	_, _ = w.Write(a.body) // fails only where the browser is gone
}
