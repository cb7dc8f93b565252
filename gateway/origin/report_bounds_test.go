package origin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"usher/backends"
)

func TestReasonOf_EveryError(t *testing.T) {
	t.Parallel()
	status := func(code int) error { return fmt.Errorf("x: %w", &StatusError{Status: code}) }
	unreachable := func(err error) error { return &UnreachableError{Err: err} }
	for name, test := range map[string]struct {
		err             error
		media, playlist Reason
	}{
		"400":                  {status(400), ReasonStatus, ReasonStatus},
		"401":                  {status(401), ReasonForbidden, ReasonForbidden},
		"402":                  {status(402), ReasonStatus, ReasonStatus},
		"403":                  {status(403), ReasonForbidden, ReasonForbidden},
		"404":                  {status(404), ReasonMediaNotFound, ReasonPlaylistNotFound},
		"410":                  {status(410), ReasonMediaNotFound, ReasonPlaylistNotFound},
		"499":                  {status(499), ReasonStatus, ReasonStatus},
		"500":                  {status(500), ReasonServerError, ReasonServerError},
		"599":                  {status(599), ReasonServerError, ReasonServerError},
		"a host":               {&HostError{Host: "a"}, ReasonHost, ReasonHost},
		"an address":           {&HostError{Address: netip.MustParseAddr("10.0.0.1")}, ReasonAddress, ReasonAddress},
		"no playlist":          {ErrInvalidPlaylist, ReasonInvalidPlaylist, ReasonInvalidPlaylist},
		"too large":            {ErrTooLarge, ReasonTooLarge, ReasonTooLarge},
		"overload":             {backends.NewOverload("fetch.max_conns", 1), ReasonOverload, ReasonOverload},
		"a response timeout":   {unreachable(&timeoutError{setting: "fetch.response_timeout"}), ReasonTimeout, ReasonTimeout},
		"an idle timeout":      {unreachable(&timeoutError{setting: "fetch.idle_timeout"}), ReasonTimeout, ReasonTimeout},
		"a connect timeout":    {&UnreachableError{Err: &timeoutError{setting: "fetch.connect_timeout"}, isUnconnected: true}, ReasonConnect, ReasonConnect},
		"a deadline":           {unreachable(context.DeadlineExceeded), ReasonTimeout, ReasonTimeout},
		"a redirect":           {unreachable(errRedirect), ReasonRedirect, ReasonRedirect},
		"malformed":            {unreachable(errMalformed), ReasonMalformed, ReasonMalformed},
		"a certificate":        {unreachable(&tls.CertificateVerificationError{Err: errMalformedName}), ReasonTLS, ReasonTLS},
		"a record":             {unreachable(tls.RecordHeaderError{}), ReasonTLS, ReasonTLS},
		"an alert":             {unreachable(tls.AlertError(40)), ReasonTLS, ReasonTLS},
		"an unconnected alert": {&UnreachableError{Err: tls.AlertError(40), isUnconnected: true}, ReasonTLS, ReasonTLS},
		"no connection":        {&UnreachableError{Err: errors.New("refused"), isUnconnected: true}, ReasonConnect, ReasonConnect},
		"a broken connection":  {unreachable(errors.New("reset")), ReasonBrokenOff, ReasonBrokenOff},
		"any other error":      {errors.New("any other"), ReasonBrokenOff, ReasonBrokenOff},
	} {
		if got := reasonOf(FailedRequest{Err: test.err}); got != test.media {
			t.Errorf("%s, media: got %s, want %s", name, got, test.media)
		}
		if got := reasonOf(FailedRequest{Err: test.err, IsPlaylist: true}); got != test.playlist {
			t.Errorf("%s, playlist: got %s, want %s", name, got, test.playlist)
		}
	}
}

var errMalformedName = errors.New("not valid for the name")

func TestFailureLog_Record_DueOnceAMinute(t *testing.T) {
	t.Parallel()
	var l failureLog
	start := time.Unix(1_000_000, 0)
	for i, step := range []struct {
		reason    Reason
		host      string
		after     time.Duration
		wantDue   uint64
		wantCount uint64
	}{
		{ReasonConnect, "", 0, 1, 1},
		{ReasonConnect, "", 1, 0, 2},
		{ReasonTimeout, "", 1, 1, 1},
		{ReasonConnect, "", time.Minute - 1, 0, 3},
		{ReasonConnect, "", time.Minute, 3, 4},
		{ReasonConnect, "", 2*time.Minute - 1, 0, 5},
		{ReasonConnect, "", 3 * time.Minute, 2, 6},
		{ReasonHost, "a", 0, 1, 1},
		{ReasonHost, "a", time.Minute - 1, 0, 2},
		{ReasonHost, "a", time.Minute, 2, 3},
		{ReasonHost, "b", time.Minute, 1, 4},
		{ReasonHost, "b", 2 * time.Minute, 1, 5},
	} {
		f := Failure{Reason: step.reason, Time: start.Add(step.after)}
		if due := l.record(&f, step.host); due != step.wantDue || f.Count != step.wantCount || l.failures[step.reason].Count != step.wantCount {
			t.Errorf("step %d: a warning of %d, count %d; want %d, %d", i, due, f.Count, step.wantDue, step.wantCount)
		}
	}
}

// TestFailureLog_WarnsOfHost_Bounded fills the log with hosts.
func TestFailureLog_WarnsOfHost_Bounded(t *testing.T) {
	t.Parallel()
	var l failureLog
	start := time.Unix(1_000_000, 0)
	warns := func(step, host string, after time.Duration, want bool) {
		t.Helper()
		if got := l.warnsOfHost(host, start.Add(after)); got != want {
			t.Errorf("%s: a warning: %v, want %v", step, got, want)
		}
	}
	warns("the first host", "first", 0, true)
	for i := range maxWarnedHosts - 1 {
		warns("another host", fmt.Sprint(i), 2*time.Minute, true)
	}
	if got := len(l.hosts); got != maxWarnedHosts {
		t.Errorf("%d hosts are kept, want %d", got, maxWarnedHosts)
	}
	warns("a known host while it is full", "first", 2*time.Minute, true)
	warns("one host too many", "more", 3*time.Minute-1, false)
	warns("a known host while it is full, a minute later", "0", 3*time.Minute, true)
	if got := len(l.hosts); got != maxWarnedHosts {
		t.Errorf("%d hosts are kept after known ones, want %d", got, maxWarnedHosts)
	}
	warns("an unknown host once others are a minute old", "more", 3*time.Minute, true)
	if got := len(l.hosts); got != 2 {
		t.Errorf("%d hosts are kept, want the two of that time", got)
	}
}

// TestOrigin_ReportUnlisted_NotForgotten checks that a host is not warned of again while there is room for others.
func TestOrigin_ReportUnlisted_NotForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newNetworkFixture(t, newNetwork(t, nil), nil, "a")
		log := logTo(o)
		for i, host := range []string{"x", "y", "x", "y", "z"} {
			o.ReportUnlisted("https", host, "a001")
			sleep(time.Minute)
			if got, want := strings.Count(log.String(), "\n"), min(i+1, 2)+i/4; got != want {
				t.Errorf("after report %d: %d warnings, want %d", i+1, got, want)
			}
		}
	})
}

func TestOrigin_Report_ViewersOwn_NotRecorded(t *testing.T) {
	t.Parallel()
	for _, err := range []error{context.Canceled, ErrClosed, ErrPath, ErrTooSlow} {
		o := newFixture(t, nil, []string{"http://a"})
		o.Report(FailedRequest{Err: fmt.Errorf("x: %w", err)})
		if got := o.Failures(); len(got) != 0 {
			t.Errorf("%v: got %+v", err, got)
		}
	}
}

// TestOrigin_Report_ListedPath has a playlist list what no origin is asked for, which is the origin's doing.
func TestOrigin_Report_ListedPath(t *testing.T) {
	t.Parallel()
	for _, path := range []string{`/a\b.ts`, "/p%.ts", "/p%zz.ts", "/%2e%2e/v11.m3u8"} {
		o := newFixture(t, nil, []string{"http://a"})
		_, _, err := fetchMedia(t, o, Request{Path: path, IsListed: true})
		o.Report(FailedRequest{Err: err, Path: path, IsListed: true})
		if got := o.Failures(); len(got) != 1 || got[0].Reason != ReasonListedPath || got[0].Advice == "" || !strings.Contains(got[0].URL, path) {
			t.Errorf("%s: got %v and the failures %+v, want one with the reason %s", path, err, got, ReasonListedPath)
		}
	}
}

func TestOrigin_Report_Hides(t *testing.T) {
	t.Parallel()
	o := newFixture(t, nil, []string{"http://a/v1"})
	hide := func(text string) string { return strings.ReplaceAll(text, "5ecret", "…") }
	o.Report(FailedRequest{Err: errors.New("no 5ecret"), Path: "/5ecret/x.ts", Hide: hide})
	if got := o.Failures()[0]; got.URL != "http://a/v1/…/x.ts" || got.Error != "no …" {
		t.Errorf("got %q, %q", got.URL, got.Error)
	}
	o.Report(FailedRequest{Err: errors.New("no 5ecret"), Base: "http://b", Path: "/5ecret/x.ts"})
	if got := o.Failures()[0]; got.URL != "http://b/5ecret/x.ts" || got.Error != "no 5ecret" || got.Count != 2 {
		t.Errorf("without Hide: got %+v", got)
	}
}
