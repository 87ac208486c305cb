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
		sum := sha256.Sum256(body)
		name := strings.TrimSuffix(f.Name(), ext) + "." + hex.EncodeToString(sum[:8]) + ext
		p.assets[name] = asset{body: body, media: mime.TypeByExtension(ext)}
		p.names[f.Name()] = p.path + "/static/" + name
	}
	return nil
}

// static serves a file under its hashed name.
func (p *Pages) static(w http.ResponseWriter, r *http.Request) error {
	a, ok := p.assets[mux.Vars(r)["name"]]
	if !ok {
		return errMissing
	}
	secure(w.Header(), "", false)
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	w.Header().Set("Content-Type", a.media)
	_, err := w.Write(a.body)
	if err != nil {
		return nil // the browser is gone; there is nobody to tell
	}
	return nil
}
