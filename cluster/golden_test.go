package cluster

import (
	"encoding/hex"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"usher/actors/session"
	"usher/backends"
	"usher/cluster/redistest"
)

// goldenRecord has the fields whose encoding is pinned. New fields need not be added.
func goldenRecord() session.Record {
	return session.Record{
		ID: idOf(7), Opened: time.Unix(1700000000, 0).UTC(), KeyID: "k1", CheckNumber: 9, Trace: "00-a-b-01",
		Decision: backends.Decision{
			Verdict: backends.Allowed, Source: backends.FromBackend, Reason: "why", UserID: "17", User: "Ann",
			ValidFor: 90 * time.Second, MaxSessions: 3, Unique: true, Redirect: "https://example.com/pay",
		},
		Request: &backends.Request{
			Session: idOf(7), Number: 4, Route: "r", Channel: "c", Backend: "b", Query: "q=1",
			Headers: []backends.Header{{Name: "X-A", Value: "1"}}, Path: "/p", Scheme: "https", Host: "h", UserAgent: "ua",
			Referer: "ref", Device: "mac", Address: netip.MustParseAddr("192.0.2.7"), Opened: time.Unix(1600000000, 0).UTC(), Bytes: 5,
		},
	}
}

// goldenEncoding is how every version has to read and write goldenRecord: nodes of two versions share sessions.
const goldenEncoding = "010580e2cfaa0602026b310307616c6c6f77656404076261636b656e640503776879060231370703416e6e08068088aca3cf020901030a01010b" +
	"1768747470733a2f2f6578616d706c652e636f6d2f7061790c01090d0930302d612d622d30310e4a0101040201720301630401620503713d310603582d" +
	"4107013108022f70090568747470730a01680b0275610c0372656610036d61630d093139322e302e322e370e0580a0f8fa050f0105"

func TestEncodeRecord_Golden(t *testing.T) {
	t.Parallel()
	r := goldenRecord()
	if got := hex.EncodeToString(encodeRecord(&r)); got != goldenEncoding {
		t.Errorf("encoded as\n%s, want\n%s", got, goldenEncoding)
	}
	data, err := hex.DecodeString(goldenEncoding)
	must(t, err)
	got, err := decodeRecord(idOf(7), data)
	must(t, err)
	same := cmp.Options{cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmpopts.IgnoreFields(backends.Request{}, "OnSent")}
	if diff := cmp.Diff(goldenRecord(), got, same); diff != "" {
		t.Errorf("decoded (-want +got):\n%s", diff)
	}
	if recordVersion != 1 {
		t.Errorf("version %d: nodes of the last version ignore these records", recordVersion)
	}
}

// TestRedis_KeysAndFields_Golden names every key and every field of a hash that is in Redis.
func TestRedis_KeysAndFields_Golden(t *testing.T) {
	t.Parallel()
	server, peers := startPeers(t, 1)
	n := storePair{t, peers[0], peers[0]}
	writeEveryKey(n)
	banAnn(t, peers[0], idOf(1))
	lifted, err := peers[0].Ban(t.Context(), session.Ban{User: "Bob", Until: time.Now().Add(time.Hour)})
	must(t, err)
	unban(t, peers[0].Node, lifted.ID)
	force(t, peers[0], backends.BreakerOpen, true, true)
	must(t, peers[0].SaveReport(t.Context(), "portal", "part", []byte("x"), 10, time.Hour))
	for key := range uint64(1000) {
		peers[0].ShareKnown(key)
	}
	redistest.Eventually(t, "known viewers are shared", func() bool { return server.Client.Exists(t.Context(), "usher:{all}:known").Val() == 1 })
	waitForHeartbeat(t, server, peers[0])
	got := map[string]string{}
	for _, key := range server.Client.Keys(t.Context(), "*").Val() {
		kind := server.Client.Type(t.Context(), key).Val()
		name, _, _ := strings.Cut(key, "{")
		if strings.Contains(key, "{all}") {
			name = key
		}
		what := map[string]bool{}
		for f := range strings.FieldsSeq(got[name]) {
			what[f] = true
		}
		what[kind] = true
		if kind == "hash" && !strings.HasSuffix(key, ":nodes") && !strings.HasSuffix(key, ":bans") {
			for _, f := range server.Client.HKeys(t.Context(), key).Val() {
				what[f] = true
			}
		}
		got[name] = strings.Join(slices.Sorted(maps.Keys(what)), " ")
	}
	want := map[string]string{
		"usher:{all}:reported:portal": "zset",
		"usher:{all}:reports:portal":  "hash part",
		"usher:session:":              "a b c d e f hash k l n nb nr ns o p r s u v x y",
		"usher:last-seen:":            "zset",
		"usher:user:":                 "hash s v",
		"usher:{all}:ban-expiries":    "zset",
		"usher:{all}:bans":            "hash",
		"usher:{all}:forced":          "hash portal",
		"usher:{all}:heartbeats":      "zset",
		"usher:{all}:known":           "stream",
		"usher:{all}:nodes":           "hash",
		"usher:{all}:revocations":     "stream",
		"usher:{all}:state":           "began epoch hash last",
		"usher:{all}:unbanned":        "zset",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("keys and fields (-want +got):\n%s", diff)
	}
	if id := idOf(1).String(); id != "AQAAAAAAAAAAAAAAAAAAAg" || server.Client.Exists(t.Context(), "usher:session:{"+id+"}").Val() != 1 {
		t.Errorf("the session's key has not its id %s", id)
	}
}
