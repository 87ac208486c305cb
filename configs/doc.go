// Package configs reads the operator's configuration: one YAML file (see
// gatehouse.yaml beside this package for all of its keys), strictly, with
// every fault reported at once under its line and column, and secrets taken
// from the environment or from files of their own. It also holds the sample
// files and the JSON Schema of the file.
//
// It knows YAML and the rules of the file, nothing of what the rest of the
// program makes of it: it opens no database, no socket and no certificate.
package configs
