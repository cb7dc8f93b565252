package hls

import "slices"

// Template is a playlist with rewritten URIs and the offsets at which a viewer's tickets are inserted. It is immutable, so
// any number of requests may use it at once.
type Template struct {
	body    []byte
	tickets []insertion // in the order of their offsets
	// scopes are the scopes of tickets other than the playlist's own.
	scopes        []string
	info          Info
	listedQueries []string
}

// insertion is where a ticket is inserted: the playlist's own (0), or that of scopes[ticket-1].
type insertion struct{ offset, ticket int32 }

// Append appends the viewer's copy of the playlist to dst and returns the extended slice. The tickets are the playlist's
// own, followed by one for each of Scopes. With room for Size bytes in dst it does not allocate. Tickets are not escaped:
// they must be safe in a path segment and in a query value.
func (t *Template) Append(dst []byte, tickets ...string) []byte {
	dst = slices.Grow(dst, t.Size(tickets...))
	last := int32(0)
	for _, cut := range t.tickets {
		dst = append(dst, t.body[last:cut.offset]...)
		dst = append(dst, tickets[cut.ticket]...)
		last = cut.offset
	}
	return append(dst, t.body[last:]...)
}

// Size returns the length in bytes of a viewer's copy with these tickets.
func (t *Template) Size(tickets ...string) int {
	size := len(t.body)
	for _, cut := range t.tickets {
		size += len(tickets[cut.ticket])
	}
	return size
}

// Scopes returns what Options.TicketScope said of the URIs that need a ticket other than the playlist's own: without
// duplicates, in the order of the playlist, shared.
func (t *Template) Scopes() []string { return t.scopes }

// IsStatic reports whether the playlist holds no ticket, so that its body is the same for all viewers.
func (t *Template) IsStatic() bool { return len(t.tickets) == 0 }

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
