package timeline

import (
	"encoding/binary"
	"strings"
	"unicode"
	"unicode/utf8"

	"usher/backends"
)

// maxText bounds a reason or an error, in bytes.
const maxText = 160

// clip returns the text in its bounds, without what would break a line.
func clip(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if strings.ContainsFunc(text, isUnprintable) {
		text = strings.Map(func(r rune) rune {
			if isUnprintable(r) {
				return ' '
			}
			return r
		}, text)
	}
	if len(text) <= maxText {
		return text
	}
	const ellipsis = "…"
	end := maxText - len(ellipsis)
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + ellipsis
}

func isUnprintable(r rune) bool { return !unicode.IsPrint(r) }

// The first byte of an item: its trigger, and what follows.
const (
	triggerMask = 0x0f
	withBackend = 0x10
	withCount   = 0x20 // the count and the span
	withOmitted = 0x40
	withText    = 0x80 // the reason and the error; otherwise they are those of the item before
)

// encode returns the items as a log keeps them: times as differences to the item before, and texts only where they differ.
func encode(items []item) string {
	var room [512]byte
	b := room[:0]
	var before item
	for i := range items {
		it := &items[i]
		head := it.head(&before)
		b = append(b, head, byte(it.verdict)<<4|byte(it.source))
		b = binary.AppendVarint(b, it.at-before.at)
		b = binary.AppendUvarint(b, uint64(it.duration))
		if head&withCount != 0 {
			b = binary.AppendUvarint(b, uint64(it.count))
			b = binary.AppendVarint(b, it.span)
		}
		if head&withOmitted != 0 {
			b = binary.AppendUvarint(b, uint64(it.omitted))
		}
		if head&withText != 0 {
			b = appendText(appendText(b, it.reason, before.reason), it.error, before.error)
		}
		before = *it
	}
	return string(b)
}

// head returns the first byte of the item.
func (it *item) head(before *item) byte {
	head := byte(it.trigger)
	if it.hasBackend {
		head |= withBackend
	}
	if it.count > 1 {
		head |= withCount
	}
	if it.omitted > 0 {
		head |= withOmitted
	}
	if it.reason != before.reason || it.error != before.error {
		head |= withText
	}
	return head
}

// appendText appends the text, or a zero if it equals the one before it.
func appendText(b []byte, text, before string) []byte {
	if text == before {
		return append(b, 0)
	}
	return append(binary.AppendUvarint(b, uint64(len(text))+1), text...)
}

// decode appends the items of a log. Their texts share its bytes.
func decode(items []item, data string) []item {
	d := decoder{rest: data}
	var before item
	for d.rest != "" {
		it := item{count: 1, reason: before.reason, error: before.error}
		head, code := d.next(), d.next()
		it.trigger, it.hasBackend = Trigger(head&triggerMask), head&withBackend != 0
		it.verdict, it.source = backends.Verdict(code>>4), backends.Source(code&0x0f)
		it.at = before.at + d.number()
		it.duration = int64(d.unsigned())
		if head&withCount != 0 {
			it.count, it.span = int64(d.unsigned()), d.number()
		}
		if head&withOmitted != 0 {
			it.omitted = int64(d.unsigned())
		}
		if head&withText != 0 {
			it.reason = d.text(before.reason)
			it.error = d.text(before.error)
		}
		items = append(items, it)
		before = it
	}
	return items
}

// decoder reads what encode wrote.
type decoder struct{ rest string }

func (d *decoder) next() byte {
	b := d.rest[0]
	d.rest = d.rest[1:]
	return b
}

func (d *decoder) unsigned() (n uint64) {
	for shift := 0; ; shift += 7 {
		b := d.next()
		n |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return n
		}
	}
}

// number reads a varint: its lowest bit is the sign.
func (d *decoder) number() int64 {
	n := d.unsigned()
	return int64(n>>1) ^ -int64(n&1)
}

func (d *decoder) text(before string) string {
	n := d.unsigned()
	if n == 0 {
		return before
	}
	text := d.rest[:n-1]
	d.rest = d.rest[n-1:]
	return text
}
