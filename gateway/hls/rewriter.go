package hls

import (
	"errors"
	"slices"
	"strings"
)

// errParameter reports that TicketInQuery has no parameter name.
var errParameter = errors.New("Options.QueryParameter is empty, and TicketInQuery requires it")

// rewriter builds a Template. It copies the text up to each URI and writes the viewer's URI in its place.
type rewriter struct {
	text   string
	copied int // text[:copied] is in out already
	out    []byte
	// inserts are what a viewer's copy has besides out, servers how many of them are no tickets.
	inserts []insert
	servers int

	options Options
	origin  playlistOrigin
	// requestBase is the path of the viewer's request, which relative URIs are resolved against.
	requestBase base
	definitions definitions
	// encoded are the variables that are told to listed playlists; isEncoded reports that they are current.
	encoded   string
	isEncoded bool
}

// resolved is a URI of the text, resolved.
type resolved struct {
	expanded string // with its variables replaced by their values
	fragment string // the end of expanded, from the number sign
	form     uriForm
	// target is the viewer's path and query for it, without ticket.
	target string
	// resolvesToTarget reports that the unchanged URI, resolved against the path of the viewer's request, gives target.
	resolvesToTarget bool
	// climbsAboveRoot reports that it does so only because dot segments above the root are dropped.
	climbsAboveRoot bool
}

// newRewriter returns a rewriter of text.
func newRewriter(text string, o Options) (*rewriter, error) {
	from, err := newOrigin(o.Origin)
	if err != nil {
		return nil, err
	}
	if o.TicketIn == TicketInQuery && o.QueryParameter == "" {
		return nil, errParameter
	}
	if o.Locate == nil {
		o.Locate = func(Listed) (string, bool) { return "", false }
	}
	w := &rewriter{text: text, options: o, origin: from, requestBase: newBase(o.Path)}
	inherited, isMarked := strings.CutPrefix(strings.TrimPrefix(o.Variables, keepsHost), viewersQuery)
	w.options.Variables = inherited
	w.definitions = definitions{query: o.Query, isViewersQuery: o.IsViewersQuery || isMarked, imported: decodeVariables(inherited)}
	w.out = make([]byte, 0, len(text)+len(text)/2)
	return w, nil
}

// buildTemplate copies the rest of the text and returns the template.
func (w *rewriter) buildTemplate(info Info) *Template {
	w.copyTo(len(w.text))
	return &Template{body: slices.Clip(w.out), inserts: w.inserts, servers: w.servers, info: info}
}

// define reads an EXT-X-DEFINE.
func (w *rewriter) define(list attributes) {
	w.definitions.define(list)
	w.isEncoded = false
}

// isTooLarge reports that the output exceeds its bound.
func (w *rewriter) isTooLarge() bool { return len(w.out) > 2*MaxBytes }

// rewrite replaces the text of a span by the viewer's URI, or leaves it unchanged. JSON may write the uri with escapes. It reports whether
// the URI leads away from the gateway, since it stays unchanged and has a host or another scheme.
func (w *rewriter) rewrite(uri string, span uriSpan) (leadsAway bool) {
	var ref resolved
	if !w.resolve(uri, &span, &ref) {
		written, _ := cutFragment(uri)
		form, _, _ := w.origin.locate(written)
		return written != "" && (form == opaque || form == absolute)
	}
	span.standsAlone = span.standsAlone && ref.form == absolute
	switch w.options.TicketIn {
	case TicketInQuery:
		w.writeTicketInQuery(span, &ref)
	case TicketInCookie:
		if !ref.resolvesToTarget {
			w.writeWithoutTicket(span, &ref)
		}
	case TicketInNone:
		if span.role != Playlist && span.role != Document {
			w.writeWithoutTicket(span, &ref)
			return false
		}
		w.writeBelowTicket(span, &ref)
	default:
		w.writeBelowTicket(span, &ref)
	}
	return false
}

// writeWithoutTicket writes the reference from the root.
func (w *rewriter) writeWithoutTicket(span uriSpan, ref *resolved) {
	w.replaceURI(span, asRootedReference(ref.target)+ref.fragment)
}

// writeBelowTicket writes the reference so that it leads below "/~<ticket>". A playlist that was itself requested there
// needs relative references only, but for those that stand alone.
func (w *rewriter) writeBelowTicket(span uriSpan, ref *resolved) {
	switch {
	case !w.options.UnderTicket || span.standsAlone:
		w.replaceURI(span, "/~")
		w.markTicket()
		w.out = append(append(w.out, ref.target...), ref.fragment...)
	case ref.form > relative || !ref.resolvesToTarget || ref.climbsAboveRoot:
		w.replaceURI(span, w.requestBase.relative(ref.target)+ref.fragment)
	}
}

// viewersQuery precedes the variables that are told to a playlist if a viewer chose some of the query of its URI, of which it may take
// variables too. It is no beginning of what encode writes.
const viewersQuery = "?"

// keepsHost precedes the variables that are told to a playlist, and that, if a pathway clone has the playlist in the place of its variant's
// or rendition's. The clone's HOST does not apply to it, and some players add the clone's PARAMS.
const keepsHost = "!"

// KeepsHost reports whether the host of a pathway does not apply to a playlist that was told these variables.
func KeepsHost(variables string) bool { return strings.HasPrefix(variables, keepsHost) }

// resolve fills in where a URI leads. False means that it must stay unchanged.
func (w *rewriter) resolve(uri string, span *uriSpan, ref *resolved) bool {
	expanded, ok := w.definitions.known.expand(uri)
	if !ok || !isWritable(expanded.text, span.within) || !expanded.isConfined() {
		return false
	}
	ref.expanded = expanded.text
	var at location
	var written, rest string
	written, ref.fragment = cutFragment(ref.expanded)
	if ref.form, at, rest = w.origin.locate(written); ref.form == opaque {
		return false
	}
	if ref.target, ok = w.locate(at, span, &expanded); !ok || !isWritable(ref.target, span.within) {
		return false
	}
	switch {
	case ref.form == absolute || ref.expanded != uri: // a player may know other values of the variables
	case ref.form == plain:
		below, isBelow := strings.CutPrefix(ref.target, w.requestBase.dir)
		ref.resolvesToTarget = isBelow && below == rest
	default:
		ref.resolvesToTarget, ref.climbsAboveRoot = w.requestBase.resolvesTo(rest, ref.target)
	}
	return true
}

// locate returns what is written for a URI that leads there. False means that nothing can be.
func (w *rewriter) locate(at location, span *uriSpan, uri *value) (target string, ok bool) {
	listed := Listed{
		Role: span.role, Scheme: at.scheme, Host: at.host, Ref: at.ref,
		Version: span.version, MayGrow: span.mayGrow, Variables: w.variablesFor(span.imports),
	}
	if listed.Role == Playlist && uri.hasViewersQuery() {
		listed.Variables = viewersQuery + listed.Variables
	}
	if span.keepsHost {
		listed.Variables = keepsHost + listed.Variables
	}
	target, ok = w.options.Locate(listed)
	return target, ok && strings.HasPrefix(target, "/") && !strings.Contains(target, "#")
}

// variablesFor returns what a listed playlist may import.
func (w *rewriter) variablesFor(source importSource) string {
	switch source {
	case importsOwn:
		if !w.isEncoded {
			w.encoded, w.isEncoded = w.definitions.known.encode(), true
		}
		return w.encoded
	case importsInherited:
		return w.options.Variables
	default:
		return ""
	}
}

// writeTicketInQuery writes the reference with the ticket as a query parameter.
func (w *rewriter) writeTicketInQuery(span uriSpan, ref *resolved) {
	uri := asRootedReference(ref.target)
	if ref.resolvesToTarget {
		uri = ref.expanded[:len(ref.expanded)-len(ref.fragment)]
	}
	name, after := w.options.QueryParameter, ""
	if hasParameter(uri, name) {
		uri, after = splitAtParameter(uri, name)
		w.replaceURI(span, uri)
	} else {
		w.replaceURI(span, uri)
		w.out = append(append(append(w.out, querySeparator(uri)...), name...), '=')
	}
	w.markTicket()
	w.out = append(append(w.out, after...), ref.fragment...)
}

// replaceURI copies the text up to the span and writes uri, which begins with a slash if it stands alone, instead of the span.
func (w *rewriter) replaceURI(span uriSpan, uri string) {
	w.copyTo(span.start)
	w.copied = span.end
	if span.standsAlone {
		w.inserts = append(w.inserts, insert{int32(len(w.out)), true})
		w.servers++
	}
	w.out = append(w.out, uri...)
}

// copyTo copies the text up to an offset.
func (w *rewriter) copyTo(offset int) {
	w.out = append(w.out, w.text[w.copied:offset]...)
	w.copied = offset
}

// markTicket marks the current end of the output as the offset of a ticket.
func (w *rewriter) markTicket() { w.inserts = append(w.inserts, insert{int32(len(w.out)), false}) }

// asRootedReference returns a viewer's path as a reference from the root. A path that begins with two slashes would name
// a host, and so might an unknown variable; "/." before it prevents that.
func asRootedReference(target string) string {
	if strings.HasPrefix(target, "//") || strings.HasPrefix(target, "/{$") {
		return "/." + target
	}
	return target
}

// isWritable reports whether a URI can be written in the context: no character ends the line, the quotes or the value,
// and none is a control character or a blank at the end, which players drop.
func isWritable(uri string, within uriContext) bool {
	for i := range len(uri) {
		switch c := uri[i]; {
		case c < ' ' || c == 0x7f:
			return false
		case c == '"' && within != inLine, c == ',' && within == inUnquotedValue, c == '\\' && within == inJSON:
			return false
		}
	}
	return !strings.HasSuffix(uri, " ")
}
