package admin

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// FuzzParseFilter parses queries of the list of sessions. What is accepted has every parameter in its place.
func FuzzParseFilter(f *testing.F) {
	for _, query := range []string{"channel=a&limit=3", "address=2001:db8::/48&source=ticket", "limit=0", "after=x&q=%00", "verdict=allowed&node=", "x=1", "address=::ffff:1.2.3.4", "address=::ffff:1.2.3.4/100", "address="} {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		query, err := url.ParseQuery(raw)
		if err != nil {
			return
		}
		filter, limit, err := parseFilter(query)
		if err != nil {
			return
		}
		if limit < 1 || limit > maxLimit {
			t.Errorf("%q: limit %d", raw, limit)
		}
		if a := filter.Address; a.IsValid() != (query.Get("address") != "") || a.IsValid() && (a.Prefix != a.Masked() || a.Addr().Is4In6()) {
			t.Errorf("%q: address %v", raw, filter.Address)
		}
		for _, name := range filterParameters() {
			if got := *filter.field(name); got != query.Get(name) {
				t.Errorf("%q: %s is %q", raw, name, got)
			}
		}
	})
}

// FuzzDecodeBody decodes bodies of orders: kicks and bans have such fields.
func FuzzDecodeBody(f *testing.F) {
	for _, body := range []string{`{"user":"alice","duration":"5m"}`, `{}`, "", `{"user":1}`, `{"x":1}`, `{}{}`, `[`, `{"duration":"9999h"}`, `{"user":"a","user":"b"}`} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		var order struct{ User, Duration string }
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
		if err := decodeBody(httptest.NewRecorder(), r, &order); err != nil {
			return
		}
		if d, err := parseDuration(order.Duration, maxBan); err == nil && (d < 0 || d > maxBan || d == 0 && order.Duration != "") {
			t.Errorf("%q: duration %v", body, d)
		}
		if order.User != "" && body == "" {
			t.Errorf("user %q of nothing", order.User)
		}
	})
}

// FuzzDecodeQuery decodes queries of other nodes. What a node understands is bounded, kicks only what a filter names, and means the
// same when it is sent on.
func FuzzDecodeQuery(f *testing.F) {
	byUser := Filter{User: "alice", Address: prefix{netip.MustParsePrefix("192.0.2.0/24")}}
	f.Add(encodeQuery(listQueryKind, Filter{Channel: "a001", After: "x"}, 100))
	f.Add(encodeQuery(countQueryKind, byUser, 1))
	f.Add(encodeQuery(timelineQueryKind, Filter{ID: "AQAAAAAAAAAAAAAAAAAAAg"}, 1))
	f.Add(encode(sessionQuery{Kind: lookupQueryKind, Limit: 1, IDs: []string{"a", "b"}}))
	f.Add(encode(sessionQuery{Kind: kickQueryKind, Filter: byUser, Limit: 1, Kick: &kickOrder{ID: "k1", Duration: 60_000, IsRepeated: true}}))
	f.Add(encode(sessionQuery{Kind: kickQueryKind, Limit: 1, Kick: &kickOrder{ID: "k1", Duration: 60_000}}))
	f.Add(encode(sessionQuery{Kind: kickQueryKind, Filter: byUser, Limit: 1, Kick: &kickOrder{ID: "k1", Duration: 1 << 62}}))
	f.Add([]byte(`{"ask":"sessions","limit":1001}`))
	f.Add([]byte(`{"ask":"sessions","limit":1,"new":true}`))
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, asked []byte) {
		q, isKnown := decodeQuery(asked)
		if !isKnown {
			return
		}
		if q.Limit < 1 || q.Limit > maxLimit || len(q.IDs) > maxLookup || q.IDs != nil && q.Kind != lookupQueryKind {
			t.Errorf("%s: a limit of %d, and %d ids", asked, q.Limit, len(q.IDs))
		}
		if (q.Kick != nil) != (q.Kind == kickQueryKind) {
			t.Errorf("%s: kicks by %+v", asked, q.Kick)
		}
		if k := q.Kick; k != nil && (k.ID == "" || k.Duration <= 0 || k.Duration > maxKick.Milliseconds() || q.Filter.IsZero()) {
			t.Errorf("%s: kicks by %+v what matches %+v", asked, k, q.Filter)
		}
		again, isKnown := decodeQuery(encode(q))
		if diff := cmp.Diff(q, again, cmpopts.EquateComparable(prefix{}), cmpopts.EquateEmpty()); diff != "" || !isKnown {
			t.Errorf("%s: sent on, known %t (-first +again):\n%s", asked, isKnown, diff)
		}
	})
}

// FuzzKickResult_Merge merges replies of nodes to a kick. No more are kicked than match, and a node whose reply says nothing is named.
func FuzzKickResult_Merge(f *testing.F) {
	matched := newSketch(kickSketchSize)
	for _, id := range []string{"a", "b", "c"} {
		matched.add(id)
	}
	body := func(a nodeKick) []byte {
		text, err := json.Marshal(a)
		if err != nil {
			f.Fatal(err)
		}
		return text
	}
	kicked := body(nodeKick{Matched: matched.encode()})
	f.Add(kicked)
	f.Add(body(nodeKick{Matched: matched.encode(), Error: "too many"}))
	f.Add(body(nodeKick{IsPending: true}))
	f.Add([]byte(`{"matched":{"count":-1,"hashes":"AA"}}`))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, reply []byte) {
		k := KickResult{NotKicked: map[string]string{}}
		pending := k.merge(Filter{User: "alice"}, map[string][]byte{"n1": reply, "n2": kicked})
		if k.Kicked < 3 || k.Kicked > k.Matched && !k.Approximate {
			t.Errorf("%d kicked of %d that match, approximately: %t; want at least 3", k.Kicked, k.Matched, k.Approximate)
		}
		var a nodeKick
		isKick := json.Unmarshal(reply, &a) == nil && a.Error == ""
		if _, isNamed := k.NotKicked["n1"]; isNamed == isKick || len(k.NotKicked) > 1 || pending != nil && !a.IsPending {
			t.Errorf("not kicked: %v, pending %v", k.NotKicked, pending)
		}
	})
}
