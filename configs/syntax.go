package configs

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Limits on the shape of the file. The YAML parser recurses with depth, and a
// stack overflow could not even be recovered from; and it takes quadratic
// time in the keys of one mapping and in the entries without a value.
const (
	maxDepth = 32
	maxKeys  = 2000 // of one mapping in block style
	maxEmpty = 1000 // entries without a value, in block style
	maxComma = 50000
)

// syntax parses the file into its one document, nil if that is empty, and
// reports what is wrong with it as YAML, and the parts of YAML that a
// configuration must not use: anchors, aliases and merge keys (which let a
// small file grow without bound, and hide where a value comes from), tags,
// directives, explicit keys and further documents.
func (d *decoder) syntax() ast.Node {
	data := bytes.TrimPrefix(d.source.Data, []byte("\xef\xbb\xbf"))
	start := place{1, 1}
	switch {
	case len(data) > maxFile:
		d.reportAt(start, "", fmt.Sprintf("the file is larger than %d bytes", maxFile))
		return nil
	case !utf8.Valid(data) || bytes.IndexByte(data, 0) >= 0:
		d.reportAt(start, "", "the file is not text in UTF-8")
		return nil
	}
	tokens := lexer.Tokenize(string(data))
	d.shape(tokens)
	if len(d.faults) > 0 {
		return nil
	}
	// Duplicate keys are left to the decoder, which reports all of them.
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		d.reportAt(errorPlace(err), "", syntaxMessage(err))
		return nil
	}
	var root ast.Node
	for i, document := range file.Docs {
		if i > 0 && document.Body != nil {
			d.reportAt(placeOf(document.Body), "", "the file must be one YAML document")
			return nil
		}
		if i == 0 {
			root = document.Body
		}
	}
	return root
}

// refused are the tokens of YAML that a configuration must not use.
func refused(t token.Type) string {
	switch t {
	case token.AnchorType, token.AliasType, token.MergeKeyType:
		return "anchors, aliases and merge keys are not allowed (quote a value that begins with & or *)"
	case token.TagType:
		return "tags are not allowed (quote a value that begins with !)"
	case token.DirectiveType:
		return "directives are not allowed (quote a value that begins with %)"
	case token.MappingKeyType:
		return "explicit keys (?) are not allowed"
	}
	return ""
}

// shape walks the tokens before the parser recurses over them and reports
// refused ones, too deep nesting and too long mappings.
func (d *decoder) shape(tokens token.Tokens) {
	type level struct{ column, keys int }
	var block []level // the open block collections, by column
	flow := 0         // the open brackets
	empty, commas := 0, 0
	for i, t := range tokens {
		at := place{t.Position.Line, t.Position.Column}
		if message := refused(t.Type); message != "" {
			d.reportAt(at, "", message)
		}
		switch t.Type {
		case token.MappingStartType, token.SequenceStartType:
			flow++
		case token.MappingEndType, token.SequenceEndType:
			flow--
		case token.CollectEntryType:
			if commas++; commas > maxComma {
				d.reportAt(at, "", fmt.Sprintf("more than %d elements between brackets and braces", maxComma))
				return
			}
		case token.SequenceEntryType, token.MappingValueType:
			if flow > 0 {
				break
			}
			column := at.Column
			if t.Type == token.MappingValueType && t.Prev != nil && t.Prev.Position.Line == at.Line {
				column = t.Prev.Position.Column
			}
			for len(block) > 0 && block[len(block)-1].column > column {
				block = block[:len(block)-1]
			}
			if len(block) == 0 || block[len(block)-1].column < column {
				block = append(block, level{column: column})
			}
			block[len(block)-1].keys++
			if valueless(t, column, tokens[i+1:]) {
				empty++
			}
			if empty > maxEmpty {
				d.reportAt(at, "", fmt.Sprintf("more than %d entries have no value", maxEmpty))
				return
			}
			if t.Type == token.MappingValueType && block[len(block)-1].keys > maxKeys {
				d.reportAt(at, "", fmt.Sprintf("a mapping has more than %d keys", maxKeys))
				return
			}
		}
		if flow+len(block) > maxDepth {
			d.reportAt(at, "", fmt.Sprintf("nested deeper than %d levels", maxDepth))
			return
		}
	}
}

// valueless reports whether nothing follows an entry's dash or colon t before
// the next entry of its collection, which begins at column, or of one around
// it.
func valueless(t *token.Token, column int, following token.Tokens) bool {
	for _, next := range following {
		if next.Type == token.CommentType {
			continue
		}
		// The entries of a list may stand as far left as the key it belongs to.
		list := t.Type == token.MappingValueType && next.Type == token.SequenceEntryType && next.Position.Column == column
		return next.Position.Line > t.Position.Line && next.Position.Column <= column && !list
	}
	return true
}

// syntaxMessage is the parser's message without the parts of the file that
// some of them quote.
func syntaxMessage(err error) string {
	var detail yaml.Error
	if !errors.As(err, &detail) {
		return "not valid YAML"
	}
	message := detail.GetMessage()
	for _, quoting := range []string{"invalid header option", "found unknown escape character", "found invalid tag character"} {
		if strings.HasPrefix(message, quoting) {
			message = quoting
		}
	}
	if strings.Contains(message, `"`) {
		return "not valid YAML"
	}
	return "not valid YAML: " + message
}

func errorPlace(err error) place {
	var detail yaml.Error
	if errors.As(err, &detail) {
		if t := detail.GetToken(); t != nil && t.Position != nil {
			return place{t.Position.Line, t.Position.Column}
		}
	}
	return place{1, 1}
}

// placeOf is where a node begins. The parser gives a mapping the position of
// its first colon.
func placeOf(node ast.Node) place {
	if mapping, is := node.(*ast.MappingNode); is && !mapping.IsFlowStyle && len(mapping.Values) > 0 {
		node = mapping.Values[0].Key
	}
	if t := node.GetToken(); t != nil && t.Position != nil {
		return place{t.Position.Line, t.Position.Column}
	}
	return place{1, 1}
}
