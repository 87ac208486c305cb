package configs

import (
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/invopop/jsonschema"

	"gatehouse.dev/gatehouse/clients"
)

// Schema is a JSON Schema (draft 2020-12) of the configuration file, for
// editors: every key with its description, the words it takes and the form of
// its value. It knows less than Load does: relations between values, URLs and
// the like are for `config check`.
func Schema() ([]byte, error) {
	reflector := jsonschema.Reflector{
		Anonymous:                  true,
		ExpandedStruct:             true,
		FieldNameTag:               "yaml",
		RequiredFromJSONSchemaTags: true,
		Mapper:                     schemaOf,
	}
	schema := reflector.Reflect(&Config{})
	schema.Title = "Gatehouse configuration"
	if err := describe("Config", schema); err != nil {
		return nil, err
	}
	for name, definition := range schema.Definitions {
		if err := describe(name, definition); err != nil {
			return nil, err
		}
	}
	return json.MarshalIndent(schema, "", "  ")
}

// Forms of scalars in the schema. A reference may stand for each of them.
const (
	referencePattern = `^file:|\$\{`
	namePattern      = "^[A-Za-z0-9_-]{1,64}$"
	durationPattern  = `^([0-9]+d)?(([0-9]+(\.[0-9]+)?|\.[0-9]+)(ns|us|µs|ms|s|m|h))*$`
)

func orReference(schema *jsonschema.Schema) *jsonschema.Schema {
	return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{schema, {Type: "string", Pattern: referencePattern}}}
}

// schemaOf is the schema of the types that reflection would get wrong: for
// scalars, what the decoder takes in their place.
func schemaOf(t reflect.Type) *jsonschema.Schema {
	switch t {
	case durationType:
		one := uint64(1)
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{
			{Type: "string", Pattern: durationPattern, MinLength: &one},
			{Type: "integer", Const: 0},
			{Type: "string", Pattern: referencePattern},
		}}
	case prefixType:
		return &jsonschema.Schema{Type: "string"}
	case jsonType:
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{{Type: "object"}, {Type: "string"}}}
	}
	switch t.Kind() {
	case reflect.String:
		return &jsonschema.Schema{Type: "string"}
	case reflect.Bool:
		return orReference(&jsonschema.Schema{Type: "boolean"})
	case reflect.Int64:
		return orReference(&jsonschema.Schema{Type: "integer"})
	}
	return nil
}

// describe adds descriptions and words to the properties of one type.
func describe(typeName string, schema *jsonschema.Schema) error {
	words := words()
	for property := schema.Properties.Oldest(); property != nil; property = property.Next() {
		key := typeName + "." + property.Key
		description, known := descriptions[key]
		if !known {
			return fmt.Errorf("configuration key %s has no description", key)
		}
		value := property.Value
		switch enum := asAny(words[key]); {
		case enum != nil && value.Type == "array":
			value.Items = orReference(&jsonschema.Schema{Enum: enum})
		case enum != nil:
			value = orReference(&jsonschema.Schema{Type: "string", Enum: enum})
		}
		if key == "Config.realms" || key == "Config.authorization_servers" {
			value.PropertyNames = &jsonschema.Schema{Pattern: namePattern}
		}
		value.Description = description
		schema.Properties.Set(property.Key, value)
	}
	return nil
}

func asAny(words []string) []any {
	var out []any
	for _, word := range words {
		out = append(out, word)
	}
	return out
}

// words are the keys that take one of a few words.
func words() map[string][]string {
	formats := []string{clients.FormatJWT, clients.FormatOpaque}
	return map[string][]string{
		"SMTP.tls":                                 {SMTPStartTLS, SMTPImplicit, SMTPNoTLS},
		"User.roles":                               {RoleSessionAdmin},
		"UsersAPI.certificate_user":                CertificateUsers(),
		"AuthorizationServer.pkce":                 {PKCEAll, PKCENonce, PKCEPublic},
		"AuthorizationServer.registration":         {RegistrationOff, RegistrationToken, RegistrationOpen},
		"AccessToken.format":                       formats,
		"AccessToken.signing_alg":                  clients.IDTokenAlgs(),
		"SessionAPI.visibility":                    {VisibilityUser, VisibilityClient},
		"Metadata.access_token_format":             formats,
		"Metadata.application_type":                {clients.ApplicationWeb, clients.ApplicationNative},
		"Metadata.grant_types":                     clients.GrantTypes(),
		"Metadata.response_types":                  {clients.ResponseCode},
		"Metadata.token_endpoint_auth_method":      clients.AuthMethods(),
		"Metadata.token_endpoint_auth_signing_alg": clients.AssertionAlgs(),
		"Metadata.id_token_signed_response_alg":    clients.IDTokenAlgs(),
		"Metadata.subject_type":                    {"public"},
	}
}
