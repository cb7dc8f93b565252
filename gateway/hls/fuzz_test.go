package hls_test

import (
	"bytes"
	"strings"
	"testing"

	"usher/gateway/hls"
	"usher/gateway/hls/hlscorpus"
)

// FuzzParse checks the invariants of any bytes with every ticket transport.
func FuzzParse(f *testing.F) {
	for _, body := range corpus(f) {
		f.Add([]byte(body), "/play/a001/index.m3u8")
	}
	f.Add([]byte("#EXTM3U\n#EXT-X-KEY:URI=\"a,\nURI=b\"\r{$a}"), "/a\"b/../{$c}//")
	f.Fuzz(func(t *testing.T, body []byte, path string) {
		for _, m := range modes() {
			o := m.options()
			o.Path = path
			o.Locate = onOrigin(func(string) (string, bool) { return "", false })
			refused, err := hls.Parse(body, o)
			if err != nil {
				return
			}
			if !refused.IsStatic() || hlscorpus.Steered(string(refused.Body())) != hlscorpus.Steered(string(body)) {
				t.Errorf("no route serves anything, yet %q became %q", body, refused.Append(nil, []byte("T"), nil))
			}
			o.Locate = onOrigin(func(ref string) (string, bool) { return ref, true })
			checkLocated(t, m, body, o)
			o.Locate = onOrigin(func(ref string) (string, bool) { return "/v" + ref, len(ref)%3 != 0 })
			checkLocated(t, m, body, o)
		}
	})
}

// checkLocated checks the invariants of a playlist whose URIs are mapped by Locate.
func checkLocated(t *testing.T, m mode, body []byte, o hls.Options) {
	t.Helper()
	template, err := hls.Parse(body, o)
	if err != nil {
		t.Fatalf("parse what could be parsed before: %v", err)
	}
	one, two := bytes.Repeat([]byte{0}, 8), bytes.Repeat([]byte{1}, 8)
	first, second := template.Append(nil, one, nil), template.Append(nil, two, nil)
	checkTickets(t, m, body, first, second)
	if len(first) != template.Size(one, nil) {
		t.Errorf("%d bytes, Size says %d", len(first), template.Size(one, nil))
	}
	if got, want := bytes.Count(first, []byte("\n")), bytes.Count(body, []byte("\n")); got != want {
		t.Errorf("%d lines became %d", want, got)
	}
	if m.ticket && !template.IsStatic() && !bytes.Contains(body, []byte("#EXT-X-DATERANGE")) {
		t.Errorf("below a ticket, the body holds one: %q", first)
	}
	again, err := hls.Parse(body, o)
	if err != nil || !bytes.Equal(again.Append(nil, one, nil), first) {
		t.Errorf("the same playlist gave other bytes (error %v)", err)
	}
}

// checkTickets compares the copies of two viewers. They differ only in their tickets, which are only where the transport
// writes them.
func checkTickets(t *testing.T, m mode, body, first, second []byte) {
	t.Helper()
	if bytes.ContainsAny(body, "\x00\x01") {
		return // the tickets cannot be distinguished from the playlist
	}
	if !bytes.Equal(bytes.ReplaceAll(first, []byte{0}, []byte{1}), second) {
		t.Errorf("two viewers' copies differ in more than their tickets: %q, %q", first, second)
	}
	before := map[bool]string{true: "ticket=", false: "/~"}[m.carry == hls.TicketInQuery]
	pieces := bytes.Split(first, []byte(strings.Repeat("\x00", 8)))
	for _, piece := range pieces[:len(pieces)-1] {
		if !bytes.HasSuffix(piece, []byte(before)) {
			t.Errorf("a ticket behind %q, want %q", piece, before)
		}
	}
}
