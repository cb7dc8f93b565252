package hls

import "slices"

// Template is a text with rewritten URIs and the offsets at which a viewer's ticket is inserted. It is immutable, so any
// number of requests may use it at once.
type Template struct {
	body    []byte
	tickets []int32 // offsets in body, ascending
	info    Info
}

// Append appends the viewer's copy to dst and returns the extended slice. With room for Size bytes in dst it does not
// allocate. The ticket is not escaped: it must be safe in a path segment and in a query value.
func (t *Template) Append(dst, ticket []byte) []byte {
	dst = slices.Grow(dst, t.Size(ticket))
	last := int32(0)
	for _, offset := range t.tickets {
		dst = append(dst, t.body[last:offset]...)
		dst = append(dst, ticket...)
		last = offset
	}
	return append(dst, t.body[last:]...)
}

// Size returns the length in bytes of a viewer's copy with this ticket.
func (t *Template) Size(ticket []byte) int { return len(t.body) + len(t.tickets)*len(ticket) }

// IsStatic reports whether the playlist holds no ticket, so that its body is the same for all viewers.
func (t *Template) IsStatic() bool { return len(t.tickets) == 0 }

// Body returns the playlist of a static template, else nil. It is shared: the caller must not change it.
func (t *Template) Body() []byte {
	if !t.IsStatic() {
		return nil
	}
	return t.body
}

// Info returns what the playlist says about itself; zero for a document.
func (t *Template) Info() Info { return t.info }
