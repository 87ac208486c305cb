package configs

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// written is v as a file has it: what differs from the defaults of its type,
// as YAML in flow style. It knows nothing of the decoder but the names of keys.
func written(v, defaults reflect.Value) string {
	switch value := v.Interface().(type) {
	case time.Duration:
		return quoted(value.String())
	case netip.Prefix:
		return quoted(value.String())
	case json.RawMessage:
		return quoted(string(value))
	}
	switch v.Kind() {
	case reflect.Pointer:
		of := reflect.New(v.Type().Elem())
		if d, has := of.Interface().(interface{ setDefaults() }); has {
			d.setDefaults()
		}
		return written(v.Elem(), of.Elem())
	case reflect.Struct:
		var members []string
		for i := range v.NumField() {
			if !reflect.DeepEqual(v.Field(i).Interface(), defaults.Field(i).Interface()) {
				members = append(members, v.Type().Field(i).Tag.Get("yaml")+": "+written(v.Field(i), defaults.Field(i)))
			}
		}
		return "{" + strings.Join(members, ", ") + "}"
	case reflect.Map:
		var members []string
		for _, key := range v.MapKeys() {
			members = append(members, quoted(key.String())+": "+written(v.MapIndex(key), reflect.Value{}))
		}
		slices.Sort(members)
		return "{" + strings.Join(members, ", ") + "}"
	case reflect.Slice:
		var elements []string
		for i := range v.Len() {
			of := newElement(v.Type().Elem()).Elem()
			elements = append(elements, written(v.Index(i), of))
		}
		return "[" + strings.Join(elements, ", ") + "]"
	case reflect.String:
		return quoted(v.String())
	}
	return fmt.Sprint(v.Interface())
}

// quoted is a string in double quotes, with nothing in it that refers to
// anything.
func quoted(text string) string {
	var out strings.Builder
	out.WriteByte('"')
	for _, r := range strings.ReplaceAll(text, "${", "$${") {
		switch {
		case r == '"' || r == '\\':
			out.WriteString(`\` + string(r))
		case r < ' ' || r == 0x7f || r == 0x85 || r == 0xa0 || r == 0x2028 || r == 0x2029 || r == 0xfeff:
			fmt.Fprintf(&out, `\u%04x`, r)
		default:
			out.WriteRune(r)
		}
	}
	out.WriteByte('"')
	return out.String()
}

// FuzzParse holds Parse to what it promises for every input: a Config or
// Faults, no panic, every fault with a place, a bounded number of them. A
// Config that is valid loads again the same, from the same file and from one
// that is written from it.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{minimal, faulty, operatorsExample, string(Demo()), string(Sample()), "a: &a [*a]", "{", "- - -", "? a", "%Y", "a: |2\n x",
		minimal + "realms: {default: {users: [{username: a, password: \"$${x} \\\" \\\\ \\t\\u2028\"}]}}\n",
		minimal + "trusted_proxies: [10.0.0.0/8]\nrealms: {default: {login: {lifetime: 1h}}}\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("f.yaml", data, testEnv, testFiles(nil))
		if err == nil {
			if c == nil || len(c.AuthorizationServers) == 0 || len(c.Realms) == 0 || len(c.KeyEncryptionKeys()) == 0 {
				t.Fatalf("valid, but %+v", c)
			}
			again := []byte(written(reflect.ValueOf(c).Elem(), reflect.ValueOf(Default()).Elem()))
			for _, text := range [][]byte{data, again} {
				if same, err := Parse("f.yaml", text, testEnv, testFiles(nil)); err != nil || !reflect.DeepEqual(same, c) {
					t.Errorf("it gives %#v; loaded again from\n%s\nit gives %#v, %v", c, text, same, err)
				}
			}
			return
		}
		var faults Faults
		if !errors.As(err, &faults) || len(faults) == 0 || len(faults) > maxFaults+1 {
			t.Fatalf("the error is %T with %d faults", err, len(faults))
		}
		for _, fault := range faults {
			if fault.Line < 1 || fault.Column < 1 || fault.Message == "" || len(fault.Message) > 1000 {
				t.Errorf("fault %+v", fault)
			}
		}
	})
}
