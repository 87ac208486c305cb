package configs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
)

// Limits of what is read: a configuration file, and a file that takes the place
// of one of its values.
const (
	maxFile      = 1 << 20
	maxValueFile = 64 << 10
)

// Load reads and checks the configuration file at path. env looks up an
// environment variable, as os.LookupEnv does. Values of the form file:PATH
// are read from the file system, relative to the directory of path. The error
// is of type Faults, unless the file itself could not be read.
func Load(path string, env func(string) (string, bool)) (*Config, error) {
	data, err := readUpTo(path, maxFile)
	if err != nil {
		return nil, fmt.Errorf("reading configuration: %w", err)
	}
	return Parse(path, data, env, readValueFile)
}

// Parse checks a configuration that is in memory; see Source for the
// parameters. The error is of type Faults.
func Parse(name string, data []byte, env func(string) (string, bool), readFile func(string) ([]byte, error)) (*Config, error) {
	return Source{Name: name, Data: data, Env: env, ReadFile: readFile}.Parse()
}

// Source is a configuration file and what it may refer to.
type Source struct {
	Name string // what faults call the file; values file:PATH are relative to its directory
	Data []byte // YAML in UTF-8, at most 1 MiB

	// Env looks up an environment variable for ${NAME}; nil: none is set.
	Env func(string) (string, bool)
	// ReadFile reads the file of a value file:PATH; nil: there are no files.
	ReadFile func(string) ([]byte, error)

	// AllowNoKey permits an absent or empty key_encryption_key, for callers
	// that make one themselves, as the demo does.
	AllowNoKey bool
}

// Parse checks the configuration. The error is of type Faults and has all
// that is wrong, unless the file is not YAML: then only that.
func (s Source) Parse() (*Config, error) {
	d := &decoder{source: s, places: map[string]place{"": {1, 1}}, broken: map[string]bool{}, empty: map[string]bool{}}
	root := d.syntax()
	if len(d.faults) > 0 {
		return nil, d.sorted()
	}
	c := Default()
	d.decode("", root, reflect.ValueOf(c).Elem())
	validation{decoder: d, Config: c}.run()
	if len(d.faults) > 0 {
		return nil, d.sorted()
	}
	for _, server := range c.AuthorizationServers {
		for i := range server.Clients {
			server.Clients[i].Defaults(server.AccessToken.Format)
		}
	}
	return c, nil
}

var errTooLarge = errors.New("file is too large")

// readUpTo reads at most limit bytes of a file, and one more to let the
// caller see that there are more.
func readUpTo(path string, limit int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, limit+1))
}

// readValueFile reads a file that the configuration names; the largest is a logo.
func readValueFile(path string) ([]byte, error) {
	data, err := readUpTo(path, maxLogoFile)
	if err == nil && len(data) > maxLogoFile {
		err = errTooLarge
	}
	return data, err
}

// fileFault says why a file of a value could not be read, without its path,
// which may come from the environment.
func fileFault(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "refers to a file that does not exist"
	case errors.Is(err, fs.ErrPermission):
		return "refers to a file that the server may not read"
	case errors.Is(err, errTooLarge):
		return fmt.Sprintf("refers to a file of more than %d bytes", maxValueFile)
	}
	return "refers to a file that cannot be read"
}

// relative resolves the path of a value against the directory of the
// configuration file.
func (s Source) relative(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(s.Name), path)
}
