package cluster

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"usher/actors/session"
	"usher/backends"
)

// fullRecord returns a record with a value in every field that is encoded.
func fullRecord() session.Record {
	return session.Record{
		ID: idOf(7), Opened: time.Unix(1700000000, 0).UTC(), KeyID: "k1", CheckNumber: 9, Trace: "00-a-b-01",
		Decision: backends.Decision{
			Verdict: backends.Denied, Source: backends.FromLocal, Reason: "why", UserID: "17", User: "Ann\x00\xff",
			ValidFor: 90 * time.Second, MaxSessions: 3, Unique: true, Redirect: "https://example.com/pay?x=1",
			Challenge: "Bearer\nBasic realm=\"TV\"",
		},
		Request: &backends.Request{
			Session: idOf(7), Number: 4, Route: "r", Channel: "c", Backend: "b", Query: "q=\xff&x",
			Headers: []backends.Header{{Name: "X-A", Value: "1"}, {Name: "X-B"}, {Name: "X-A", Value: "2"}},
			Path:    "/p", Scheme: "https", Host: "h", UserAgent: "ua", Referer: "ref", Device: "mac", Group: idOf(8),
			Address: netip.MustParseAddr("2001:db8::1"), Opened: time.Unix(1600000000, 0).UTC(), Bytes: 1 << 40,
			Edge: &backends.EdgeReport{
				AstraSession: "17", FlussonicSession: "s", HasSession: true, HasChannel: true, HasPath: true, HasHost: true,
				Origin: "https://h", Protocol: "dash", IsArchive: true,
			},
		},
	}
}

// TestEncodeRecord_RoundTrip also finds new fields that are not encoded.
func TestEncodeRecord_RoundTrip(t *testing.T) {
	t.Parallel()
	want := fullRecord()
	beside := map[string]bool{ // what scripts read, and what is not stored
		"Expires": true, "Revision": true, "RevokedBefore": true, "IsEvicted": true, "IsClosed": true,
		"OnSent": true, "OnFailure": true, "Current": true, "IsRecheck": true, "IsStranger": true, "TokenTime": true,
	}
	for _, v := range []reflect.Value{reflect.ValueOf(want), reflect.ValueOf(want.Decision), reflect.ValueOf(*want.Request)} {
		for i := range v.NumField() {
			if name := v.Type().Field(i).Name; v.Field(i).IsZero() && !beside[name] {
				t.Errorf("%s.%s has no value in the test", v.Type(), name)
			}
		}
	}
	got, err := decodeRecord(want.ID, encodeRecord(&want))
	must(t, err)
	same := cmp.Options{
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmpopts.IgnoreFields(backends.Request{}, "OnSent", "OnFailure"),
	}
	if diff := cmp.Diff(want, got, same); diff != "" {
		t.Errorf("record (-encoded +decoded):\n%s", diff)
	}
	none := session.Record{ID: idOf(1), Request: &backends.Request{Session: idOf(1)}}
	got, err = decodeRecord(none.ID, encodeRecord(&none))
	if err != nil || got.Request == nil {
		t.Errorf("an empty request is lost: %+v, %v", got, err)
	}
}

func TestDecodeRecord_UnknownFields(t *testing.T) {
	t.Parallel()
	r := fullRecord()
	data := encodeRecord(&r)
	data = append(data, 200, 3, 'x', 'y', 'z')
	if got, err := decodeRecord(r.ID, data); err != nil || got.KeyID != "k1" {
		t.Errorf("got %+v, %v", got, err)
	}
	for name, data := range map[string][]byte{
		"an unknown verdict":    {fieldVerdict, 5, 'm', 'a', 'y', 'b', 'e'},
		"an unknown source":     {fieldSource, 3, 'a', 'i', '!'},
		"a truncated value":     {fieldKey, 5, 'a'},
		"a short group":         {fieldRequest, 3, requestGroup, 1, 'a'},
		"an endless length":     {fieldKey, 0x80, 0x80},
		"no length":             {fieldKey},
		"a truncated number":    {fieldOpened, 1, 0x80},
		"a header without name": {fieldRequest, 2, requestHeaderValue, 0},
		"a bad address":         {fieldRequest, 3, requestAddress, 1, 'x'},
	} {
		if got, err := decodeRecord(r.ID, data); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// TestDecodeRecord_Truncated reads a record that ends anywhere: at the end of a field it is one with fewer fields, elsewhere
// none.
func TestDecodeRecord_Truncated(t *testing.T) {
	t.Parallel()
	r := fullRecord()
	data := encodeRecord(&r)
	whole := 0
	for end := range data {
		if _, err := decodeRecord(r.ID, data[:end]); err == nil {
			whole++
		}
	}
	fields := 0
	must(t, readFields(data, func(byte, []byte) error { fields++; return nil }))
	if whole != fields { // the last field is cut, and before the first one there is nothing
		t.Errorf("%d beginnings can be read, want %d", whole, fields)
	}
}

// TestEncodeRecord_NamelessHeader leaves out what is no header, and keeps those after it.
func TestEncodeRecord_NamelessHeader(t *testing.T) {
	t.Parallel()
	r := session.Record{ID: idOf(1), Request: &backends.Request{
		Session: idOf(1), Headers: []backends.Header{{Name: "X-A", Value: "1"}, {Value: "2"}, {Name: "X-C", Value: "3"}},
	}}
	got, err := decodeRecord(r.ID, encodeRecord(&r))
	must(t, err)
	if want := []backends.Header{{Name: "X-A", Value: "1"}, {Name: "X-C", Value: "3"}}; !slices.Equal(got.Request.Headers, want) {
		t.Errorf("got %+v, want %+v", got.Request.Headers, want)
	}
}

func FuzzDecodeRecord(f *testing.F) {
	r := fullRecord()
	f.Add(encodeRecord(&r))
	f.Add([]byte{fieldRequest, 2, requestHeaderName, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := decodeRecord(idOf(7), data)
		if err != nil {
			return
		}
		again, err := decodeRecord(idOf(7), encodeRecord(&got))
		if err != nil {
			t.Fatalf("a decoded record cannot be decoded again: %v", err)
		}
		if !again.Opened.Equal(got.Opened) || again.Decision != got.Decision || (again.Request == nil) != (got.Request == nil) {
			t.Errorf("read %+v, then %+v", got, again)
		}
	})
}
