package hls

import "slices"

// Template is a playlist with its URIs rewritten and a gap wherever the viewer's ticket belongs. It is not changed after
// Parse made it, so any number of requests may use it at once.
type Template struct {
	body []byte
	// cuts are the offsets in body at which the ticket is put in, ascending.
	cuts    []int32
	info    Info
	queried []string
}

// Append appends the viewer's copy of the playlist to dst and returns the longer slice. With room for Size bytes in dst
// it does not allocate. The ticket is written as it is: it must be safe in a path segment and in a query value.
func (t *Template) Append(dst []byte, ticket string) []byte {
	dst = slices.Grow(dst, t.Size(len(ticket)))
	last := 0
	for _, cut := range t.cuts {
		dst = append(dst, t.body[last:cut]...)
		dst = append(dst, ticket...)
		last = int(cut)
	}
	return append(dst, t.body[last:]...)
}

// Size is the length in bytes of a viewer's copy whose ticket has ticketLen bytes.
func (t *Template) Size(ticketLen int) int { return len(t.body) + len(t.cuts)*ticketLen }

// IsStatic reports whether the playlist holds no ticket, so that its body is the same for all viewers.
func (t *Template) IsStatic() bool { return len(t.cuts) == 0 }

// Body is the playlist of a static template, shared: the caller must not change it. It is nil if the template is not
// static.
func (t *Template) Body() []byte {
	if !t.IsStatic() {
		return nil
	}
	return t.body
}

// Info tells what the playlist says about itself.
func (t *Template) Info() Info { return t.info }

// ListedQueries lists the origin's own references (path-absolute, with query, without fragment) that the playlist lists with a
// query and that a route serves: sorted, each once, shared. Only these queries are worth forwarding to the origin. In
// TicketInQuery the ticket's parameter is left out of them; a variable that the playlist does not define stands in them as
// written.
func (t *Template) ListedQueries() []string { return t.queried }
