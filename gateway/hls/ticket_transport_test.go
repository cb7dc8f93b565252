package hls_test

import (
	"strings"
	"testing"

	"usher/gateway/hls"
)

func TestTicketTransport_TextRoundTrip(t *testing.T) {
	t.Parallel()
	for word, carry := range map[string]hls.TicketTransport{
		"path": hls.TicketInPath, "query": hls.TicketInQuery, "cookie": hls.TicketInCookie, "none": hls.TicketInNone,
	} {
		text, err := carry.MarshalText()
		if err != nil || string(text) != word || carry.String() != word {
			t.Errorf("%d: got %q, %q and error %v, want %q", carry, text, carry, err, word)
		}
		got := hls.TicketTransport(9)
		if err := got.UnmarshalText([]byte(word)); err != nil || got != carry {
			t.Errorf("%q: got %v and error %v, want %v", word, got, err, carry)
		}
	}
}

func TestTicketTransport_UnknownText_Refused(t *testing.T) {
	t.Parallel()
	got := hls.TicketInCookie
	err := got.UnmarshalText([]byte("Path"))
	if want := `ticket transport "Path": want one of path, query, cookie, none`; err == nil || err.Error() != want {
		t.Errorf("got error %v, want %s", err, want)
	}
	if got != hls.TicketInCookie {
		t.Errorf("got %v, want the value unchanged", got)
	}
}

func TestTicketTransport_UnknownValue_NotMarshalled(t *testing.T) {
	t.Parallel()
	if _, err := hls.TicketTransport(4).MarshalText(); err == nil || !strings.Contains(err.Error(), "transport 4") {
		t.Errorf("got error %v, want one that names the value", err)
	}
	if got, want := hls.TicketTransport(4).String(), "ticket_transport(4)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
