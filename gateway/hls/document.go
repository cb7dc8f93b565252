package hls

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// ErrNotDocument means that a body is no JSON object.
var ErrNotDocument = errors.New("not a JSON object")

// HostParameter is the query parameter that tells the host and the parameters of a pathway. Players that clone a pathway add it
// to each URI.
const HostParameter = "_HLS_host"

// ParseDocument prepares a JSON document for all its viewers: an asset list (ASSETS[].URI), a schedule of date ranges (DATERANGES), or a
// steering manifest (RELOAD-URI, the URIs of PATHWAY-CLONES). Every byte outside of these stays as it is, also in a document of another kind.
// A pathway's HOST would lead players past the gateway, with their ticket. It is replaced by a parameter whose value
// Options.Pathway gives, and which tells PARAMS too, because a gateway cannot tell these from other parameters.
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
	d := document{text: text}
	root := d.valueAt(len(text) - len(strings.TrimPrefix(text, byteOrderMark)))
	if !json.Valid(body[root.start:]) || text[root.start] != '{' {
		return nil, fmt.Errorf("parse document: %w", ErrNotDocument)
	}
	d.scan(root)
	slices.SortFunc(d.edits, func(a, b edit) int { // what is added goes before what it is added to
		return cmp.Or(a.span.start-b.span.start, a.span.end-b.span.end)
	})
	for _, e := range d.edits {
		w.apply(&e)
		if w.isTooLarge() {
			return nil, fmt.Errorf("parse document: %w: template beyond twice MaxBytes=%d", ErrTooLarge, MaxBytes)
		}
	}
	return w.buildTemplate(Info{}), nil
}

// document finds what is rewritten in a text of valid JSON.
type document struct {
	text  string
	edits []edit
}

// edit is a change of a document.
type edit struct {
	kind editKind
	// span is what is replaced: the content of a string, a value, or nothing.
	span uriSpan
	// value is the URI, or the pathway's host.
	value string
	// query are the pathway's parameters.
	query string
	// key is that of the URI of the next manifest.
	key jsonSpan
}

type editKind uint8

const (
	// editURI rewrites a URI.
	editURI editKind = iota
	// editReloadURI rewrites that of the next manifest. If it leads away from the gateway its key is renamed.
	editReloadURI
	// editHostKey renames the key HOST.
	editHostKey
	// addParameters adds the object PARAMS at the beginning of an object.
	addParameters
	// setParameters replaces a PARAMS that is no object.
	setParameters
	// addParameter adds a pair at the end of PARAMS. There it wins over one of the same name.
	addParameter
)

// jsonSpan locates a value.
type jsonSpan struct{ start, end int }

// scan finds what is rewritten.
func (d *document) scan(root jsonSpan) {
	d.eachMember(root, func(key string, at, value jsonSpan) {
		switch key {
		case "ASSETS":
			d.eachObject(value, func(key string, _, value jsonSpan) {
				if key == "URI" {
					d.markURI(value, uriSpan{role: Playlist, standsAlone: true})
				}
			})
		case "DATERANGES":
			d.eachElement(value, d.markDateRange)
		case "RELOAD-URI":
			if d.markURI(value, uriSpan{role: Document, imports: importsInherited}) {
				last := &d.edits[len(d.edits)-1]
				last.kind, last.key = editReloadURI, at
			}
		case "PATHWAY-CLONES":
			d.eachObject(value, func(key string, _, value jsonSpan) {
				if key == "URI-REPLACEMENT" {
					d.markReplacement(value)
				}
			})
		}
	})
}

// markDateRange marks what is rewritten in a date range of a schedule.
func (d *document) markDateRange(object jsonSpan) {
	class := ""
	d.eachMember(object, func(key string, _, value jsonSpan) {
		if key == "CLASS" {
			class, _ = d.stringAt(value)
		}
	})
	uris := dateRangeURIs(class)
	d.eachMember(object, func(key string, _, value jsonSpan) {
		if i := slices.IndexFunc(uris, func(u uriAttribute) bool { return u.name == key }); i >= 0 {
			d.markURI(value, uriSpan{role: uris[i].role, standsAlone: true})
		}
	})
}

// markReplacement marks what is rewritten in a pathway's URI-REPLACEMENT. Of several members of the same name, players
// read the last.
func (d *document) markReplacement(object jsonSpan) {
	host, query, parameters := "", "", jsonSpan{}
	var own []int // the edits of URIs to which HOST does not apply
	d.eachMember(object, func(name string, key, value jsonSpan) {
		switch name {
		case "HOST":
			d.edits = append(d.edits, edit{kind: editHostKey, span: uriSpan{start: key.start, end: key.end}})
			host, _ = d.stringAt(value)
		case "PARAMS":
			parameters, query = value, d.queryOf(value)
		case "PER-VARIANT-URIS", "PER-RENDITION-URIS":
			d.eachMember(value, func(_ string, _, value jsonSpan) {
				if d.markURI(value, uriSpan{role: Playlist, imports: importsInherited, standsAlone: true}) {
					own = append(own, len(d.edits)-1)
				}
			})
		}
	})
	if host == "" && query == "" {
		return
	}
	for _, i := range own {
		d.edits[i].span.keepsHost = host != ""
	}
	e := edit{kind: addParameters, value: host, query: query, span: uriSpan{start: object.start + 1, end: object.start + 1}}
	switch {
	case parameters.end == 0:
	case d.text[parameters.start] == '{':
		e.kind, e.span.start, e.span.end = addParameter, parameters.end-1, parameters.end-1
	default:
		e.kind, e.span.start, e.span.end = setParameters, parameters.start, parameters.end
	}
	d.edits = append(d.edits, e)
}

// queryOf returns the members of PARAMS that are strings, as a query.
func (d *document) queryOf(parameters jsonSpan) string {
	var pairs []string
	d.eachMember(parameters, func(name string, _, value jsonSpan) {
		if text, isString := d.stringAt(value); isString && name != HostParameter {
			pairs = append(pairs, url.QueryEscape(name)+"="+url.QueryEscape(text))
		}
	})
	return strings.Join(pairs, "&")
}

// markURI marks a string that is a URI, and reports whether it is one. like says what it is. A string that is no text stays unchanged.
func (d *document) markURI(value jsonSpan, like uriSpan) bool {
	uri, isString := d.stringAt(value)
	if !isString || strings.ContainsRune(uri, utf8.RuneError) {
		return false
	}
	like.start, like.end, like.within = value.start+1, value.end-1, inJSON
	d.edits = append(d.edits, edit{span: like, value: uri})
	return true
}

// apply makes one change.
func (w *rewriter) apply(e *edit) {
	switch e.kind {
	case editURI:
		w.rewrite(e.value, e.span)
		return
	case editReloadURI:
		if w.rewrite(e.value, e.span) {
			w.replaceURI(uriSpan{start: e.key.start, end: e.key.end}, `"X-RELOAD-URI"`)
		}
		return
	case editHostKey:
		w.replaceURI(e.span, `"X-HOST"`)
		return
	}
	value := ""
	if w.options.Pathway != nil {
		value = w.options.Pathway(e.value, e.query)
	}
	if value == "" {
		return
	}
	pair := quoteJSON(HostParameter) + ":" + quoteJSON(value)
	switch e.kind {
	case addParameters: // before HOST, so that the object is not empty
		pair = `"PARAMS":{` + pair + "},"
	case setParameters:
		pair = "{" + pair + "}"
	default:
		if !strings.HasSuffix(strings.TrimRight(w.text[:e.span.start], jsonSpace), "{") {
			pair = "," + pair
		}
	}
	w.replaceURI(e.span, pair)
}

// quoteJSON returns a text as a JSON string.
func quoteJSON(text string) string {
	quoted, _ := json.Marshal(text) // never fails for a string
	return string(quoted)
}
