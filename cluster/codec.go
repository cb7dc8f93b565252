package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// recordVersion is the schema of the records that we write. A record of a higher one is ignored and never overwritten; a
// new field needs no new version as long as a reader who does not know it is not led astray.
const recordVersion = 1

// The fields of a record on the wire. Each is its number, the length of its value, and the value: a string's bytes as
// they are, since a query may hold any, or an unsigned varint. Empty ones are left out, unknown ones skipped. The numbers
// never change their meaning.
const (
	fieldOpened = iota + 1 // Unix seconds
	fieldKey
	fieldVerdict
	fieldSource
	fieldReason
	fieldUserID
	fieldUser
	fieldValidFor // nanoseconds
	fieldMaxSessions
	fieldUnique
	fieldRedirect
	fieldCheck
	fieldTrace
	fieldFacts // as encodeFacts writes it
)

// The fields of facts.
const (
	factNumber = iota + 1
	factRoute
	factChannel
	factBackend
	factQuery
	factHeaderName // and the next factHeaderValue is its value
	factHeaderValue
	factPath
	factScheme
	factHost
	factUserAgent
	factReferer
	factAddress
	factOpened // Unix seconds
	factBytes
	factDevice
)

var errMalformed = errors.New("not a record that we know how to read")

// fields is a message while it is written.
type fields []byte

func (f *fields) text(tag byte, value string) {
	if value == "" {
		return
	}
	*f = append(*f, tag)
	*f = binary.AppendUvarint(*f, uint64(len(value)))
	*f = append(*f, value...)
}

func (f *fields) number(tag byte, value int64) {
	if value <= 0 {
		return
	}
	var digits [binary.MaxVarintLen64]byte
	f.text(tag, string(digits[:binary.PutUvarint(digits[:], uint64(value))]))
}

// readFields calls take for each field, in their order.
func readFields(data []byte, take func(tag byte, value []byte) error) error {
	for len(data) > 0 {
		tag := data[0]
		length, n := binary.Uvarint(data[1:])
		if n <= 0 || length > uint64(len(data)-1-n) {
			return errMalformed
		}
		value := data[1+n : 1+n+int(length)]
		if err := take(tag, value); err != nil {
			return err
		}
		data = data[1+n+int(length):]
	}
	return nil
}

// readNumber reads what [fields.Number] wrote, which is never zero.
func readNumber(value []byte) (int64, error) {
	n, read := binary.Uvarint(value)
	if read != len(value) || int64(n) <= 0 {
		return 0, errMalformed
	}
	return int64(n), nil
}

// encodeRecord writes what is sealed of a record. Its expiry, fence and tombstones stand beside it, where scripts read
// them.
func encodeRecord(r *session.Record) []byte {
	f := make(fields, 0, 256)
	f.number(fieldOpened, r.Opened.Unix())
	f.text(fieldKey, r.KeyID)
	d := &r.Decision
	f.text(fieldVerdict, d.Verdict.String())
	f.text(fieldSource, d.Source.String())
	f.text(fieldReason, d.Reason)
	f.text(fieldUserID, d.UserID)
	f.text(fieldUser, d.User)
	f.number(fieldValidFor, int64(d.ValidFor))
	f.number(fieldMaxSessions, int64(d.MaxSessions))
	if d.Unique {
		f.number(fieldUnique, 1)
	}
	f.text(fieldRedirect, d.Redirect)
	f.number(fieldCheck, int64(r.CheckNumber))
	f.text(fieldTrace, r.Trace)
	if r.Request != nil {
		facts := encodeFacts(r.Request)
		f = append(f, fieldFacts) // empty ones, too: they say that somebody could be asked
		f = binary.AppendUvarint(f, uint64(len(facts)))
		f = append(f, facts...)
	}
	return f
}

func encodeFacts(q *backends.Request) []byte {
	var f fields
	f.number(factNumber, int64(q.Number))
	f.text(factRoute, q.Route)
	f.text(factChannel, q.Channel)
	f.text(factBackend, q.Backend)
	f.text(factQuery, q.Query)
	for _, h := range q.Headers {
		if h.Name == "" {
			continue // no field has such a name
		}
		f.text(factHeaderName, h.Name)
		f.text(factHeaderValue, h.Value)
	}
	f.text(factPath, q.Path)
	f.text(factScheme, q.Scheme)
	f.text(factHost, q.Host)
	f.text(factUserAgent, q.UserAgent)
	f.text(factReferer, q.Referer)
	f.text(factDevice, q.Device)
	if q.Address.IsValid() {
		f.text(factAddress, q.Address.String())
	}
	if !q.Opened.IsZero() {
		f.number(factOpened, q.Opened.Unix())
	}
	f.number(factBytes, q.Bytes)
	return f
}

// decodeRecord reads what encodeRecord wrote. A name that we do not know makes the record one that we do not know.
func decodeRecord(id backends.SessionID, data []byte) (session.Record, error) {
	r := session.Record{ID: id}
	d := &r.Decision
	err := readFields(data, func(tag byte, value []byte) (err error) {
		switch tag {
		case fieldKey:
			r.KeyID = string(value)
		case fieldVerdict:
			d.Verdict, err = parseVerdict(string(value))
		case fieldSource:
			d.Source, err = parseSource(string(value))
		case fieldReason:
			d.Reason = string(value)
		case fieldUserID:
			d.UserID = string(value)
		case fieldUser:
			d.User = string(value)
		case fieldRedirect:
			d.Redirect = string(value)
		case fieldTrace:
			r.Trace = string(value)
		case fieldFacts:
			r.Request, err = decodeFacts(id, value)
		case fieldOpened, fieldValidFor, fieldMaxSessions, fieldUnique, fieldCheck:
			err = decodeNumber(&r, tag, value)
		}
		return err
	})
	if err != nil {
		return session.Record{}, err
	}
	return r, nil
}

func decodeNumber(r *session.Record, tag byte, value []byte) error {
	n, err := readNumber(value)
	if err != nil {
		return err
	}
	switch tag {
	case fieldOpened:
		r.Opened = time.Unix(n, 0).UTC()
	case fieldValidFor:
		r.Decision.ValidFor = time.Duration(n)
	case fieldMaxSessions:
		r.Decision.MaxSessions = int(n)
	case fieldUnique:
		r.Decision.Unique = n != 0
	case fieldCheck:
		r.CheckNumber = int(n)
	}
	return nil
}

func decodeFacts(id backends.SessionID, data []byte) (*backends.Request, error) {
	q := &backends.Request{Session: id}
	err := readFields(data, func(tag byte, value []byte) (err error) {
		switch tag {
		case factHeaderName:
			q.Headers = append(q.Headers, backends.Header{Name: string(value)})
		case factHeaderValue:
			if len(q.Headers) == 0 {
				return errMalformed
			}
			q.Headers[len(q.Headers)-1].Value = string(value)
		case factAddress:
			q.Address, err = netip.ParseAddr(string(value))
		case factNumber, factOpened, factBytes:
			err = decodeFactNumber(q, tag, value)
		default:
			decodeFactText(q, tag, string(value))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return q, nil
}

func decodeFactNumber(q *backends.Request, tag byte, value []byte) error {
	n, err := readNumber(value)
	if err != nil {
		return err
	}
	switch tag {
	case factNumber:
		q.Number = int(n)
	case factOpened:
		q.Opened = time.Unix(n, 0).UTC()
	case factBytes:
		q.Bytes = n
	}
	return nil
}

func decodeFactText(q *backends.Request, tag byte, value string) {
	switch tag {
	case factRoute:
		q.Route = value
	case factChannel:
		q.Channel = value
	case factBackend:
		q.Backend = value
	case factQuery:
		q.Query = value
	case factPath:
		q.Path = value
	case factScheme:
		q.Scheme = value
	case factHost:
		q.Host = value
	case factUserAgent:
		q.UserAgent = value
	case factReferer:
		q.Referer = value
	case factDevice:
		q.Device = value
	}
}

// parseVerdict reads a verdict's name: the numbers are this program's own.
func parseVerdict(name string) (backends.Verdict, error) {
	for v := backends.Pending; v <= backends.Denied; v++ {
		if v.String() == name {
			return v, nil
		}
	}
	return 0, fmt.Errorf("verdict %q: %w", name, errMalformed)
}

// parseSource reads a source's name.
func parseSource(name string) (backends.Source, error) {
	for s := backends.SourceNone; s <= backends.FromOperator; s++ {
		if s.String() == name {
			return s, nil
		}
	}
	return 0, fmt.Errorf("source %q: %w", name, errMalformed)
}

// aboutRecord is what a session's record is sealed about.
func aboutRecord(id backends.SessionID) string {
	var b strings.Builder
	b.WriteString("record 1 ")
	b.Write(id[:])
	return b.String()
}
