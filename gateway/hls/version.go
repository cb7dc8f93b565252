package hls

// keySet are the EXT-X-KEY tags that apply to a segment: the last one of each KEYFORMAT.
type keySet struct {
	keys []key
	// hash is of all keys, in any order, or zero for none.
	hash uint64
}

type key struct {
	format string
	hash   uint64
}

// add adds the key of a tag. It replaces the one of the same format. METHOD=NONE removes all.
func (k *keySet) add(list attributes, hash uint64) {
	if method, _ := findAttribute(list, "METHOD"); method == "NONE" {
		k.keys, k.hash = k.keys[:0], 0
		return
	}
	format, found := findAttribute(list, "KEYFORMAT")
	if !found {
		format = "identity"
	}
	k.hash += hash
	for i := range k.keys {
		if k.keys[i].format == format {
			k.hash -= k.keys[i].hash
			k.keys[i].hash = hash
			return
		}
	}
	k.keys = append(k.keys, key{format, hash})
}

// readKey notes the key of a tag and returns the key's version: its whole text, in which a rotated key has another
// identifier, initialization vector or query.
func (s *scanner) readKey(list attributes) uint64 {
	if s.rewriter == nil {
		return 0
	}
	hash := hashText(list.text[list.pos:list.end])
	s.keys.add(list, hash)
	return hash
}

// segmentVersion returns the version of the segment that is listed next, and of those of its parts that are files.
func (s *scanner) segmentVersion() uint64 {
	if s.rewriter == nil {
		return 0
	}
	sequence, _ := s.info.Next()
	const spread = 0x9e3779b97f4a7c15 // odd, so that no two sequence numbers have the same product
	return max(1, (sequence+s.prefetched)*spread^s.fileVersion())
}

// partSpan returns the span of a part, given the attributes that make it a range of a file. A range has a version of its own: the file
// grows until it is listed as a segment, and what was fetched before is not the segment.
func (s *scanner) partSpan(list attributes, rangeAttributes ...string) uriSpan {
	if s.rewriter == nil {
		return uriSpan{}
	}
	span := uriSpan{version: s.segmentVersion(), mayGrow: hasAttribute(list, rangeAttributes...)}
	if span.mayGrow {
		const growing = 0x5851f42d4c957f2d // any number
		span.version = max(1, span.version^growing)
	}
	return span
}

// fileVersion returns the version of what the keys alone tell: an initialization section, or a file of many segments. It
// is zero where they may be missing, because a delta update leaves out the tags of the segments that it skips.
func (s *scanner) fileVersion() uint64 {
	if s.info.CanSkipUntil > 0 || s.info.Skipped > 0 {
		return 0
	}
	return s.keys.hash
}

// hashText returns the FNV-1a hash of a text. It is the same on every node.
func hashText(text string) uint64 {
	hash := uint64(0xcbf29ce484222325)
	for i := range len(text) {
		hash = (hash ^ uint64(text[i])) * 0x100000001b3
	}
	return hash
}
