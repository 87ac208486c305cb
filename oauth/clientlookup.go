package oauth

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"github.com/maypok86/otter/v2"

	"gatehouse.dev/gatehouse/clients"
)

// clientCacheTTL is how stale a registered client may be. Liveness refuses the
// tokens of a deleted client at once; this bounds for how long a node still
// takes its proof, and how late changes of its metadata are seen.
const clientCacheTTL = 10 * time.Second

// registry finds clients: those of the operator's file in memory, registered
// ones through the store and a short cache.
type registry struct {
	static  map[string]*clients.Client
	secrets map[string][sha256.Size]byte // of static clients
	store   Store
	cache   *otter.Cache[string, *clients.Client]
	origins *otter.Cache[string, []string]
}

func newRegistry(static []clients.Client, store Store) (*registry, error) {
	r := &registry{static: map[string]*clients.Client{}, secrets: map[string][sha256.Size]byte{}, store: store}
	for _, c := range static {
		if c.ClientSecret != "" {
			r.secrets[c.ClientID] = sha256.Sum256([]byte(c.ClientSecret))
			c.ClientSecret = ""
		}
		r.static[c.ClientID] = &c
	}
	var err error
	if r.cache, err = otter.New(&otter.Options[string, *clients.Client]{MaximumSize: 10_000,
		ExpiryCalculator: otter.ExpiryWriting[string, *clients.Client](clientCacheTTL)}); err != nil {
		return nil, fmt.Errorf("client cache: %w", err)
	}
	if r.origins, err = otter.New(&otter.Options[string, []string]{MaximumSize: 1,
		ExpiryCalculator: otter.ExpiryWriting[string, []string](clientCacheTTL)}); err != nil {
		return nil, fmt.Errorf("origin cache: %w", err)
	}
	return r, nil
}

// client returns the client, or ErrNotFound. Absence is never cached: whoever
// asks for random ids fills nothing.
func (r *registry) client(ctx context.Context, id string) (*clients.Client, error) {
	if c, ok := r.static[id]; ok {
		return c, nil
	}
	if !isPrintable(id, 255) {
		return nil, ErrNotFound
	}
	if c, ok := r.cache.GetIfPresent(id); ok {
		return c, nil
	}
	c, err := r.store.Client(ctx, id)
	if err != nil {
		return nil, err
	}
	r.cache.Set(id, c)
	return c, nil
}

// secret is the SHA-256 of the client's secret; false where it has none.
func (r *registry) secret(c *clients.Client) ([]byte, bool) {
	if sum, ok := r.secrets[c.ClientID]; ok {
		return sum[:], true
	}
	return c.SecretSHA, len(c.SecretSHA) == sha256.Size
}

// allowsOrigin reports whether any client has a redirect URI of that origin.
func (r *registry) allowsOrigin(ctx context.Context, origin string) (bool, error) {
	for _, c := range r.static {
		if slices.Contains(c.Origins(), origin) {
			return true, nil
		}
	}
	registered, ok := r.origins.GetIfPresent("")
	if !ok {
		var err error
		if registered, err = r.store.Origins(ctx); err != nil {
			return false, err
		}
		r.origins.Set("", registered)
	}
	return slices.Contains(registered, origin), nil
}
