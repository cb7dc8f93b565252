package stage

// build joins pieces of the loop to a segment.
func (o *Origin) build(r rendition, number int64) *segment {
	switch r {
	case high:
		return o.buildTS(o.loops.high, number)
	case low:
		return o.buildTS(o.loops.low, number)
	default:
		return o.buildFMP4(number)
	}
}

func (o *Origin) buildTS(loop *tsLoop, number int64) *segment {
	first := number * o.timeline.seconds()
	b := make([]byte, 0, max(o.sizeTS(loop, number), o.cfg.StuffTo+packetSize))
	for second := first; second < first+o.timeline.seconds(); second++ {
		b = loop.appendSecond(b, second)
	}
	return &segment{bytes: appendStuffing(b, o.cfg.StuffTo)}
}

func (o *Origin) buildFMP4(number int64) *segment {
	loop, count := o.loops.lowLatency, o.timeline.parts()
	size := 0
	for i := range count {
		size += loop.size(number*count + i)
	}
	s := &segment{bytes: make([]byte, 0, size), parts: make([]int, 0, count)}
	for i := range count {
		s.bytes = loop.appendPart(s.bytes, number*count+i)
		s.parts = append(s.parts, len(s.bytes))
	}
	return s
}

// sizeTS returns the size of a segment in bytes without stuffing.
func (o *Origin) sizeTS(loop *tsLoop, number int64) int {
	size := 0
	for i := range o.timeline.seconds() {
		size += loop.size(number*o.timeline.seconds() + i)
	}
	return size
}

// measureVariant measures the bit rates of a rendition over one round of the loop.
func (o *Origin) measureVariant(r rendition, resolution string) variant {
	loop := map[rendition]*tsLoop{high: o.loops.high, low: o.loops.low}[r]
	seconds := int(o.timeline.seconds())
	segments := loopSeconds / seconds
	peak, sum := 0, 0
	for n := range segments {
		size := max(o.sizeTS(loop, int64(n)), o.cfg.StuffTo)
		peak = max(peak, size)
		sum += size
	}
	return variant{rendition: r, peak: peak * 8 / seconds, average: sum * 8 / loopSeconds, resolution: resolution}
}
