package hls

import (
	"errors"
	"slices"
	"strings"
)

// errParameter reports that TicketInQuery has no parameter name.
var errParameter = errors.New("Options.QueryParameter is empty, and TicketInQuery requires it")

// rewriter builds a Template. It copies the playlist up to each URI and writes the viewer's URI in its place.
type rewriter struct {
	text    string
	copied  int // text[:copied] is in out already
	out     []byte
	tickets []insertion // offsets are in out
	scopes  []string
	// scopeNumbers are the positions in scopes, counted from 1.
	scopeNumbers map[string]int32

	options Options
	origin  playlistOrigin
	// requestBase is the path of the viewer's request, which relative URIs are resolved against.
	requestBase   base
	variables     variables
	listedQueries []string
}

// reference is a URI of the playlist, resolved.
type reference struct {
	written  string // as the playlist has it
	expanded string // with its variables replaced by their values
	fragment string // the end of expanded, from the number sign
	form     uriForm
	// target is the viewer's path and query for it, without ticket.
	target string
	// resolvesToTarget reports that the unchanged URI, resolved against the path of the viewer's request, gives target.
	resolvesToTarget bool
	// ticket is the ticket that the target needs, as in insertion.
	ticket int32
	// climbsAboveRoot reports that it does so only because dot segments above the root are dropped.
	climbsAboveRoot bool
}

// newRewriter returns a rewriter of text.
func newRewriter(text string, o Options) (*rewriter, error) {
	from, err := newOrigin(o.Origin, o.SameOrigin)
	if err != nil {
		return nil, err
	}
	if o.TicketIn == TicketInQuery && o.QueryParameter == "" {
		return nil, errParameter
	}
	if o.Locate == nil {
		o.Locate = func(string) (string, bool) { return "", false }
	}
	w := &rewriter{text: text, options: o, origin: from, requestBase: newBase(o.Path)}
	w.out = make([]byte, 0, len(text)+len(text)/2)
	return w, nil
}

// buildTemplate copies the rest of the text and returns the template.
func (w *rewriter) buildTemplate(info Info) *Template {
	w.copyTo(len(w.text))
	slices.Sort(w.listedQueries)
	return &Template{
		body: slices.Clip(w.out), tickets: w.tickets, scopes: w.scopes, info: info,
		listedQueries: slices.Clip(slices.Compact(w.listedQueries)),
	}
}

// rewrite replaces a URI of the playlist by the viewer's, or leaves it unchanged.
func (w *rewriter) rewrite(span uriSpan) {
	ref, ok := w.resolveReference(w.text[span.start:span.end], span.within)
	if !ok {
		return
	}
	switch w.options.TicketIn {
	case TicketInQuery:
		w.writeTicketInQuery(span, &ref)
	case TicketInCookie:
		if !ref.resolvesToTarget {
			w.writeWithoutTicket(span, &ref)
		}
	case TicketInNone:
		if !span.isPlaylist && !isPlaylist(ref.expanded) {
			w.writeWithoutTicket(span, &ref)
			return
		}
		w.writeBelowTicket(span, &ref)
	default:
		w.writeBelowTicket(span, &ref)
	}
}

// writeWithoutTicket writes the reference from the root.
func (w *rewriter) writeWithoutTicket(span uriSpan, ref *reference) {
	w.replaceURI(span, ref.withVariables(asRootedReference(ref.target)+ref.fragment))
}

// writeBelowTicket writes the reference so that it leads below "/~<ticket>". A playlist that was itself requested there
// needs relative references only.
func (w *rewriter) writeBelowTicket(span uriSpan, ref *reference) {
	switch {
	case !w.options.UnderTicket, ref.ticket != 0:
		w.writeTicketInPath(span, ref)
	case ref.form != relative || !ref.resolvesToTarget || ref.climbsAboveRoot:
		w.replaceURI(span, ref.withVariables(w.requestBase.relative(ref.target)+ref.fragment))
	}
}

// resolveReference returns where a URI leads. False means that no route serves it or that it must stay unchanged.
func (w *rewriter) resolveReference(uri string, within uriContext) (reference, bool) {
	ref := reference{written: uri}
	expanded, ok := w.variables.expand(uri)
	if !ok || !isWritable(expanded, within) {
		return ref, false
	}
	ref.expanded = expanded
	expanded, ref.fragment = cutFragment(expanded)
	var rest string
	if ref.form, rest = w.origin.classify(expanded); ref.form == foreign {
		return ref, false
	}
	source, _ := w.origin.resolve(rest)
	target, ok := w.options.Locate(source)
	if !ok || !strings.HasPrefix(target, "/") || strings.Contains(target, "#") || !isWritable(target, within) {
		return ref, false
	}
	ref.target = target
	if ref.form != absolute {
		ref.resolvesToTarget, ref.climbsAboveRoot = w.requestBase.resolvesTo(rest, target)
	}
	w.recordQuery(source)
	ref.ticket = w.ticketFor(target)
	return ref, true
}

// ticketFor returns the ticket that a target needs, as in insertion.
func (w *rewriter) ticketFor(target string) int32 {
	if w.options.TicketScope == nil {
		return 0
	}
	scope := w.options.TicketScope(target)
	if scope == "" {
		return 0
	}
	number, found := w.scopeNumbers[scope]
	if !found {
		if w.scopeNumbers == nil {
			w.scopeNumbers = map[string]int32{}
		}
		w.scopes = append(w.scopes, scope)
		number = int32(len(w.scopes))
		w.scopeNumbers[scope] = number
	}
	return number
}

// recordQuery records a reference on the origin if it has a query, in the form in which the viewer's request returns it.
func (w *rewriter) recordQuery(source string) {
	if w.options.TicketIn == TicketInQuery {
		source = withoutParameter(source, w.options.QueryParameter)
	}
	if strings.Contains(source, "?") {
		w.listedQueries = append(w.listedQueries, source)
	}
}

// writeTicketInPath writes the reference after "/~<ticket>".
func (w *rewriter) writeTicketInPath(span uriSpan, ref *reference) {
	w.replaceURI(span, "/~")
	w.markTicket(ref)
	if ref.form == relative {
		w.out = append(w.out, ref.withVariables(ref.target+ref.fragment)...)
		return
	}
	w.out = append(append(w.out, ref.target...), ref.fragment...)
}

// writeTicketInQuery writes the reference with the ticket as a query parameter.
func (w *rewriter) writeTicketInQuery(span uriSpan, ref *reference) {
	uri := asRootedReference(ref.target)
	if ref.resolvesToTarget {
		uri = ref.expanded[:len(ref.expanded)-len(ref.fragment)]
	}
	if ref.fragment == "" && !hasParameter(uri, w.options.QueryParameter) {
		// The parameter comes last, so everything before it may keep its variables.
		w.replaceURI(span, ref.withVariables(uri))
		w.out = append(w.out, querySeparator(uri)...)
		w.out = append(append(w.out, w.options.QueryParameter...), '=')
		w.markTicket(ref)
		return
	}
	whole := uri + ref.fragment
	if restored := ref.withVariables(whole); restored[indexOrEnd(restored, "?#"):] == whole[indexOrEnd(whole, "?#"):] {
		uri = restored[:len(restored)-len(ref.fragment)] // all its variables are in the path
	}
	before, after := splitAtParameter(uri, w.options.QueryParameter)
	w.replaceURI(span, before)
	w.markTicket(ref)
	w.out = append(append(w.out, after...), ref.fragment...)
}

// replaceURI copies the playlist up to the span and writes uri instead of the span.
func (w *rewriter) replaceURI(span uriSpan, uri string) {
	w.copyTo(span.start)
	w.copied = span.end
	w.out = append(w.out, uri...)
}

// copyTo copies the playlist up to an offset.
func (w *rewriter) copyTo(offset int) {
	w.out = append(w.out, w.text[w.copied:offset]...)
	w.copied = offset
}

// markTicket marks the current end of the output as the offset of the reference's ticket.
func (w *rewriter) markTicket(ref *reference) {
	w.tickets = append(w.tickets, insertion{int32(len(w.out)), ref.ticket})
}

// withVariables returns uri with the playlist's own variables where their text is unchanged. A URI that began with a root
// or a host keeps the values instead once something is written before it.
func (r *reference) withVariables(uri string) string {
	switch {
	case r.written == r.expanded:
		return uri
	case uri == r.expanded:
		return r.written
	case r.form == relative && strings.HasSuffix(uri, r.expanded):
		return uri[:len(uri)-len(r.expanded)] + r.written
	default:
		return uri
	}
}

// asRootedReference returns a viewer's path as a reference from the root. A path that begins with two slashes would name
// a host, and so might an unknown variable; "/." before it prevents that.
func asRootedReference(target string) string {
	if strings.HasPrefix(target, "//") || strings.HasPrefix(target, "/{$") {
		return "/." + target
	}
	return target
}

// isPlaylist reports whether a URI's path has the extension of a playlist.
func isPlaylist(uri string) bool {
	path := uri[:indexOrEnd(uri, "?#")]
	for _, end := range [...]string{".m3u8", ".m3u"} {
		if len(path) >= len(end) && strings.EqualFold(path[len(path)-len(end):], end) {
			return true
		}
	}
	return false
}

// isWritable reports whether a URI can be written in the context: no character ends the line, the quotes or the value,
// and none is a control character, which players drop.
func isWritable(uri string, within uriContext) bool {
	for i := range len(uri) {
		switch c := uri[i]; {
		case c < ' ' || c == 0x7f:
			return false
		case c == '"' && within != inLine, c == ',' && within == inUnquotedValue:
			return false
		}
	}
	return true
}
