package hls

import (
	"errors"
	"slices"
	"strings"
)

// errParameter is the one thing that TicketInQuery cannot do without.
var errParameter = errors.New("Options.Parameter is empty: CarryQuery needs a name")

// rewriter builds a template: it copies the playlist up to each URI and writes the viewer's URI in its place.
type rewriter struct {
	text   string
	copied int // text[:copied] is in out already
	out    []byte
	cuts   []int32

	options   Options
	origin    origin
	viewer    base
	variables variables
	queried   []string
}

// reference is a URI of the playlist and where it leads.
type reference struct {
	written  string // as the playlist has it
	expanded string // with its variables put in
	fragment string // the end of expanded, from the number sign
	form     form
	// target is the viewer's path and query for it, without ticket.
	target string
	// resolves says that the URI leads to target by itself, resolved against the viewer's path; climbs, that it does so
	// only because nothing is above the root.
	resolves, climbs bool
}

// newRewriter prepares the rewriting of text.
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
	w := &rewriter{text: text, options: o, origin: from, viewer: newBase(o.Path)}
	w.out = make([]byte, 0, len(text)+len(text)/2)
	return w, nil
}

// template is what has been built, together with the rest of the text.
func (w *rewriter) template(info Info) *Template {
	w.copyTo(len(w.text))
	slices.Sort(w.queried)
	return &Template{
		body: slices.Clip(w.out), cuts: w.cuts, info: info,
		queried: slices.Clip(slices.Compact(w.queried)),
	}
}

// rewrite writes the viewer's URI in place of the playlist's, or leaves it to be copied as it is.
func (w *rewriter) rewrite(p place) {
	uri := w.text[p.start:p.end]
	ref, ok := w.locate(uri, p.within)
	if !ok {
		return
	}
	switch {
	case w.options.TicketIn == TicketInQuery:
		w.intoQuery(p, &ref)
	case w.options.TicketIn == TicketInCookie:
		if !ref.resolves {
			w.replace(p, ref.spell(bare(ref.target)+ref.fragment))
		}
	case w.options.TicketIn == TicketInNone && !p.playlist && !isPlaylist(ref.expanded):
		w.replace(p, ref.spell(bare(ref.target)+ref.fragment))
	case !w.options.UnderTicket:
		w.intoPath(p, &ref)
	case ref.form != relative || !ref.resolves || ref.climbs:
		w.replace(p, ref.spell(w.viewer.relative(ref.target)+ref.fragment))
	}
}

// locate finds out where a URI leads. It is false if the URI is none of ours.
func (w *rewriter) locate(uri string, within context) (reference, bool) {
	ref := reference{written: uri}
	expanded, ok := w.variables.expand(uri)
	if !ok || !writable(expanded, within) {
		return ref, false
	}
	ref.expanded = expanded
	expanded, ref.fragment = cutFragment(expanded)
	var rest string
	if ref.form, rest = w.origin.split(expanded); ref.form == foreign {
		return ref, false
	}
	source, _ := w.origin.resolve(rest)
	target, ok := w.options.Locate(source)
	if !ok || !strings.HasPrefix(target, "/") || strings.Contains(target, "#") || !writable(target, within) {
		return ref, false
	}
	ref.target = target
	if ref.form != absolute {
		ref.resolves, ref.climbs = w.viewer.resolvesTo(rest, target)
	}
	w.query(source)
	return ref, true
}

// query notes a reference on the origin if it has a query, as the viewer's request will bring it back.
func (w *rewriter) query(source string) {
	if w.options.TicketIn == TicketInQuery {
		source = withoutParameter(source, w.options.QueryParameter)
	}
	if strings.Contains(source, "?") {
		w.queried = append(w.queried, source)
	}
}

// intoPath writes the reference below the ticket.
func (w *rewriter) intoPath(p place, ref *reference) {
	w.replace(p, "/~")
	w.cut()
	if ref.form == relative {
		w.out = append(w.out, ref.spell(ref.target+ref.fragment)...)
		return
	}
	w.out = append(append(w.out, ref.target...), ref.fragment...)
}

// intoQuery writes the reference with the ticket as a parameter.
func (w *rewriter) intoQuery(p place, ref *reference) {
	uri := bare(ref.target)
	if ref.resolves {
		uri = ref.expanded[:len(ref.expanded)-len(ref.fragment)]
	}
	if ref.fragment == "" && !hasParameter(uri, w.options.QueryParameter) {
		// The parameter comes last, so all that stands before it may keep its variables.
		joint := joint(uri)
		w.replace(p, ref.spell(uri))
		w.out = append(w.out, joint...)
		w.out = append(append(w.out, w.options.QueryParameter...), '=')
		w.cut()
		return
	}
	whole := uri + ref.fragment
	if spelled := ref.spell(whole); spelled[ending(spelled, "?#"):] == whole[ending(whole, "?#"):] {
		uri = spelled[:len(spelled)-len(ref.fragment)] // all its variables stand in the path
	}
	before, after := splitAtParameter(uri, w.options.QueryParameter)
	w.replace(p, before)
	w.cut()
	w.out = append(append(w.out, after...), ref.fragment...)
}

// replace copies the playlist up to the place and writes uri instead of what stands there.
func (w *rewriter) replace(p place, uri string) {
	w.copyTo(p.start)
	w.copied = p.end
	w.out = append(w.out, uri...)
}

// copyTo copies the playlist up to an offset.
func (w *rewriter) copyTo(offset int) {
	w.out = append(w.out, w.text[w.copied:offset]...)
	w.copied = offset
}

// cut leaves the gap for the ticket here.
func (w *rewriter) cut() { w.cuts = append(w.cuts, int32(len(w.out))) }

// spell gives uri with the variables that the playlist wrote, where they stand in it unchanged. A URI that named root or
// host keeps their values once something stands before it.
func (r *reference) spell(uri string) string {
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

// bare gives a viewer's path as a rooted reference. One that begins with two slashes would name a host, and so might a
// variable that is not known.
func bare(target string) string {
	if strings.HasPrefix(target, "//") || strings.HasPrefix(target, "/{$") {
		return "/." + target
	}
	return target
}

// isPlaylist reports whether a URI's path ends as playlists' do.
func isPlaylist(uri string) bool {
	path := uri[:ending(uri, "?#")]
	for _, end := range [...]string{".m3u8", ".m3u"} {
		if len(path) >= len(end) && strings.EqualFold(path[len(path)-len(end):], end) {
			return true
		}
	}
	return false
}

// writable reports whether a URI may stand where it is to be written: nothing in it ends the line, the quotes or the
// value, and nothing in it is dropped by those who read it.
func writable(uri string, within context) bool {
	for i := range len(uri) {
		switch c := uri[i]; {
		case c < ' ' || c == 0x7f:
			return false
		case c == '"' && within != onLine, c == ',' && within == inValue:
			return false
		}
	}
	return true
}
