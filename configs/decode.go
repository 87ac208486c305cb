package configs

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// maxFaults is how many faults are told before the rest are only counted.
const maxFaults = 200

// place is a position in the file, both from 1.
type place struct{ Line, Column int }

// decoder fills a Config from the syntax tree of a file and remembers where
// each path stands, so that later checks can say so too.
type decoder struct {
	source   Source
	faults   Faults
	places   map[string]place
	broken   map[string]bool // paths with a fault, which are not judged again
	empty    map[string]bool // paths of keys without a value
	unlisted int
}

// reportAt records a fault at a place.
func (d *decoder) reportAt(at place, path, message string) {
	if len(d.faults) >= maxFaults {
		d.unlisted++
		return
	}
	d.faults = append(d.faults, Fault{d.source.Name, path, at.Line, at.Column, message})
}

// report records a fault at the place of path or, if that is absent from the
// file, at the closest of its parents.
func (d *decoder) report(path, message string) {
	d.broken[path] = true
	at := path
	for {
		if found, ok := d.places[at]; ok {
			d.reportAt(found, path, message)
			return
		}
		at = parent(at)
	}
}

// sorted are the faults in the order of the file.
func (d *decoder) sorted() Faults {
	d.faults.sort()
	if d.unlisted > 0 {
		last := d.faults[len(d.faults)-1]
		d.faults = append(d.faults, Fault{d.source.Name, "", last.Line, last.Column, fmt.Sprintf("%d more faults are not listed", d.unlisted)})
	}
	return d.faults
}

// parent is the path above: of a.b[1], a.b; of a.b, a; of a, the empty path.
func parent(path string) string {
	return path[:max(strings.LastIndexAny(path, ".["), 0)]
}

// member is the path of a key below path. Keys that are not plain names are
// not repeated: a colon without a space makes a key of a secret.
func member(path, key string) string {
	if !plainName.MatchString(key) {
		key = "?"
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

func element(path string, index int) string { return fmt.Sprintf("%s[%d]", path, index) }

var plainName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

var (
	durationType = reflect.TypeFor[time.Duration]()
	prefixType   = reflect.TypeFor[netip.Prefix]()
	jsonType     = reflect.TypeFor[json.RawMessage]()
)

// decode stores node, the value at path, in v. A null or absent value leaves
// v as it is. Every fault is reported; v then keeps what it had.
func (d *decoder) decode(path string, node ast.Node, v reflect.Value) {
	if node == nil || node.Type() == ast.NullType {
		d.empty[path] = true
		return
	}
	switch v.Type() {
	case durationType:
		d.scalar(path, node, durations, func(text string) bool {
			duration, ok := parseDuration(text)
			if ok {
				v.SetInt(int64(duration))
			}
			return ok
		})
		return
	case prefixType:
		d.scalar(path, node, prefixes, func(text string) bool {
			prefix, ok := parsePrefix(text)
			if ok {
				v.Set(reflect.ValueOf(prefix))
			}
			return ok
		})
		return
	case jsonType:
		d.raw(path, node, v)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.decode(path, node, v.Elem())
	case reflect.Struct:
		d.structure(path, node, v)
	case reflect.Map:
		d.mapping(path, node, v)
	case reflect.Slice:
		d.list(path, node, v)
	case reflect.String:
		d.scalar(path, node, texts, func(text string) bool {
			v.SetString(text)
			return true
		})
	case reflect.Bool:
		d.scalar(path, node, booleans, func(text string) bool {
			v.SetBool(text == "true")
			return text == "true" || text == "false"
		})
	case reflect.Int64:
		d.scalar(path, node, integers, func(text string) bool {
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil || strconv.FormatInt(n, 10) != text {
				return false
			}
			v.SetInt(n)
			return true
		})
	}
}

// pairs hands out the keys and values of a mapping, each key once, and
// remembers their places.
func (d *decoder) pairs(path string, node ast.Node, visit func(key string, at place, value ast.Node)) {
	mapping, is := node.(*ast.MappingNode)
	if !is {
		d.report(path, "must be a mapping of keys to values")
		return
	}
	seen := map[string]bool{}
	for _, pair := range mapping.Values {
		at := placeOf(pair.Key)
		key, is := pair.Key.(*ast.StringNode)
		if !is {
			d.reportAt(at, member(path, ""), "keys must be strings (put the key in quotes)")
			continue
		}
		below := member(path, key.Value)
		if seen[key.Value] {
			d.reportAt(at, below, "the key stands there twice")
			continue
		}
		seen[key.Value] = true
		switch pair.Value.(type) {
		case *ast.MappingNode, *ast.SequenceNode, *ast.NullNode, nil:
			d.places[below] = at
		default:
			d.places[below] = placeOf(pair.Value)
		}
		visit(key.Value, at, pair.Value)
	}
}

func (d *decoder) structure(path string, node ast.Node, v reflect.Value) {
	fields := map[string]int{}
	var names []string
	for i := range v.NumField() {
		name := v.Type().Field(i).Tag.Get("yaml")
		if name == "" {
			continue // not the file's
		}
		fields[name] = i
		names = append(names, name)
	}
	d.pairs(path, node, func(key string, at place, value ast.Node) {
		i, known := fields[key]
		switch {
		case known:
			d.decode(member(path, key), value, v.Field(i))
		case plainName.MatchString(key):
			d.reportAt(at, member(path, key), "unknown key"+suggest(key, names))
		default:
			d.reportAt(at, member(path, key), "unknown key")
		}
	})
}

func (d *decoder) mapping(path string, node ast.Node, v reflect.Value) {
	entries := reflect.MakeMap(v.Type())
	d.pairs(path, node, func(key string, _ place, value ast.Node) {
		entry := newElement(v.Type().Elem().Elem())
		d.decode(member(path, key), value, entry.Elem())
		entries.SetMapIndex(reflect.ValueOf(key), entry)
	})
	v.Set(entries)
}

func (d *decoder) list(path string, node ast.Node, v reflect.Value) {
	sequence, is := node.(*ast.SequenceNode)
	if !is {
		d.report(path, "must be a list")
		return
	}
	elements := reflect.MakeSlice(v.Type(), 0, len(sequence.Values))
	for i, value := range sequence.Values {
		below := element(path, i)
		d.places[below] = placeOf(value)
		entry := newElement(v.Type().Elem())
		if value.Type() == ast.NullType {
			d.report(below, "must not be empty")
		}
		d.decode(below, value, entry.Elem())
		elements = reflect.Append(elements, entry.Elem())
	}
	v.Set(elements)
}

// newElement is a pointer to a new T with T's defaults.
func newElement(t reflect.Type) reflect.Value {
	v := reflect.New(t)
	if d, has := v.Interface().(interface{ setDefaults() }); has {
		d.setDefaults()
	}
	return v
}

// scalarForm says which scalars of YAML a field takes.
type scalarForm struct {
	want    string       // the fault of all others
	node    ast.NodeType // this type, besides strings
	strings bool         // strings as well; otherwise only those that a reference made
}

var (
	durations = scalarForm{"must be a duration such as 30s, 12h or 7d", ast.IntegerType, true}
	prefixes  = scalarForm{"must be an address range such as 10.0.0.0/8 or fd00::/8, with no bits set after the prefix", ast.StringType, true}
	texts     = scalarForm{"must be a string (put it in quotes)", ast.StringType, true}
	booleans  = scalarForm{"must be true or false", ast.BoolType, false}
	integers  = scalarForm{"must be a whole number", ast.IntegerType, false}
)

// scalar resolves the references in node and hands its text to store. A node
// of another form is a fault, as is what store returns false for.
func (d *decoder) scalar(path string, node ast.Node, form scalarForm, store func(text string) bool) {
	text, fits := stringValue(node)
	if fits {
		resolved, fault := d.source.resolve(text)
		if fault != "" {
			d.report(path, fault)
			return
		}
		// "true" in quotes is no boolean, but ${REMEMBER} may be one.
		fits = form.strings || refers(text)
		text = resolved
	} else if node.Type() == form.node {
		text, fits = node.GetToken().Value, true
	}
	if !fits || !store(text) {
		d.report(path, form.want)
	}
}

// stringValue is the text of a string node, plain, quoted or a block.
func stringValue(node ast.Node) (string, bool) {
	switch node := node.(type) {
	case *ast.StringNode:
		return node.Value, true
	case *ast.LiteralNode:
		return node.Value.Value, true
	}
	return "", false
}

// raw stores a mapping as JSON, or a string that is JSON already.
func (d *decoder) raw(path string, node ast.Node, v reflect.Value) {
	if text, is := stringValue(node); is {
		text, fault := d.source.resolve(text)
		if fault == "" && !json.Valid([]byte(text)) {
			fault = "must be a mapping, or JSON"
		}
		if fault != "" {
			d.report(path, fault)
			return
		}
		v.SetBytes([]byte(text))
		return
	}
	text, err := json.Marshal(d.any(path, node))
	if err != nil {
		d.report(path, "must be a mapping, or JSON")
		return
	}
	v.SetBytes(text)
}

// any is a YAML value as encoding/json takes it.
func (d *decoder) any(path string, node ast.Node) any {
	switch node := node.(type) {
	case *ast.MappingNode:
		object := map[string]any{}
		d.pairs(path, node, func(key string, _ place, value ast.Node) {
			object[key] = d.any(member(path, key), value)
		})
		return object
	case *ast.SequenceNode:
		array := make([]any, len(node.Values))
		for i, value := range node.Values {
			d.places[element(path, i)] = placeOf(value)
			array[i] = d.any(element(path, i), value)
		}
		return array
	case *ast.IntegerNode:
		return node.Value
	case *ast.FloatNode:
		return node.Value
	case *ast.BoolNode:
		return node.Value
	case *ast.NullNode:
		return nil
	}
	text, is := stringValue(node)
	if !is {
		d.report(path, "must be a value that JSON knows")
		return nil
	}
	text, fault := d.source.resolve(text)
	if fault != "" {
		d.report(path, fault)
	}
	return text
}
