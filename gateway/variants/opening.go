package variants

import (
	"hash/maphash"
	"iter"
	"net/netip"
	"slices"
	"strings"

	"usher/backends"
)

// Opening is a viewer without a ticket who would open a session.
type Opening struct {
	Session backends.SessionID
	// Prefix is the viewer's subscriber prefix, Agent their User-Agent.
	Prefix netip.Prefix
	Agent  string
	// Route, Channel and Folder are what they ask for.
	Route, Channel, Folder string
	// Credentials are what a backend decides on.
	Credentials *backends.Credentials
	// IsNamed reports whether the route names a parameter as a credential.
	IsNamed func(name string) bool
}

// suspects returns the parameters that may be a player's own, each with the key of its group.
func (o *Opening) suspects(seed maphash.Seed) iter.Seq2[string, uint64] {
	return func(yield func(string, uint64) bool) {
		var names [maxParameters]string
		n, isAlone := 0, len(o.Credentials.Headers) == 0
		for pair := range strings.SplitSeq(o.Credentials.Query, "&") {
			name := nameOf(pair)
			if n == maxParameters || slices.Contains(names[:n], name) {
				continue
			}
			names[n] = name
			n++
		}
		if n == 1 && isAlone {
			return // it is all that a backend has to decide on
		}
		for _, name := range names[:n] {
			if !o.IsNamed(name) && !yield(name, o.groupKey(seed, name)) {
				return
			}
		}
	}
}

// groupKey returns the key of the openings that differ in the parameter alone. It is the node's own.
func (o *Opening) groupKey(seed maphash.Seed, suspect string) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	maphash.WriteComparable(&h, o.Prefix)
	for _, text := range [...]string{o.Agent, o.Route, o.Channel, o.Folder, suspect} {
		write(&h, text)
	}
	for pair := range strings.SplitSeq(o.Credentials.Query, "&") {
		if name := nameOf(pair); name != suspect {
			_, value, _ := strings.Cut(pair, "=")
			write(&h, name)
			write(&h, backends.UnescapeQuery(value))
		}
	}
	for _, header := range o.Credentials.Headers {
		write(&h, header.Name)
		write(&h, header.Value)
	}
	return h.Sum64()
}

// write adds a text with its length, so that no two lists of texts give the same bytes.
func write(h *maphash.Hash, text string) {
	maphash.WriteComparable(h, len(text))
	_, _ = h.WriteString(text)
}

func nameOf(pair string) string {
	name, _, _ := strings.Cut(pair, "=")
	return backends.UnescapeQuery(name)
}
