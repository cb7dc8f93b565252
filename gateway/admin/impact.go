package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"unicode/utf8"
)

// DefaultExpect is how many sessions a kick or a ban may hit unless the request says that it expects more.
const DefaultExpect = 20

// countTimeout bounds the wait for the counts of all nodes: a node that is cut off must not hold up a kick.
const countTimeout = queryTimeout

// errUnexpected means that a kick or a ban would hit more sessions than its request expects, or nobody knows how many.
var errUnexpected = errors.New("nothing is done")

// Impact is what a kick or a ban hits.
type Impact struct {
	// Sessions counts the live sessions of all nodes, Addresses the subscriber prefixes that they are from.
	Sessions  int `json:"sessions"`
	Addresses int `json:"addresses"`
	// Approximate reports that the numbers are estimates, with a standard error of 3 %.
	Approximate bool `json:"approximate,omitempty"`
	// UnreachableNodes are the names of the nodes that did not respond. What only they hold is not counted.
	UnreachableNodes []string `json:"unreachable_nodes,omitempty"`
}

// String describes the impact for operators.
func (i Impact) String() string {
	about := ""
	if i.Approximate {
		about = "about "
	}
	text := fmt.Sprintf("%s%s from %s%s", about, count(i.Sessions, "session", "sessions"), about, count(i.Addresses, "address", "addresses"))
	if len(i.UnreachableNodes) > 0 {
		text += "; nodes that did not respond: " + strings.Join(i.UnreachableNodes, ", ")
	}
	return text
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprint(n, " ", many)
}

// attributes are the impact in the audit log.
func (i Impact) attributes() []slog.Attr {
	all := []slog.Attr{slog.Int("sessions", i.Sessions), slog.Int("addresses", i.Addresses)}
	if len(i.UnreachableNodes) > 0 {
		all = append(all, slog.Any("unreachable_nodes", i.UnreachableNodes))
	}
	return all
}

// confirmation is the part of a request for a kick or a ban that says why, and bounds its impact.
type confirmation struct {
	Reason string `json:"reason"`
	// Expect is how many sessions the caller expects it to hit at most; nil: DefaultExpect.
	Expect *int `json:"expect"`
	// DryRun asks for the impact alone.
	DryRun bool `json:"dry_run"`
}

func (c *confirmation) validate() error {
	if n := utf8.RuneCountInString(c.Reason); n > maxReason {
		return fmt.Errorf("reason: %w: %d characters; want at most %d", errInvalidInput, n, maxReason)
	}
	if c.Expect != nil && *c.Expect < 0 {
		return fmt.Errorf("expect: %w: %d; want a number of sessions", errInvalidInput, *c.Expect)
	}
	return nil
}

// attributes are the reason in the audit, as far as one may be.
func (c *confirmation) attributes() []slog.Attr {
	reason := []rune(c.Reason)
	return []slog.Attr{slog.String("reason", string(reason[:min(len(reason), maxReason)]))}
}

// check returns errUnexpected if the impact is more than the caller expects.
func (c *confirmation) check(i Impact) error {
	expected := DefaultExpect
	if c.Expect != nil {
		expected = *c.Expect
	}
	if i.Sessions > expected {
		return fmt.Errorf("it would hit %v, and %d are expected at most: %w; if it is meant, set expect", i, expected, errUnexpected)
	}
	return nil
}

// mayKickOrBan is mayChange, except that anybody may ask for a dry run.
func (h *handler) mayKickOrBan(w http.ResponseWriter, r *http.Request, action, target string, c confirmation) bool {
	return c.DryRun || h.mayChange(w, r, action, target, c.attributes()...)
}

// measure counts what a kick or a ban of the matching sessions would hit. Another node may be silent, which is named; without the
// count of this node, or of the only one whose sessions match, there is none.
func (h *handler) measure(ctx context.Context, f Filter) (Impact, error) {
	ctx, cancel := context.WithTimeout(ctx, countTimeout)
	defer cancel()
	replies, silent := h.Cluster.Ask(ctx, encodeQuery(countQueryKind, f, 1))
	if own := h.Cluster.Name(); f.Node == "" || f.Node == own {
		if _, _, err := decodeNodeSessions(replies[own]); err != nil {
			return Impact{}, fmt.Errorf("this node could not count the sessions within %v, or not read the credentials of "+
				"credentials_of from redis: %w; try again", countTimeout, errUnexpected)
		}
	}
	i := mergeCounts(f, replies, silent)
	if f.Node != "" && len(i.UnreachableNodes) > 0 {
		return Impact{}, fmt.Errorf("node %s could not count its sessions within %v: %w; try again", f.Node, countTimeout, errUnexpected)
	}
	return i, nil
}

// refused is the response to a request that would hit more than expected.
type refused struct {
	Error string `json:"error"`
	Impact
}

// confirm counts what a kick or a ban of the matching sessions hits: that many at least. If the request asks for the numbers alone,
// if they are more than expected, or if they are unknown, it responds, and nothing must be done.
func (h *handler) confirm(
	w http.ResponseWriter, r *http.Request, action, target string, c confirmation, f Filter, least int,
) (i Impact, isConfirmed bool) {
	i, err := h.measure(r.Context(), f)
	if h.refuse(w, r, action, target, err, c.attributes()...) {
		return i, false
	}
	i.Sessions, i.Addresses = max(least, i.Sessions), max(least, i.Addresses)
	if c.DryRun {
		writeJSON(w, i)
		return i, false
	}
	if err = c.check(i); err == nil {
		return i, true
	}
	h.log.Record(r, action, target, err, append(i.attributes(), c.attributes()...)...)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusConflict)
	_ = encodeJSON(w, refused{err.Error(), i}) // it fails only if the client has disconnected
	return i, false
}
