package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// wireVersion is the version of all messages between nodes. A node drops what has another one.
const wireVersion = 1

// errForeign says that a message comes from a newer version of ours, or from nobody of ours.
var errForeign = errors.New("not a message that this version knows")

// sealer hides what tells of viewers from Redis and from who reads it. What is sealed about one thing cannot be opened
// as if it were about another.
type sealer interface {
	seal(plain []byte, about string) []byte
	open(sealed []byte, about string) ([]byte, error)
}

// wireRevocation is a revocation on its way. It tells durations and no times, as nodes' clocks need not agree: where it
// stands in the stream says when it was issued.
type wireRevocation struct {
	Version int                    `json:"v"`
	Kind    session.RevocationKind `json:"k"`
	// Name is unlike any other revocation's, so that one that comes twice is applied once.
	Name    string `json:"u"`
	Session string `json:"s,omitempty"`
	Opened  int64  `json:"o,omitempty"` // unix seconds, as the ticket says
	Holds   int64  `json:"f,omitempty"` // in ms, from when it was issued
	Ban     string `json:"b,omitempty"` // its id
	Sealed  []byte `json:"d,omitempty"` // a wireDecision, or a wireBan
}

// wireDecision is what viewers are told. Its numbers would tie nodes to one version, so it has names.
type wireDecision struct {
	Verdict  string `json:"v"`
	Source   string `json:"s"`
	Reason   string `json:"r,omitempty"`
	UserID   string `json:"i,omitempty"`
	User     string `json:"n,omitempty"`
	ValidFor int64  `json:"f,omitempty"` // in ms
	Redirect string `json:"x,omitempty"`
}

// wireBan is a ban on its way, and as Redis keeps it; when it ends stands beside it.
type wireBan struct {
	Version     int    `json:"v"`
	User        string `json:"u,omitempty"`
	Credentials string `json:"c,omitempty"`
	Prefix      string `json:"p,omitempty"`
	Session     string `json:"s,omitempty"`
	Reason      string `json:"r,omitempty"`
	Cause       string `json:"e,omitempty"`
}

// encodeRevocation writes a revocation as it stands at now.
func encodeRevocation(s sealer, name string, r session.Revocation, now time.Time) []byte {
	w := wireRevocation{Version: wireVersion, Kind: r.Kind, Name: name}
	switch r.Kind {
	case session.RevokedBanned:
		w.Ban, w.Holds = r.Ban.ID, millis(r.Ban.Until.Sub(now))
		w.Sealed = encodeBan(s, r.Ban)
	case session.RevokedUnbanned:
		w.Ban, w.Holds = r.Ban.ID, millis(r.Ban.Until.Sub(now))
	default:
		w.Session, w.Opened = r.Session.String(), unixOrZero(r.Opened)
		if !r.Until.IsZero() {
			w.Holds = millis(r.Until.Sub(now))
		}
		w.Sealed = s.seal(marshal(wireDecision{
			Verdict: r.Decision.Verdict.String(), Source: r.Decision.Source.String(), Reason: r.Decision.Reason,
			UserID: r.Decision.UserID, User: r.Decision.User, ValidFor: r.Decision.ValidFor.Milliseconds(),
			Redirect: r.Decision.Redirect,
		}), "revocation "+name)
	}
	return marshal(w)
}

// decodeRevocation reads a revocation that was issued that long before now.
func decodeRevocation(s sealer, payload []byte, age time.Duration, now time.Time) (string, session.Revocation, error) {
	var w wireRevocation
	if err := json.Unmarshal(payload, &w); err != nil {
		return "", session.Revocation{}, errForeign
	}
	if w.Version != wireVersion || w.Name == "" {
		return "", session.Revocation{}, errForeign
	}
	r := session.Revocation{Kind: w.Kind}
	ends := now.Add(time.Duration(w.Holds)*time.Millisecond - age)
	var err error
	switch w.Kind {
	case session.RevokedBanned:
		r.Ban, err = decodeBan(s, w.Ban, w.Sealed)
		r.Ban.Until = ends
	case session.RevokedUnbanned:
		r.Ban = session.Ban{ID: w.Ban, Until: ends}
	case session.RevokedDenied, session.RevokedKicked, session.RevokedEvicted, session.RevokedSuperseded:
		if w.Opened != 0 {
			r.Opened = time.Unix(w.Opened, 0)
		}
		if w.Holds != 0 {
			r.Until = ends
		}
		if r.Session, err = backends.ParseSessionID(w.Session); err == nil {
			r.Decision, err = decodeDecision(s, w)
		}
	default:
		return "", session.Revocation{}, errForeign
	}
	return w.Name, r, err
}

func decodeDecision(s sealer, w wireRevocation) (backends.Decision, error) {
	plain, err := s.open(w.Sealed, "revocation "+w.Name)
	if err != nil {
		return backends.Decision{}, fmt.Errorf("open a revocation: %w", err)
	}
	var d wireDecision
	if err := json.Unmarshal(plain, &d); err != nil {
		return backends.Decision{}, errForeign
	}
	verdict, known := named(d.Verdict, backends.Pending, backends.Denied)
	source, knownSource := named(d.Source, backends.SourceNone, backends.FromOperator)
	if !known || !knownSource {
		return backends.Decision{}, errForeign
	}
	return backends.Decision{
		Verdict: verdict, Source: source, Reason: d.Reason, UserID: d.UserID, User: d.User,
		ValidFor: time.Duration(d.ValidFor) * time.Millisecond, Redirect: d.Redirect,
	}, nil
}

func encodeBan(s sealer, b session.Ban) []byte {
	w := wireBan{Version: wireVersion, User: b.User, Credentials: b.Credentials, Reason: b.Reason, Cause: b.Cause}
	if b.Prefix.IsValid() {
		w.Prefix = b.Prefix.String()
	}
	if !b.Session.IsZero() {
		w.Session = b.Session.String()
	}
	return s.seal(marshal(w), "ban "+b.ID)
}

func decodeBan(s sealer, id string, sealed []byte) (session.Ban, error) {
	plain, err := s.open(sealed, "ban "+id)
	if err != nil {
		return session.Ban{}, fmt.Errorf("open a ban: %w", err)
	}
	var w wireBan
	if err := json.Unmarshal(plain, &w); err != nil || w.Version != wireVersion {
		return session.Ban{}, errForeign
	}
	b := session.Ban{ID: id, User: w.User, Credentials: w.Credentials, Reason: w.Reason, Cause: w.Cause}
	if w.Prefix != "" {
		if b.Prefix, err = netip.ParsePrefix(w.Prefix); err != nil {
			return session.Ban{}, fmt.Errorf("read a ban: %w", err)
		}
	}
	if w.Session != "" {
		if b.Session, err = backends.ParseSessionID(w.Session); err != nil {
			return session.Ban{}, fmt.Errorf("read a ban: %w", err)
		}
	}
	return b, nil
}

// named finds a value by what its String says.
func named[T interface {
	~uint8
	String() string
}](name string, first, last T) (T, bool) {
	for v := first; v <= last; v++ {
		if v.String() == name {
			return v, true
		}
	}
	return first, false
}

// marshal writes a plain struct of ours, which JSON can always hold.
func marshal(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return text
}

// millis is a duration for Redis, rounded up so that what has not ended does not become zero.
func millis(d time.Duration) int64 {
	return max(0, int64((d+time.Millisecond-1)/time.Millisecond))
}

func unixOrZero(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}
