package storage

import (
	"database/sql"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
)

func openPostgres(dsn string, connections int) (dialect, error) {
	d := dialect{
		postgres: true,
		clock:    `SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)`,
		// Every statement must see what was committed while it waited for a lock.
		begin: &sql.TxOptions{Isolation: sql.LevelReadCommitted},
	}
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		// The cause quotes the URL, in which a password may stand.
		return d, errors.New("its URL is not one of PostgreSQL")
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "gatehouse"
	}
	pool := stdlib.OpenDB(*config)
	d.pools = append(d.pools, pool)
	pool.SetMaxOpenConns(connections)
	pool.SetMaxIdleConns(connections)
	// Connections move to a server that came up, or came back, behind one name.
	pool.SetConnMaxLifetime(30 * time.Minute)
	d.writes, err = gorm.Open(postgres.New(postgres.Config{Conn: pool}), gormConfig())
	d.reads = d.writes
	return d, err
}
