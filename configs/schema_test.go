package configs

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

func compiledSchema(t *testing.T) (*jsonschema.Schema, map[string]any) {
	t.Helper()
	text, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	if err := compiler.AddResource("config.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("config.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema, document.(map[string]any)
}

// instance is YAML as the validator takes it.
func instance(t *testing.T, text string) any {
	t.Helper()
	asJSON, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func TestSamplesAreValidAgainstSchema(t *testing.T) {
	schema, _ := compiledSchema(t)
	for _, name := range []string{"demo.yaml", "gatehouse.yaml", "production.yaml"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(instance(t, string(text))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := schema.Validate(instance(t, operatorsExample)); err != nil {
		t.Errorf("the guide's example: %v", err)
	}
}

func TestSchemaRefuses(t *testing.T) {
	schema, _ := compiledSchema(t)
	for _, text := range []string{
		"listn: x",
		"listen: 8080",
		"trusted_proxies: 10.0.0.0/8",
		"realms: {default: {login: {lifetime: 5}}}",
		"realms: {default: {login: {lifetime: 5 minutes}}}",
		"realms: {default: {login: {remember: sometimes}}}",
		"realms: {a.b: {}}",
		"authorization_servers: {a: {pkce: never}}",
		"authorization_servers: {a: {access_token: {signing_alg: none}}}",
		"authorization_servers: {a: {clients: [{client_idd: x}]}}",
		"authorization_servers: {a: {clients: [{grant_types: [implicit]}]}}",
	} {
		if schema.Validate(instance(t, text)) == nil {
			t.Errorf("%q is valid", text)
		}
	}
}

// TestSampleShowsEveryKey compares the commented file with the schema, in
// both directions, and the descriptions with the types.
func TestSampleShowsEveryKey(t *testing.T) {
	_, document := compiledSchema(t)
	keys := map[string]bool{}
	described := 0
	collect := func(schema map[string]any) {
		properties, _ := schema["properties"].(map[string]any)
		for key, value := range properties {
			keys[key] = true
			described++
			if value.(map[string]any)["description"] == "" {
				t.Errorf("%s has no description", key)
			}
		}
	}
	collect(document)
	for _, definition := range document["$defs"].(map[string]any) {
		collect(definition.(map[string]any))
	}
	if described != len(descriptions) {
		t.Errorf("%d keys, but %d descriptions", described, len(descriptions))
	}
	shown := map[string]bool{}
	for line := range strings.Lines(string(Sample())) {
		for _, match := range regexp.MustCompile(`^[ #-]*([a-z_]+):( |$)`).FindAllStringSubmatch(strings.TrimRight(line, "\n"), -1) {
			shown[match[1]] = true
		}
	}
	for key := range keys {
		if !shown[key] {
			t.Errorf("gatehouse.yaml does not show %s", key)
		}
	}
	for key := range shown {
		if !keys[key] && key != "default" && key != "main" {
			t.Errorf("gatehouse.yaml shows %s, which is no key", key)
		}
	}
}

// TestSampleCommentsLoad takes the number signs off the commented keys: what
// the file shows has to be valid, too.
func TestSampleCommentsLoad(t *testing.T) {
	var text strings.Builder
	for line := range strings.Lines(string(Sample())) {
		commented := regexp.MustCompile(`^( *)# ( *(- )?[a-z_]+:( .*)?)\n$`).FindStringSubmatch(line)
		switch {
		case strings.Contains(line, "auth_signing_alg:"), strings.Contains(line, "jwks: {keys"):
			continue // for private_key_jwt, and instead of jwks_uri
		case commented != nil:
			line = commented[1] + commented[2] + "\n"
		case regexp.MustCompile(`^ +#  `).MatchString(line):
			line = strings.Replace(line, "#", " ", 1)
		case regexp.MustCompile(`^    (resources|clients): \[\]|custom_attributes: \[\]`).MatchString(line):
			line = strings.Replace(line, "[]", "", 1)
		}
		text.WriteString(line)
	}
	_, err := Parse("gatehouse.yaml", []byte(text.String()), testEnv, testFiles(map[string]string{
		"smtp-password": "x", "alex-password": "alex", "example-secret": "secret",
		"logo.svg": `<svg xmlns="http://www.w3.org/2000/svg"/>`,
	}))
	if err != nil {
		t.Errorf("%v\n%s", err, text.String())
	}
}

func TestSchemaIsJSONSchema202012(t *testing.T) {
	text, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	var head struct {
		Schema string `json:"$schema"`
	}
	if err := json.Unmarshal(text, &head); err != nil || head.Schema != "https://json-schema.org/draft/2020-12/schema" {
		t.Errorf("$schema is %q (%v)", head.Schema, err)
	}
}
