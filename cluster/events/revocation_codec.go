package events

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"usher/actors/session"
	"usher/backends"
	"usher/cluster/redisclient"
)

const (
	// messageVersion is the version of all messages between nodes but groups. A node drops messages of another version.
	messageVersion = 1
	// groupVersion is the version of groups, which an older node would take for bans of nobody.
	groupVersion = 2
)

// errUnknownMessage reports that a message has another version, or that no node of the cluster sent it.
var errUnknownMessage = errors.New("unknown message")

// revocationMessage is a revocation as nodes send it. It has durations instead of times, as the clocks of nodes need not
// agree: its id in the stream says when it was issued.
type revocationMessage struct {
	Version int                    `json:"v"`
	Kind    session.RevocationKind `json:"k"`
	// ID differs from that of every other revocation, so that a node applies it once.
	ID        string `json:"u"`
	Session   string `json:"s,omitempty"`
	Opened    int64  `json:"o,omitempty"` // Unix seconds, as in the ticket
	HoldsFor  int64  `json:"f,omitempty"` // ms from when it was sent
	Waited    int64  `json:"w,omitempty"` // ms from when it was issued until it was sent: Redis was unavailable
	BanID     string `json:"b,omitempty"`
	Encrypted []byte `json:"d,omitempty"` // a decisionMessage or a banMessage
}

// decisionMessage is the decision that viewers are denied with. It has names, since numbers would tie nodes to one
// version.
type decisionMessage struct {
	Verdict   string `json:"v"`
	Source    string `json:"s"`
	Reason    string `json:"r,omitempty"`
	UserID    string `json:"i,omitempty"`
	User      string `json:"n,omitempty"`
	ValidFor  int64  `json:"f,omitempty"` // ms
	Redirect  string `json:"x,omitempty"`
	Challenge string `json:"c,omitempty"`
}

// banMessage is a ban as nodes send it and as Redis stores it. When the ban ends stands beside it.
type banMessage struct {
	Version     int    `json:"v"`
	User        string `json:"u,omitempty"`
	Credentials string `json:"c,omitempty"`
	Prefix      string `json:"p,omitempty"`
	Session     string `json:"s,omitempty"`
	Backend     string `json:"b,omitempty"`
	Channel     string `json:"h,omitempty"`
	Reason      string `json:"r,omitempty"`
	Cause       string `json:"e,omitempty"`
	IsKick      bool   `json:"k,omitempty"`
	// Those of a group.
	Sessions       []string `json:"ss,omitempty"`
	Users          []string `json:"us,omitempty"`
	CredentialSets []string `json:"cs,omitempty"`
}

// encodeBanned encodes the message of a ban that is encrypted; nil: it names the ban alone, and nodes fetch it.
func encodeBanned(b session.Ban, encrypted []byte, now time.Time) []byte {
	return marshal(revocationMessage{
		Version: messageVersion, Kind: session.RevokedBanned, ID: "ban-" + b.ID, BanID: b.ID,
		HoldsFor: redisclient.Millis(b.Until.Sub(now)), Encrypted: encrypted,
	})
}

// encodeIssued encodes what this node issued as it is at now.
func encodeIssued(cipher *redisclient.Cipher, issued Issued, now time.Time) []byte {
	return marshal(newMessage(cipher, issued.ID, issued.Revocation, max(0, now.Sub(issued.At)), now))
}

// encodeRevocation encodes a revocation that is issued now.
func encodeRevocation(cipher *redisclient.Cipher, id string, r session.Revocation, now time.Time) []byte {
	return marshal(newMessage(cipher, id, r, 0, now))
}

func newMessage(
	cipher *redisclient.Cipher, id string, r session.Revocation, waited time.Duration, now time.Time,
) revocationMessage {
	m := revocationMessage{Version: messageVersion, Kind: r.Kind, ID: id, Waited: waited.Milliseconds()}
	switch r.Kind {
	case session.RevokedBanned:
		m.BanID, m.HoldsFor = r.Ban.ID, redisclient.Millis(r.Ban.Until.Sub(now))
		m.Encrypted = encodeBan(cipher, r.Ban)
	case session.RevokedUnbanned:
		m.BanID, m.HoldsFor = r.Ban.ID, redisclient.Millis(r.Ban.Until.Sub(now))
	default:
		m.Session, m.Opened = r.Session.String(), redisclient.UnixOrZero(r.Opened)
		if !r.Until.IsZero() {
			m.HoldsFor = redisclient.Millis(r.Until.Sub(now))
		}
		m.Encrypted = cipher.Encrypt(marshal(decisionMessage{
			Verdict: r.Decision.Verdict.String(), Source: r.Decision.Source.String(), Reason: r.Decision.Reason,
			UserID: r.Decision.UserID, User: r.Decision.User, ValidFor: r.Decision.ValidFor.Milliseconds(),
			Redirect: r.Decision.Redirect, Challenge: r.Decision.Challenge,
		}), "revocation "+id)
	}
	return m
}

// decodeRevocation decodes a revocation that was sent that long before now, and returns its message too.
func decodeRevocation(
	cipher *redisclient.Cipher, payload []byte, age time.Duration, now time.Time,
) (m revocationMessage, _ session.Revocation, err error) {
	if err := json.Unmarshal(payload, &m); err != nil {
		return m, session.Revocation{}, errUnknownMessage
	}
	if m.Version != messageVersion || m.ID == "" {
		return m, session.Revocation{}, errUnknownMessage
	}
	r := session.Revocation{Kind: m.Kind}
	until := now.Add(redisclient.Duration(m.HoldsFor) - age)
	switch m.Kind {
	case session.RevokedBanned:
		if r.Ban.ID = m.BanID; len(m.Encrypted) > 0 { // otherwise the ban is to be fetched
			r.Ban, err = decodeBan(cipher, m.BanID, m.Encrypted)
		}
		r.Ban.Until = until
	case session.RevokedUnbanned:
		r.Ban = session.Ban{ID: m.BanID, Until: until}
	case session.RevokedDenied, session.RevokedKicked, session.RevokedEvicted, session.RevokedSuperseded:
		if m.Opened != 0 {
			r.Opened = time.Unix(m.Opened, 0)
		}
		if m.HoldsFor != 0 {
			r.Until = until
		}
		if r.Session, err = backends.ParseSessionID(m.Session); err == nil {
			r.Decision, err = decodeDecision(cipher, m)
		}
	default:
		return m, session.Revocation{}, errUnknownMessage
	}
	return m, r, err
}

func decodeDecision(cipher *redisclient.Cipher, m revocationMessage) (backends.Decision, error) {
	plain, err := cipher.Decrypt(m.Encrypted, "revocation "+m.ID)
	if err != nil {
		return backends.Decision{}, fmt.Errorf("decrypt a revocation: %w", err)
	}
	var d decisionMessage
	if err := json.Unmarshal(plain, &d); err != nil {
		return backends.Decision{}, errUnknownMessage
	}
	verdict, isVerdict := redisclient.ParseName(d.Verdict, backends.Pending, backends.Denied)
	source, isSource := redisclient.ParseName(d.Source, backends.SourceNone, backends.FromOperator)
	if !isVerdict || !isSource {
		return backends.Decision{}, errUnknownMessage
	}
	return backends.Decision{
		Verdict: verdict, Source: source, Reason: d.Reason, UserID: d.UserID, User: d.User,
		ValidFor: redisclient.Duration(d.ValidFor), Redirect: d.Redirect, Challenge: d.Challenge,
	}, nil
}

// encodeBan encrypts a ban with the key that its hashes were made with: the ban is of no use without that.
func encodeBan(cipher *redisclient.Cipher, b session.Ban) []byte {
	m := banMessage{
		Version: messageVersion, User: b.User, Credentials: b.Credentials, Backend: b.Backend, Channel: b.Channel,
		Reason: b.Reason, Cause: b.Cause, IsKick: b.IsKick,
	}
	if b.Prefix.IsValid() {
		m.Prefix = b.Prefix.String()
	}
	if !b.Session.IsZero() {
		m.Session = b.Session.String()
	}
	if isGroup(&b) {
		m.Version, m.Users, m.CredentialSets = groupVersion, b.Users, b.CredentialSets
		for _, id := range b.Sessions {
			m.Sessions = append(m.Sessions, id.String())
		}
	}
	return cipher.EncryptWith(b.OldKey, marshal(m), "ban "+b.ID)
}

func decodeBan(cipher *redisclient.Cipher, id string, encrypted []byte) (session.Ban, error) {
	plain, err := cipher.Decrypt(encrypted, "ban "+id)
	if err != nil {
		return session.Ban{}, fmt.Errorf("decrypt a ban: %w", err)
	}
	var m banMessage
	if err := json.Unmarshal(plain, &m); err != nil {
		return session.Ban{}, errUnknownMessage
	}
	b := session.Ban{
		ID: id, User: m.User, Credentials: m.Credentials, Backend: m.Backend, Channel: m.Channel,
		Reason: m.Reason, Cause: m.Cause, IsKick: m.IsKick, Users: m.Users, CredentialSets: m.CredentialSets,
	}
	if b.Credentials != "" || len(b.CredentialSets) > 0 {
		b.OldKey = cipher.OldKey(encrypted)
	}
	for _, text := range m.Sessions {
		id, err := backends.ParseSessionID(text)
		if err != nil {
			return session.Ban{}, fmt.Errorf("decode a ban: %w", err)
		}
		b.Sessions = append(b.Sessions, id)
	}
	if isGroup(&b) != (m.Version == groupVersion) || m.Version != messageVersion && m.Version != groupVersion {
		return session.Ban{}, errUnknownMessage
	}
	if err := decodeViewers(&b, &m); err != nil {
		return session.Ban{}, fmt.Errorf("decode a ban: %w", err)
	}
	return b, nil
}

// decodeViewers adds the network and the session of a ban that has them.
func decodeViewers(b *session.Ban, m *banMessage) (err error) {
	if m.Prefix != "" {
		if b.Prefix, err = netip.ParsePrefix(m.Prefix); err != nil {
			return err
		}
	}
	if m.Session != "" {
		b.Session, err = backends.ParseSessionID(m.Session)
	}
	return err
}

// isOutdated reports whether a ban that was decrypted is to be encrypted with the first key, as no older one is needed for it.
func isOutdated(cipher *redisclient.Cipher, b session.Ban, encrypted []byte) bool {
	return b.OldKey == "" && cipher.OldKey(encrypted) != ""
}

// marshal encodes a plain struct, which JSON can always hold.
func marshal(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return text
}
