// Package bench measures the server: how fast it is beside a floor, which is a
// bare net/http program that makes the same signatures and sends the database
// the same statements, and what its operations cost the database as tables
// grow.
//
// All of it is started by `make bench`, `make bench-scale` and `make
// bench-profiles`, which run the tests TestBench, TestScale and TestProfiles
// with the environment variable GATEHOUSE_BENCH; without it they return at
// once. What they need of PostgreSQL comes from storage/pgtest.
//
// The package has the functions that only compute: settings, medians, what wrk
// prints, and the tables of README.md. What starts programs stands in the tests.
package bench
