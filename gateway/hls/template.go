package hls

import "slices"

// Template is a playlist with rewritten URIs and the offsets at which a viewer's ticket is inserted. It is immutable, so
// any number of requests may use it at once.
type Template struct {
	body []byte
	// ticketOffsets are the offsets in body at which the ticket is inserted, ascending.
	ticketOffsets []int32
	info          Info
	listedQueries []string
}

// Append appends the viewer's copy of the playlist to dst and returns the extended slice. With room for Size bytes in dst
// it does not allocate. The ticket is not escaped: it must be safe in a path segment and in a query value.
func (t *Template) Append(dst []byte, ticket string) []byte {
	dst = slices.Grow(dst, t.Size(len(ticket)))
	last := 0
	for _, cut := range t.ticketOffsets {
		dst = append(dst, t.body[last:cut]...)
		dst = append(dst, ticket...)
		last = int(cut)
	}
	return append(dst, t.body[last:]...)
}

// Size returns the length in bytes of a viewer's copy whose ticket has ticketLen bytes.
func (t *Template) Size(ticketLen int) int { return len(t.body) + len(t.ticketOffsets)*ticketLen }

// IsStatic reports whether the playlist holds no ticket, so that its body is the same for all viewers.
func (t *Template) IsStatic() bool { return len(t.ticketOffsets) == 0 }

// Body returns the playlist of a static template, else nil. It is shared: the caller must not change it.
func (t *Template) Body() []byte {
	if !t.IsStatic() {
		return nil
	}
	return t.body
}

// Info returns what the playlist says about itself.
func (t *Template) Info() Info { return t.info }

// ListedQueries returns the origin's references (path-absolute, with query, without fragment) that the playlist lists with
// a query and that a route serves: sorted, without duplicates, shared. Only these queries are worth forwarding to the
// origin. With TicketInQuery they lack the ticket's parameter. A variable that the playlist does not define appears in
// them as written.
func (t *Template) ListedQueries() []string { return t.listedQueries }
