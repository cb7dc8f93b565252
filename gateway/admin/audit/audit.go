// Package audit records who changed what by the operator's API, in the log and in a stream of its own.
//
// Invariants:
//   - Every change and every attempt is a record "audit" with actor, client_address, action, target and result. Of requests without
//     a known token, which have no actor, it has those within a bound, and the first beyond it.
//   - No record contains a token.
//   - A stream that cannot be written does not stop a change: the log has the record too.
//   - A file that cannot be rotated is written on, and an error in the log names its folder.
//
// Decided: the record is written after the change, so that a disk that hangs delays a response, and no kick.
//
// Decided: a file's first record says how old it is, and the name of a rotated file when that was. Nothing is remembered, so that
// a restart does not prolong what is kept.
//
// Refused: a library that rotates files. It deletes whole days after the rotation, and never rotates a file that nobody writes to,
// so that the record of a quiet node would stay for ever.
package audit

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"

	"usher/gateway/admin/access"
)

// Log records changes. It is safe for concurrent use.
type Log struct{ loggers []*slog.Logger }

// New returns a Log that writes to the logger and, unless it is nil, to a stream of JSON lines. The stream reports its own
// errors.
func New(logger *slog.Logger, stream io.Writer) *Log {
	l := &Log{loggers: []*slog.Logger{logger}}
	if stream != nil {
		l.loggers = append(l.loggers, slog.New(slog.NewJSONHandler(stream, nil)))
	}
	return l
}

// Target returns what the request of an operation of the API names, or the operation's path.
func Target(r *http.Request) string {
	return cmp.Or(r.PathValue("id"), r.PathValue("name"), r.URL.Path)
}

// maxTextBytes bounds the target and the result of a record, which may hold what anybody sends.
const maxTextBytes = 1 << 10

// Record records a change, or the attempt. The actor is the request's principal. A long target or result is shortened.
func (l *Log) Record(r *http.Request, action, target string, err error, attributes ...slog.Attr) {
	result := "done"
	if err != nil {
		result = err.Error()
	}
	p, _ := access.FromContext(r.Context())
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	all := append([]slog.Attr{
		slog.String("actor", p.Name), slog.String("client_address", cmp.Or(host, r.RemoteAddr)), slog.String("action", action),
		slog.String("target", target[:min(len(target), maxTextBytes)]), slog.String("result", result[:min(len(result), maxTextBytes)]),
	}, attributes...)
	for _, logger := range l.loggers {
		logger.LogAttrs(context.WithoutCancel(r.Context()), slog.LevelInfo, "audit", all...)
	}
}
