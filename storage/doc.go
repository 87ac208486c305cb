// Package storage keeps what the other packages must remember, in SQLite or
// PostgreSQL, behind the Store interfaces that they declare. It is the only
// package that knows a database.
//
// A [DB] is one database. [DB.For] gives the view of one authorization server,
// [DB.Realm] that of one realm; every statement of a view names its
// authorization server or realm, so two of them share nothing but the file.
//
// # Time
//
// Times are stored as milliseconds since the epoch and come back in UTC. What
// is judged by time is judged by Config.Now, not by the database's clock.
//
// # Locks
//
// Rows are locked from the top: user, login, session, grant; several of one
// kind in order of id. Whoever inserts below a row locks it in share mode and
// then sees for himself that it lives; whoever ends locks it exclusively. A
// session's parent is its login, or its user where it has no login. So an
// ending is either behind an insertion, and then finds what was inserted, or
// before it, and then the insertion finds the ending. SQLite has one writer at
// a time, which gives the same without row locks.
//
// No transaction needs a second connection. A transaction that PostgreSQL
// breaks off for a deadlock or a serialization failure is repeated.
//
// # Deliveries
//
// Whoever ends a session writes what its client is to be told in the same
// transaction, by one statement for each 100 sessions. A [DB] is the Store of
// package deliveries: it hands what is due to one worker at a time, and
// [DB.OnDelivery] tells the one of this process that there is something.
//
// # Errors
//
// A database that can't be reached, has no connection free or doesn't answer
// within the context's time gives [sessions.ErrUnavailable]. Everything that
// the interfaces promise comes as their own sentinel errors; errors of gorm and
// of drivers appear only as text or cause behind them.
//
// The package schedules nothing: somebody has to call Sweep.
package storage
