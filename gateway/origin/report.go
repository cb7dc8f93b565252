package origin

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"usher/backends"
	"usher/backends/setting"
)

// Reason says in one word why a viewer did not get what an origin has.
type Reason string

// The reasons.
const (
	ReasonConnect          Reason = "connect"
	ReasonTLS              Reason = "tls"
	ReasonTimeout          Reason = "timeout"
	ReasonBrokenOff        Reason = "broken_off"
	ReasonMalformed        Reason = "malformed"
	ReasonInvalidPlaylist  Reason = "invalid_playlist"
	ReasonTooLarge         Reason = "too_large"
	ReasonForbidden        Reason = "forbidden"
	ReasonPlaylistNotFound Reason = "playlist_not_found"
	ReasonMediaNotFound    Reason = "media_not_found"
	ReasonServerError      Reason = "server_error"
	ReasonStatus           Reason = "unexpected_status"
	ReasonRedirect         Reason = "redirect"
	ReasonHost             Reason = "unlisted_host"
	ReasonAddress          Reason = "private_address"
	ReasonOverload         Reason = "overload"
	ReasonListedPath       Reason = "listed_path"
)

// Failure is the last failure of one reason that a viewer felt.
type Failure struct {
	Reason  Reason
	Channel string
	// URL is the URL that failed, after redirects, without credentials and query.
	URL string
	// Status is the origin's status; 0 if there is none.
	Status int
	// Error says what happened, and Advice what to do.
	Error, Advice string
	Time          time.Time
	// Count is how many requests of viewers failed for the reason.
	Count uint64
}

// FailedRequest is a request of a viewer for which an origin failed.
type FailedRequest struct {
	Err        error
	Channel    string
	IsPlaylist bool
	// Base, Path and IsListed are those of the [Request].
	Base, Path string
	IsListed   bool
	// Hide, if not nil, removes from a URL what only its viewer may know.
	Hide func(url string) string
}

// ErrInvalidPlaylist means that the body of a playlist is none.
var ErrInvalidPlaylist = errors.New("the body is no valid playlist")

const (
	// warnEvery is how often a failure of one reason is logged.
	warnEvery = time.Minute
	// maxWarnedHosts bounds the hosts that are remembered because a warning named them.
	maxWarnedHosts = 100
)

// failureLog keeps the last failure of each reason.
type failureLog struct {
	mu       sync.Mutex
	failures map[Reason]*loggedFailure
	hosts    map[string]time.Time // when a warning named each unlisted host
}

type loggedFailure struct {
	Failure
	warned   time.Time
	unwarned uint64 // failures since then, this one included
}

// Report records a failure that a viewer felt. It logs one warning for each reason a minute, and for each host that a
// setting does not allow.
func (o *Origin) Report(r FailedRequest) {
	isViewersPath := errors.Is(r.Err, ErrPath) && !r.IsListed
	if isViewersPath || errors.Is(r.Err, context.Canceled) || errors.Is(r.Err, ErrClosed) || errors.Is(r.Err, ErrTooSlow) {
		return // the viewer's, or the end of the node
	}
	f := Failure{Reason: reasonOf(r), Channel: r.Channel, URL: o.urlOf(r), Error: r.Err.Error(), Time: time.Now()}
	f.Advice = o.advice(f.Reason, r.Err)
	if status, ok := errors.AsType[*StatusError](r.Err); ok {
		f.URL, f.Status = status.URL, status.Status
	}
	if unreachable, ok := errors.AsType[*UnreachableError](r.Err); ok {
		f.URL = unreachable.URL
	}
	if r.Hide != nil {
		f.URL, f.Error = r.Hide(f.URL), r.Hide(f.Error)
	}
	host := ""
	if refused, ok := errors.AsType[*HostError](r.Err); ok {
		host = refused.Host
	}
	if count := o.failures.record(&f, host); count > 0 {
		o.log.Warn("origin failed", slog.String("reason", string(f.Reason)), slog.String("channel", f.Channel), slog.String("url", f.URL),
			slog.Int("status", f.Status), slog.String("error", f.Error), slog.String("advice", f.Advice), slog.Uint64("failures", count))
	}
}

// urlOf returns the URL of a request at the preferred address.
func (o *Origin) urlOf(r FailedRequest) string {
	own := o.addresses[0].url
	return cmp.Or(r.Base, own.Scheme+"://"+own.Host+prefixOf(own)) + r.Path
}

// record keeps the failure, and returns how many failures a warning is due for; 0: none is due.
func (l *failureLog) record(f *Failure, host string) (due uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := l.failures[f.Reason]
	if kept == nil {
		kept = &loggedFailure{}
		if l.failures == nil {
			l.failures = make(map[Reason]*loggedFailure)
		}
		l.failures[f.Reason] = kept
	}
	f.Count = kept.Count + 1
	kept.Failure = *f
	kept.unwarned++
	isDue := f.Time.Sub(kept.warned) >= warnEvery
	if host != "" {
		isDue = l.warnsOfHost(host, f.Time)
	}
	if !isDue {
		return 0
	}
	due, kept.warned, kept.unwarned = kept.unwarned, f.Time, 0
	return due
}

// warnsOfHost reports whether a warning of a host is due. l.mu is held.
func (l *failureLog) warnsOfHost(host string, now time.Time) bool {
	last, isKnown := l.hosts[host]
	if isKnown && now.Sub(last) < warnEvery {
		return false
	}
	if len(l.hosts) >= maxWarnedHosts && !isKnown {
		maps.DeleteFunc(l.hosts, func(_ string, last time.Time) bool { return now.Sub(last) >= warnEvery })
	}
	if len(l.hosts) >= maxWarnedHosts && !isKnown {
		return false
	}
	if l.hosts == nil {
		l.hosts = make(map[string]time.Time)
	}
	l.hosts[host] = now
	return true
}

// Failures returns the last failure of each reason, the newest first.
func (o *Origin) Failures() []Failure {
	o.failures.mu.Lock()
	defer o.failures.mu.Unlock()
	var all []Failure
	for _, reason := range slices.Sorted(maps.Keys(o.failures.failures)) {
		all = append(all, o.failures.failures[reason].Failure)
	}
	slices.SortStableFunc(all, func(a, b Failure) int { return b.Time.Compare(a.Time) })
	return all
}

// ReportUnlisted warns once of a host that a playlist names and the settings do not, whose URIs viewers get as they are.
func (o *Origin) ReportUnlisted(scheme, host, channel string) {
	l := &o.failures
	l.mu.Lock()
	key := "listed by a playlist: " + host
	_, isKnown := l.hosts[key]
	isDue := !isKnown && l.warnsOfHost(key, time.Now())
	l.mu.Unlock()
	if isDue {
		o.log.Warn("playlist names an unlisted host, viewers fetch from it without the gateway, list it in redirect_hosts or public_names to change that",
			slog.String("host", host), slog.String("scheme", scheme), slog.String("channel", channel),
			slog.String("setting", "origins."+o.name+".redirect_hosts"))
	}
}

// reasonOf returns the reason of a failure.
func reasonOf(r FailedRequest) Reason {
	if status, ok := errors.AsType[*StatusError](r.Err); ok {
		return reasonOfStatus(status, r.IsPlaylist)
	}
	if refused, ok := errors.AsType[*HostError](r.Err); ok {
		if refused.Address.IsValid() {
			return ReasonAddress
		}
		return ReasonHost
	}
	switch {
	case errors.Is(r.Err, ErrInvalidPlaylist):
		return ReasonInvalidPlaylist
	case errors.Is(r.Err, ErrTooLarge):
		return ReasonTooLarge
	case backends.IsOverload(r.Err):
		return ReasonOverload
	case errors.Is(r.Err, ErrPath):
		return ReasonListedPath
	default:
		return reasonUnreachable(r.Err)
	}
}

// reasonUnreachable returns the reason of a failure without a usable response.
func reasonUnreachable(err error) Reason {
	timeout, isTimeout := errors.AsType[*timeoutError](err)
	unreachable, _ := errors.AsType[*UnreachableError](err)
	switch {
	case isTimeout && timeout.setting != "fetch.connect_timeout", errors.Is(err, context.DeadlineExceeded):
		return ReasonTimeout
	case errors.Is(err, errRedirect):
		return ReasonRedirect
	case errors.Is(err, errMalformed):
		return ReasonMalformed
	case isTLS(err):
		return ReasonTLS
	case unreachable != nil && unreachable.isUnconnected:
		return ReasonConnect
	default:
		return ReasonBrokenOff
	}
}

func reasonOfStatus(err *StatusError, isPlaylist bool) Reason {
	switch {
	case err.IsNotFound() && isPlaylist:
		return ReasonPlaylistNotFound
	case err.IsNotFound():
		return ReasonMediaNotFound
	case err.Status == http.StatusUnauthorized, err.Status == http.StatusForbidden:
		return ReasonForbidden
	case err.Status >= http.StatusInternalServerError:
		return ReasonServerError
	default:
		return ReasonStatus
	}
}

func isTLS(err error) bool {
	_, isCertificate := errors.AsType[*tls.CertificateVerificationError](err)
	_, isAlert := errors.AsType[tls.AlertError](err)
	return isCertificate || isAlert || setting.TLSAdvice(err, "") != ""
}

// advice says what to do about a failure.
func (o *Origin) advice(reason Reason, err error) string {
	at := "origins." + o.name + "."
	switch reason {
	case ReasonConnect:
		return "check " + at + "url and that the origin runs; " + at + "fallback is tried when it does not"
	case ReasonTLS:
		return cmp.Or(setting.TLSAdvice(err, at+"tls"), "check the scheme in "+at+"url and the origin's certificate")
	case ReasonTimeout:
		if timeout, ok := errors.AsType[*timeoutError](err); ok {
			return fmt.Sprintf("check the origin's load, or set %s above %v", timeout.setting, timeout.value)
		}
		return "check the origin's load"
	case ReasonForbidden:
		return "set " + at + "headers to what the origin wants (User-Agent, Referer, Authorization), or " + at + "keep_cookies"
	case ReasonPlaylistNotFound, ReasonMediaNotFound:
		return "check the route's origin_path; " + at + "fallback_on_404 tries the next address"
	case ReasonHost, ReasonAddress, ReasonRedirect:
		return o.redirectAdvice(reason, err)
	case ReasonTooLarge, ReasonOverload:
		return "raise the setting that the error names"
	case ReasonListedPath:
		return "have the origin's playlist list a name without backslashes, escaped dot segments and stray % signs"
	default:
		return "check what the origin sends for this URL"
	}
}

// redirectAdvice says what to do about a redirect that was refused.
func (o *Origin) redirectAdvice(reason Reason, err error) string {
	at := "origins." + o.name + "."
	refused, _ := errors.AsType[*HostError](err)
	switch reason {
	case ReasonHost:
		return fmt.Sprintf("add %q to %sredirect_hosts, or to %spublic_names if it is the origin itself", refused.Host, at, at)
	case ReasonAddress:
		return fmt.Sprintf("add the network of %s to %sallowed_networks if the host is yours", refused.Address, at)
	default:
		return "check where the origin redirects; " + at + "public_names tells it from another host"
	}
}

// shownURL returns a URL without user, password and query, each of which may hold a secret.
func shownURL(u *url.URL) string {
	return u.Scheme + "://" + u.Host + cmp.Or(u.EscapedPath(), "/")
}
