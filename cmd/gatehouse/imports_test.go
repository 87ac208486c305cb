package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const modulePath = "gatehouse.dev/gatehouse"

// mayImport says which packages of ours each package may import, by path below
// the module. A package without an entry is not planned; cmd/gatehouse may
// import all.
var mayImport = map[string][]string{
	// level 0
	"keys": {}, "users": {}, "sessions": {}, "clients": {}, "throttle": {}, "audit": {}, "sessions/openapi": {},
	// level 1
	"oauth":             {"keys", "sessions", "clients", "users"},
	"sessions/jsonapi":  {"sessions", "sessions/openapi"},
	"sessions/usersapi": {"sessions", "sessions/openapi"},
	"signin":            {"users", "throttle", "audit", "sessions"},
	"configs":           {"clients"},
	"deliveries":        {"keys", "sessions"},
	"mail":              {"sessions"},
	// level 2
	"storage": {"oauth", "sessions", "keys", "users", "clients", "throttle", "audit", "deliveries", "mail", "storage/migrations"},
	"web":     {"oauth", "sessions", "users", "clients", "throttle", "audit", "signin", "mail"},
	// beside them
	"storage/migrations":  {},
	"storage/storagetest": {"oauth", "sessions", "keys", "users", "clients", "throttle", "audit", "deliveries", "mail"},
	"storage/pgtest":      {},
	"relyingparty":        {},
	"cmd/relyingparty":    {"relyingparty"},
	"bench":               {},
	"bench/floor":         {},
}

// onlyUnder says below which package of ours a foreign one may be imported.
var onlyUnder = []struct{ foreign, under string }{
	{"github.com/ory/", "oauth"},
	{"github.com/go-jose/go-jose/v3", "oauth"},
	{"gorm.io/", "storage"},
	{"github.com/glebarez/", "storage"},
	{"modernc.org/", "storage"},
	{"github.com/jackc/", "storage"},
	{"github.com/pressly/goose/", "storage"},
	{"database/sql", "storage"},
	{"github.com/goccy/go-yaml", "configs"},
	{"gopkg.in/yaml", "configs"},
	{"go.yaml.in/", "configs"},
}

// exempt is the one package elsewhere that a rule of onlyUnder lets pass: what
// the server is compared with sends the database its statements itself.
var exempt = map[string]string{"github.com/jackc/": "bench/floor"}

// importedPackage is what `go list -json` says of a package, and we need.
type importedPackage struct {
	ImportPath string
	Imports    []string // of files that are no tests
}

// importFaults returns a line for each import that is against the rules.
func importFaults(packages []importedPackage) []string {
	var faults []string
	for _, p := range packages {
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, modulePath), "/")
		allowed, planned := mayImport[name]
		all := name == "cmd/gatehouse"
		if !planned && !all {
			faults = append(faults, fmt.Sprintf("%s is not in the plan of packages: give it its imports in mayImport", name))
			continue
		}
		for _, imported := range p.Imports {
			if ours, ok := strings.CutPrefix(imported, modulePath+"/"); ok && !all && !slices.Contains(allowed, ours) {
				faults = append(faults, fmt.Sprintf("%s imports %s, and may import of ours only: %s", name, ours, strings.Join(allowed, " ")))
			}
			for _, rule := range onlyUnder {
				if strings.HasPrefix(imported, rule.foreign) && name != rule.under && !strings.HasPrefix(name, rule.under+"/") && exempt[rule.foreign] != name {
					faults = append(faults, fmt.Sprintf("%s imports %s, which is for %s/ only", name, imported, rule.under))
				}
			}
			if imported == "testing" && name != "storage/pgtest" && name != "storage/storagetest" {
				faults = append(faults, fmt.Sprintf("%s imports testing outside of its tests", name))
			}
		}
	}
	return faults
}

func TestImportsFollowTheArchitecture(t *testing.T) {
	command := exec.Command("go", "list", "-json=ImportPath,Imports", modulePath+"/...")
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var packages []importedPackage
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var p importedPackage
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
	if len(packages) < 8 {
		t.Fatalf("go list names %d packages", len(packages))
	}
	for _, fault := range importFaults(packages) {
		t.Error(fault)
	}
}

func TestImportFaultsAreFound(t *testing.T) {
	ours := func(name string) string { return modulePath + "/" + name }
	tests := []struct {
		from, to string
		fault    bool
	}{
		{ours("sessions"), ours("users"), true},
		{ours("keys"), ours("clients"), true},
		{ours("oauth"), ours("storage"), true},
		{ours("oauth"), ours("web"), true},
		{ours("sessions/jsonapi"), ours("oauth"), true},
		{ours("configs"), ours("oauth"), true},
		{ours("web"), ours("storage"), true},
		{ours("storage"), ours("configs"), true},
		{ours("web"), ours("cmd/gatehouse"), true},
		{ours("common"), "fmt", true},
		{ours("web"), "gorm.io/gorm", true},
		{ours("oauth"), "database/sql", true},
		{ours("web"), "github.com/ory/fosite", true},
		{ours("keys"), "github.com/go-jose/go-jose/v3", true},
		{ours("cmd/gatehouse"), "github.com/goccy/go-yaml", true},
		{ours("cmd/gatehouse"), "github.com/jackc/pgx/v5", true},
		{ours("storagex"), "gorm.io/gorm", true},
		{ours("oauth"), "testing", true},
		{ours("bench"), "github.com/jackc/pgx/v5", true},
		{ours("bench/floor"), "gorm.io/gorm", true},
		{ours("bench/floor"), "github.com/ory/fosite", true},
		{ours("bench/floor"), ours("oauth"), true},
		{ours("bench/floor"), "github.com/jackc/pgx/v5", false},
		{ours("keys"), "github.com/go-jose/go-jose/v4", false},
		{ours("oauth"), ours("sessions"), false},
		{ours("oauth"), "github.com/ory/fosite/handler/oauth2", false},
		{ours("storage"), ours("oauth"), false},
		{ours("storage/storagetest"), "testing", false},
		{ours("cmd/gatehouse"), ours("storage"), false},
		{ours("configs"), "github.com/goccy/go-yaml/ast", false},
	}
	for _, tt := range tests {
		faults := importFaults([]importedPackage{{ImportPath: tt.from, Imports: []string{tt.to}}})
		if (len(faults) > 0) != tt.fault {
			t.Errorf("%s -> %s: faults %q, want some: %t", tt.from, tt.to, faults, tt.fault)
		}
	}
}
