package storage

import (
	"gatehouse.dev/gatehouse/keys"
	"gatehouse.dev/gatehouse/oauth"
	"gatehouse.dev/gatehouse/sessions"
)

// ServerConfig names an authorization server.
type ServerConfig struct {
	Name      string             // required
	Realm     string             // required; name of its realm
	Lifetimes sessions.Lifetimes // required, all but RefreshGrace
}

// Server is a database as one authorization server sees it.
type Server struct {
	roots
	db    *DB
	name  string
	realm string
	life  sessions.Lifetimes
}

var (
	_ oauth.Store    = (*Server)(nil)
	_ sessions.Store = (*Server)(nil)
	_ keys.Store     = (*Server)(nil)
)

// For returns the view of one authorization server.
func (db *DB) For(config ServerConfig) *Server {
	return &Server{
		roots: roots{db: db, owner: "as:" + config.Name},
		db:    db, name: config.Name, realm: config.Realm, life: config.Lifetimes,
	}
}
