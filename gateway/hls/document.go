package hls

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ErrNotDocument means that a body is no JSON object.
var ErrNotDocument = errors.New("not a JSON object")

// maxDocumentDepth bounds how deep the objects of a document are nested.
const maxDocumentDepth = 32

// HostParameter is the query parameter that names the host of a pathway. Players that clone a pathway add it to each URI.
const HostParameter = "_HLS_host"

// ParseDocument prepares a JSON document for all its viewers: an asset list (ASSETS[].URI) or a steering manifest
// (RELOAD-URI, the URIs of PATHWAY-CLONES). Every byte outside of these stays as it is, also in a document of another kind.
// A pathway's HOST would lead players past the gateway, with their ticket. It is replaced by a parameter whose value
// Options.Pathway gives.
//
// It returns [ErrNotDocument], [ErrTooLarge], or an error about unusable options.
func ParseDocument(body []byte, o Options) (*Template, error) {
	if len(body) > MaxBytes {
		return nil, fmt.Errorf("parse document: %w: %d bytes, MaxBytes=%d", ErrTooLarge, len(body), MaxBytes)
	}
	text := string(body)
	w, err := newRewriter(text, o)
	if err != nil {
		return nil, fmt.Errorf("parse document: %w", err)
	}
	d := document{json: json.NewDecoder(bytes.NewReader(body)), text: text}
	d.json.UseNumber()
	if err := d.scan(); err != nil {
		return nil, fmt.Errorf("parse document: %w: %w", ErrNotDocument, err)
	}
	slices.SortFunc(d.edits, func(a, b edit) int { return a.span.start - b.span.start })
	for _, e := range d.edits {
		w.apply(&e, d.text)
	}
	return w.buildTemplate(Info{}), nil
}

// document finds what is rewritten in a JSON document.
type document struct {
	json  *json.Decoder
	text  string
	path  []string // the keys that lead to the value that is read; an array's is "[]"
	edits []edit
}

// edit is a change of a document.
type edit struct {
	kind editKind
	// span is what is replaced: the text of a string without quotes, or nothing.
	span uriSpan
	// value is the URI, or the pathway's host.
	value string
}

type editKind uint8

const (
	// editURI rewrites a URI.
	editURI editKind = iota
	// editHost renames the key HOST.
	editHost
	// editParameters adds the object PARAMS before a key.
	editParameters
	// editParameter adds a pair at the beginning of an object.
	editParameter
)

// scan reads the whole text.
func (d *document) scan() error {
	first, err := d.json.Token()
	if err != nil {
		return err
	}
	if first != json.Delim('{') {
		return errors.New("want an object")
	}
	if err := d.object(); err != nil {
		return err
	}
	if d.json.More() {
		return errors.New("text behind the object")
	}
	return nil
}

// object reads an object whose opening brace was read.
func (d *document) object() error {
	if len(d.path) > maxDocumentDepth {
		return errors.New("nested too deep")
	}
	var clone replacement
	start := int(d.json.InputOffset())
	for d.json.More() {
		token, err := d.json.Token()
		if err != nil {
			return err
		}
		key, _ := token.(string)
		end := int(d.json.InputOffset())
		d.path = append(d.path, key)
		value, at, err := d.value()
		if err != nil {
			return err
		}
		d.path = d.path[:len(d.path)-1]
		if err := clone.record(d.text[:end], key, value, at); err != nil {
			return err
		}
	}
	if d.isAt("PATHWAY-CLONES", "[]", "URI-REPLACEMENT") && clone.host != "" {
		d.replaceHost(&clone, start)
	}
	_, err := d.json.Token()
	return err
}

// replacement is what a pathway's URI-REPLACEMENT says of its host.
type replacement struct {
	host string
	// keyEnd is where the key HOST ends, with its quote.
	keyEnd int
	// parameters is where the pairs of PARAMS begin; 0: there is no PARAMS.
	parameters int
}

// record notes a key and its value. text ends with the key, and at is where the value's content begins.
func (r *replacement) record(text, key string, value any, at int) error {
	switch key {
	case "HOST":
		if r.keyEnd > 0 || !strings.HasSuffix(text, `"HOST"`) {
			return errors.New("want HOST once, without escapes")
		}
		r.host, _ = value.(string)
		r.keyEnd = len(text)
	case "PARAMS":
		if value == json.Delim('{') {
			r.parameters = at
		}
	}
	return nil
}

// replaceHost replaces the host of a pathway by a parameter. start is where the pairs of its object begin.
func (d *document) replaceHost(r *replacement, start int) {
	at := func(offset int) uriSpan { return uriSpan{start: offset, end: offset} }
	d.edits = append(d.edits, edit{kind: editHost, span: uriSpan{start: r.keyEnd - len(`HOST"`), end: r.keyEnd - 1}})
	if r.parameters == 0 {
		d.edits = append(d.edits, edit{kind: editParameters, span: at(start), value: r.host})
		return
	}
	d.edits = append(d.edits, edit{kind: editParameter, span: at(r.parameters), value: r.host})
}

// value reads a value. It returns the string, or the delimiter that began the value, and where its text or its content
// begins.
func (d *document) value() (value any, at int, err error) {
	token, err := d.json.Token()
	if err != nil {
		return nil, 0, err
	}
	end := int(d.json.InputOffset())
	switch token := token.(type) {
	case json.Delim:
		if token == '{' {
			return token, end, d.object()
		}
		return token, end, d.array()
	case string:
		d.markURI(token, end)
		return token, end, nil
	}
	return nil, end, nil
}

// array reads an array whose opening bracket was read.
func (d *document) array() error {
	d.path = append(d.path, "[]")
	defer func() { d.path = d.path[:len(d.path)-1] }()
	if len(d.path) > maxDocumentDepth {
		return errors.New("nested too deep")
	}
	for d.json.More() {
		if _, _, err := d.value(); err != nil {
			return err
		}
	}
	_, err := d.json.Token()
	return err
}

// markURI marks a string that is a URI. end is where it ends, with its quote.
func (d *document) markURI(value string, end int) {
	role := Playlist
	switch {
	case d.isAt("ASSETS", "[]", "URI"):
	case d.isAt("RELOAD-URI"):
		role = Document
	case d.isBelow("PATHWAY-CLONES", "[]", "URI-REPLACEMENT", "PER-VARIANT-URIS"),
		d.isBelow("PATHWAY-CLONES", "[]", "URI-REPLACEMENT", "PER-RENDITION-URIS"):
	default:
		return
	}
	start := end - 1
	for start--; d.text[start] != '"' || isEscaped(d.text, start); start-- {
	}
	d.edits = append(d.edits, edit{span: uriSpan{start: start + 1, end: end - 1, within: inJSON, role: role}, value: value})
}

// isEscaped reports whether the quote at an offset is part of a string.
func isEscaped(text string, quote int) bool {
	backslashes := 0
	for quote--; quote >= 0 && text[quote] == '\\'; quote-- {
		backslashes++
	}
	return backslashes%2 == 1
}

func (d *document) isAt(path ...string) bool { return slices.Equal(d.path, path) }

// isBelow reports whether the value is directly in the object at a path.
func (d *document) isBelow(path ...string) bool {
	return len(d.path) == len(path)+1 && slices.Equal(d.path[:len(path)], path)
}

// apply makes one change.
func (w *rewriter) apply(e *edit, text string) {
	switch e.kind {
	case editURI:
		w.rewriteText(e.value, e.span, false)
	case editHost:
		w.replaceURI(e.span, "X-HOST")
	default:
		value := ""
		if w.options.Pathway != nil {
			value = w.options.Pathway(e.value)
		}
		if value == "" {
			return
		}
		pair := strconv.Quote(HostParameter) + ":" + strconv.Quote(value)
		if e.kind == editParameters {
			pair = `"PARAMS":{` + pair + "}"
		}
		w.replaceURI(e.span, pair+separatorBefore(text[e.span.start:]))
	}
}

// separatorBefore returns the comma that separates a pair from what follows it in an object, if anything does.
func separatorBefore(rest string) string {
	for i := range len(rest) {
		switch rest[i] {
		case ' ', '\t', '\r', '\n':
		case '}':
			return ""
		default:
			return ","
		}
	}
	return ""
}
