package relyingparty

import (
	"container/list"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"sync"
	"time"
)

// shelf keeps a bounded number of things under keys. What was not used for
// longest makes room, and what was not used for a time is gone.
type shelf[T any] struct {
	most int
	keep time.Duration
	now  func() time.Time

	mu    sync.Mutex
	items map[string]*list.Element // of *item[T]
	order *list.List               // last used at the front
}

type item[T any] struct {
	key   string
	used  time.Time
	value T
}

func newShelf[T any](most int, keep time.Duration, now func() time.Time) *shelf[T] {
	return &shelf[T]{most: most, keep: keep, now: now, items: map[string]*list.Element{}, order: list.New()}
}

// put adds a value under a key that is not in use.
func (s *shelf[T]) put(key string, value T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.insert(key, value)
}

// insert is put, for who holds mu.
func (s *shelf[T]) insert(key string, value T) {
	now := s.now()
	s.items[key] = s.order.PushFront(&item[T]{key: key, used: now, value: value})
	for last := s.order.Back(); last != nil; last = s.order.Back() {
		i := last.Value.(*item[T])
		if s.order.Len() <= s.most && now.Sub(i.used) < s.keep {
			break
		}
		s.drop(last)
	}
}

// add puts the zero value under a key, unless there is one: false.
func (s *shelf[T]) add(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.items[key]; ok {
		if s.now().Sub(e.Value.(*item[T]).used) < s.keep {
			return false
		}
		s.drop(e)
	}
	var zero T
	s.insert(key, zero)
	return true
}

// each calls f with every value, and nothing else is done meanwhile.
func (s *shelf[T]) each(f func(T)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := s.order.Front(); e != nil; e = e.Next() {
		f(e.Value.(*item[T]).value)
	}
}

// get returns the value of a key and counts as a use.
func (s *shelf[T]) get(key string) (value T, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.items[key]
	if !ok {
		return value, false
	}
	i := e.Value.(*item[T])
	now := s.now()
	if now.Sub(i.used) >= s.keep {
		s.drop(e)
		return value, false
	}
	i.used = now
	s.order.MoveToFront(e)
	return i.value, true
}

// take returns the value of a key if it passes a test, and removes it then: of
// many who take, one gets it.
func (s *shelf[T]) take(key string, test func(T) bool) (value T, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.items[key]
	if !ok {
		return value, false
	}
	i := e.Value.(*item[T])
	if s.now().Sub(i.used) >= s.keep {
		s.drop(e)
		return value, false
	}
	if !test(i.value) {
		return value, false
	}
	s.drop(e)
	return i.value, true
}

// remove forgets a key.
func (s *shelf[T]) remove(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.items[key]; ok {
		s.drop(e)
	}
}

func (s *shelf[T]) drop(e *list.Element) {
	delete(s.items, e.Value.(*item[T]).key)
	s.order.Remove(e)
}

// random is 256 bits as 43 characters for URLs and cookies.
func random() string {
	var raw [32]byte
	rand.Read(raw[:]) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(raw[:])
}

// keyOf is the key under which the owner of a random value finds what is his;
// empty for what random can't have made. It is a hash, so that looking it up
// takes no time that tells of other values.
func keyOf(value string) string {
	if len(value) != base64.RawURLEncoding.EncodedLen(32) {
		return ""
	}
	sum := sha256.Sum256([]byte(value))
	return string(sum[:])
}

// cookieKey is the key of the request's cookie of that name, empty without one.
func cookieKey(r *http.Request, name string) string {
	c, err := r.Cookie(name)
	if err != nil {
		return ""
	}
	return keyOf(c.Value)
}

// setCookie writes a cookie that ends with the browser. An empty value removes it.
func (p *RelyingParty) setCookie(w http.ResponseWriter, name, value string) {
	//nolint:gosec // Secure follows the URL: over http, on localhost, a browser would drop the cookie
	c := &http.Cookie{Name: name, Value: value, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode,
		Secure: p.base.Scheme == "https"}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}
