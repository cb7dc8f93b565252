package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"

	"usher/actors/session"
	"usher/backends"
	"usher/cluster/redisclient"
)

// recordVersion is the version of the records that this program writes. A record of a newer version is ignored and never
// overwritten. A new field needs no new version, as long as a reader that skips it is not misled.
const recordVersion = 1

// The fields of an encoded record. Each is its tag, the length of its value, and the value: the bytes of a string as they
// are, since a query may have any bytes, or an unsigned varint. Empty fields are omitted, unknown ones skipped. A tag never
// changes its meaning.
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
	fieldRequest // as appendRequest writes it
	fieldChallenge
)

// The fields of a request.
const (
	requestNumber = iota + 1
	requestRoute
	requestChannel
	requestBackend
	requestQuery
	requestHeaderName // the next requestHeaderValue is its value
	requestHeaderValue
	requestPath
	requestScheme
	requestHost
	requestUserAgent
	requestReferer
	requestAddress
	requestOpened // Unix seconds
	requestBytes
	requestDevice
	requestGroup // 16 bytes
	requestEdge  // as encodeEdgeReport writes it
)

var errMalformed = errors.New("malformed record")

// fields is a record or a request while it is encoded.
type fields []byte

func (f fields) text(tag byte, value string) fields {
	if value == "" {
		return f
	}
	return append(binary.AppendUvarint(append(f, tag), uint64(len(value))), value...)
}

func (f fields) number(tag byte, value int64) fields {
	if value <= 0 {
		return f
	}
	var digits [binary.MaxVarintLen64]byte
	return f.text(tag, string(digits[:binary.PutUvarint(digits[:], uint64(value))]))
}

// readFields calls visit for each field in order.
func readFields(data []byte, visit func(tag byte, value []byte) error) error {
	for len(data) > 0 {
		tag := data[0]
		length, n := binary.Uvarint(data[1:])
		if n <= 0 || length > uint64(len(data)-1-n) {
			return errMalformed
		}
		value := data[1+n : 1+n+int(length)]
		if err := visit(tag, value); err != nil {
			return err
		}
		data = data[1+n+int(length):]
	}
	return nil
}

// readNumber reads what [fields.number] wrote, which is never zero.
func readNumber(value []byte) (int64, error) {
	n, read := binary.Uvarint(value)
	if read != len(value) || int64(n) <= 0 {
		return 0, errMalformed
	}
	return int64(n), nil
}

// usualRecord and usualRequest are sizes in bytes that few records and requests exceed.
const usualRecord, usualRequest = 512, 320

// encodeRecord encodes the part of a record that is encrypted. Its expiry, revision and tombstones are separate fields,
// which scripts read.
func encodeRecord(r *session.Record) []byte { return appendRecord(make([]byte, 0, usualRecord), r) }

// appendRecord appends to b what [encodeRecord] returns.
func appendRecord(b []byte, r *session.Record) []byte {
	f := fields(b)
	f = f.number(fieldOpened, r.Opened.Unix())
	f = f.text(fieldKey, r.KeyID)
	d := &r.Decision
	f = f.text(fieldVerdict, d.Verdict.String())
	f = f.text(fieldSource, d.Source.String())
	f = f.text(fieldReason, d.Reason)
	f = f.text(fieldUserID, d.UserID)
	f = f.text(fieldUser, d.User)
	f = f.number(fieldValidFor, int64(d.ValidFor))
	f = f.number(fieldMaxSessions, int64(d.MaxSessions))
	if d.Unique {
		f = f.number(fieldUnique, 1)
	}
	f = f.text(fieldRedirect, d.Redirect)
	f = f.text(fieldChallenge, d.Challenge)
	f = f.number(fieldCheck, int64(r.CheckNumber))
	f = f.text(fieldTrace, r.Trace)
	if r.Request != nil {
		var room [usualRequest]byte
		request := appendRequest(room[:0], r.Request)
		f = append(f, fieldRequest) // even if it is empty: it says that a backend can be asked
		f = binary.AppendUvarint(f, uint64(len(request)))
		f = append(f, request...)
	}
	return f
}

func appendRequest(b []byte, q *backends.Request) []byte {
	f := fields(b)
	f = f.number(requestNumber, int64(q.Number))
	f = f.text(requestRoute, q.Route)
	f = f.text(requestChannel, q.Channel)
	f = f.text(requestBackend, q.Backend)
	f = f.text(requestQuery, q.Query)
	for _, h := range q.Headers {
		if h.Name == "" {
			continue // no header has such a name
		}
		f = f.text(requestHeaderName, h.Name)
		f = f.text(requestHeaderValue, h.Value)
	}
	f = f.text(requestPath, q.Path)
	f = f.text(requestScheme, q.Scheme)
	f = f.text(requestHost, q.Host)
	f = f.text(requestUserAgent, q.UserAgent)
	f = f.text(requestReferer, q.Referer)
	f = f.text(requestDevice, q.Device)
	if !q.Group.IsZero() {
		f = f.text(requestGroup, string(q.Group[:]))
	}
	if q.Edge != nil {
		f = f.text(requestEdge, encodeEdgeReport(q.Edge))
	}
	if q.Address.IsValid() {
		f = f.text(requestAddress, q.Address.String())
	}
	if !q.Opened.IsZero() {
		f = f.number(requestOpened, q.Opened.Unix())
	}
	f = f.number(requestBytes, q.Bytes)
	return f
}

// decodeRecord decodes what encodeRecord wrote. An unknown verdict or source is an error.
func decodeRecord(id backends.SessionID, data []byte) (session.Record, error) {
	r := session.Record{ID: id}
	d := &r.Decision
	err := readFields(data, func(tag byte, value []byte) (err error) {
		switch tag {
		case fieldKey:
			r.KeyID = string(value)
		case fieldVerdict:
			d.Verdict, err = parseName(string(value), backends.Pending, backends.Denied)
		case fieldSource:
			d.Source, err = parseName(string(value), backends.SourceNone, backends.FromOperator)
		case fieldReason, fieldUserID, fieldUser, fieldRedirect, fieldChallenge:
			decodeDecisionText(d, tag, string(value))
		case fieldTrace:
			r.Trace = string(value)
		case fieldRequest:
			r.Request, err = decodeRequest(id, value)
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

func decodeDecisionText(d *backends.Decision, tag byte, value string) {
	switch tag {
	case fieldReason:
		d.Reason = value
	case fieldUserID:
		d.UserID = value
	case fieldUser:
		d.User = value
	case fieldRedirect:
		d.Redirect = value
	case fieldChallenge:
		d.Challenge = value
	}
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
		r.Decision.MaxSessions = int32(min(n, math.MaxInt32))
	case fieldUnique:
		r.Decision.Unique = n != 0
	case fieldCheck:
		r.CheckNumber = int(n)
	}
	return nil
}

func decodeRequest(id backends.SessionID, data []byte) (*backends.Request, error) {
	q := &backends.Request{Session: id}
	err := readFields(data, func(tag byte, value []byte) (err error) {
		switch tag {
		case requestHeaderName:
			q.Headers = append(q.Headers, backends.Header{Name: string(value)})
		case requestHeaderValue:
			if len(q.Headers) == 0 {
				return errMalformed
			}
			q.Headers[len(q.Headers)-1].Value = string(value)
		case requestGroup:
			if copy(q.Group[:], value) != len(value) || len(value) != len(q.Group) {
				return errMalformed
			}
		case requestAddress:
			q.Address, err = netip.ParseAddr(string(value))
		case requestEdge:
			q.Edge, err = decodeEdgeReport(value)
		case requestNumber, requestOpened, requestBytes:
			err = decodeRequestNumber(q, tag, value)
		default:
			decodeRequestText(q, tag, string(value))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return q, nil
}

func decodeRequestNumber(q *backends.Request, tag byte, value []byte) error {
	n, err := readNumber(value)
	if err != nil {
		return err
	}
	switch tag {
	case requestNumber:
		q.Number = int(n)
	case requestOpened:
		q.Opened = time.Unix(n, 0).UTC()
	case requestBytes:
		q.Bytes = n
	}
	return nil
}

func decodeRequestText(q *backends.Request, tag byte, value string) {
	switch tag {
	case requestRoute:
		q.Route = value
	case requestChannel:
		q.Channel = value
	case requestBackend:
		q.Backend = value
	case requestQuery:
		q.Query = value
	case requestPath:
		q.Path = value
	case requestScheme:
		q.Scheme = value
	case requestHost:
		q.Host = value
	case requestUserAgent:
		q.UserAgent = value
	case requestReferer:
		q.Referer = value
	case requestDevice:
		q.Device = value
	}
}

// parseName is [redisclient.ParseName] with an error for an unknown name.
func parseName[T interface {
	~uint8
	String() string
}](name string, first, last T) (T, error) {
	value, known := redisclient.ParseName(name, first, last)
	if !known {
		return value, fmt.Errorf("%q: %w", name, errMalformed)
	}
	return value, nil
}

// recordPurpose is the purpose that a session's record is encrypted for.
func recordPurpose(id backends.SessionID) string {
	var b strings.Builder
	b.WriteString("record 1 ")
	b.Write(id[:])
	return b.String()
}
