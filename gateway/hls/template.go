package hls

import "slices"

// Template is a text with rewritten URIs and the offsets at which a viewer's ticket, and the server that they know, are inserted. It is
// immutable, so any number of requests may use it at once.
type Template struct {
	body    []byte
	inserts []insert // ascending
	servers int      // how many of the inserts are servers
	info    Info
}

// insert is what a viewer's copy has at an offset of the body: the ticket or the server.
type insert struct {
	offset   int32
	isServer bool
}

// Append appends the viewer's copy to dst and returns the extended slice. With room for Size bytes in dst it does not
// allocate. The ticket is not escaped: it must be safe in a path segment and in a query value. The server is the scheme and host by which
// the viewer reaches the gateway, "https://tv.example.com", and must be safe in JSON. It is written before URIs that players may resolve
// against nothing; empty: those begin with a slash.
func (t *Template) Append(dst, ticket, server []byte) []byte {
	dst = slices.Grow(dst, t.Size(ticket, server))
	last := int32(0)
	for _, at := range t.inserts {
		dst = append(dst, t.body[last:at.offset]...)
		if at.isServer {
			dst = append(dst, server...)
		} else {
			dst = append(dst, ticket...)
		}
		last = at.offset
	}
	return append(dst, t.body[last:]...)
}

// Size returns the length in bytes of a viewer's copy with this ticket and server.
func (t *Template) Size(ticket, server []byte) int {
	return len(t.body) + (len(t.inserts)-t.servers)*len(ticket) + t.servers*len(server)
}

// IsStatic reports whether the playlist holds neither, so that its body is the same for all viewers.
func (t *Template) IsStatic() bool { return len(t.inserts) == 0 }

// NamesServer reports whether the text holds the server by which the viewer reaches the gateway.
func (t *Template) NamesServer() bool { return t.servers > 0 }

// Body returns the playlist of a static template, else nil. It is shared: the caller must not change it.
func (t *Template) Body() []byte {
	if !t.IsStatic() {
		return nil
	}
	return t.body
}

// Info returns what the playlist says about itself; zero for a document.
func (t *Template) Info() Info { return t.info }
