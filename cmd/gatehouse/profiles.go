package main

import (
	"net/http"
	"net/http/pprof" // what it adds to http.DefaultServeMux nobody serves
)

// profilesPath is where profiles are below the operations listener.
const profilesPath = "/debug/pprof/"

// withProfiles adds Go's profiles of this process to the operations listener,
// for `serve --profile`. They tell whoever reaches them what is in memory, a
// command line and where time goes, so that nobody gets them by default.
func withProfiles(operations http.Handler) http.Handler {
	profiles := http.NewServeMux()
	profiles.HandleFunc("GET "+profilesPath, pprof.Index) // names those that are there, and serves them by name
	profiles.HandleFunc("GET "+profilesPath+"profile", pprof.Profile)
	profiles.HandleFunc("GET "+profilesPath+"trace", pprof.Trace)
	profiles.Handle("/", operations)
	return profiles
}
