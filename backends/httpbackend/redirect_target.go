package httpbackend

import (
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// Redirects is what a redirect of the backend means.
type Redirects uint8

// The meanings.
const (
	// RedirectsByTarget is the zero value. The preset says what a redirect means. Where it redirects viewers, one to media
	// or to another host or port is for the viewer, and one to the backend itself is a failure.
	RedirectsByTarget Redirects = iota
	// RedirectsViewer denies and redirects the viewer, wherever it leads, but to the check with a parameter of the address.
	RedirectsViewer
	// RedirectsFailure makes a failure of every redirect.
	RedirectsFailure
	// RedirectsFollow repeats the call where the redirect leads.
	RedirectsFollow
)

// String returns the meaning as the config spells it; empty for RedirectsByTarget.
func (r Redirects) String() string { return [...]string{"", "viewer", "failure", "follow"}[r] }

// MarshalText returns the meaning as the config spells it.
func (r Redirects) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText parses a meaning of the config.
func (r *Redirects) UnmarshalText(text []byte) error {
	for candidate := RedirectsByTarget; candidate <= RedirectsFollow; candidate++ {
		if candidate.String() == string(text) {
			*r = candidate
			return nil
		}
	}
	return fmt.Errorf("redirects %q: want viewer, failure or follow, or nothing to decide by where it leads", text)
}

// rules returns what the meaning makes of the statuses of redirects.
func (r Redirects) rules() []presetRule {
	switch r {
	case RedirectsViewer, RedirectsFailure:
		return []presetRule{{"3xx", statusMeaning{outcome: OutcomeRedirect}}}
	case RedirectsFollow:
		return []presetRule{{"3xx", statusMeaning{outcome: OutcomeFollow}}}
	default:
		return nil
	}
}

// targetKind is whom a redirect is for, by where it leads.
type targetKind uint8

const (
	targetInvalid targetKind = iota // no http or https address
	targetViewer                    // media, or another authority: for the viewer
	targetMoved                     // the backend's address has moved: for us
	targetOwnPage                   // a page of the backend's own: for nobody
)

// redirectTarget is where a redirect leads.
type redirectTarget struct {
	kind targetKind
	// url is the target as the viewer gets it. Empty: no viewer gets it, since it is longer than maxRedirectLength, not printable ASCII, or
	// has a user.
	url string
	// address is the target without query, as `address` would name it.
	address string
	// mayBeCheck: its path is the check's own. Nothing else can be where the backend has moved to. The root is that of any server.
	mayBeCheck bool
	// repeatsAddress: it is the check's own path with a parameter of the configured address, which is a secret or leads to one. So it is
	// for no viewer.
	repeatsAddress bool
}

// newRedirectTarget returns where a redirect of the backend at that address leads. A relative one leads to the backend's
// own authority.
func newRedirectTarget(address *url.URL, location string) redirectTarget {
	ref, isSendable := parseLocation(location)
	if ref == nil {
		return redirectTarget{}
	}
	u := address.ResolveReference(ref)
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return redirectTarget{}
	}
	isSendable = isSendable && u.User == nil
	t := redirectTarget{
		url: location, kind: kindOfTarget(address, u), mayBeCheck: mayBeCheck(address, u), repeatsAddress: repeatsAddress(address, u),
	}
	switch {
	case !isSendable:
		t.url = ""
	case ref.Host == "":
		t.url = u.String()
	}
	bare := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
	if t.kind == targetMoved { // only the check's own path is known to answer checks
		bare.Path, bare.RawPath = address.Path, address.RawPath
		if isSamePath(address, u) {
			bare.Path, bare.RawPath = u.Path, u.RawPath
		}
	}
	t.address = bare.String()
	return t
}

func mayBeCheck(address, u *url.URL) bool {
	return isSamePath(address, u) && strings.Trim(u.Path, "/") != ""
}

// parseLocation parses a Location, escaped where that is needed, and reports whether it may be sent as it is. It returns nil for what is
// no address even so.
func parseLocation(location string) (ref *url.URL, isSendable bool) {
	if ref, err := url.Parse(escape(location, isPrintable)); err == nil {
		return ref, len(location) <= maxRedirectLength && isPrintableASCII(location)
	}
	ref, err := url.Parse(escape(location, func(c byte) bool { return c != '%' && isPrintable(c) })) // an escape that is none
	if err != nil {
		return nil, false
	}
	return ref, false
}

// repeatsAddress reports whether the target is the check's own path with a parameter of the address, however it is escaped.
func repeatsAddress(address, u *url.URL) bool {
	return isSamePath(address, u) && slices.ContainsFunc(parameters(u.RawQuery), func(p string) bool {
		return slices.Contains(parameters(address.RawQuery), p)
	})
}

func kindOfTarget(address, u *url.URL) targetKind {
	isSameHost := isSameHost(u, address)
	isSameAuthority := isSameHost && port(u) == port(address)
	isItself := isSameAuthority && u.Scheme == address.Scheme && max(u.EscapedPath(), "/") == max(address.EscapedPath(), "/")
	switch {
	case isItself:
		return targetOwnPage
	case isSameHost && isSamePath(address, u), repeatsAddress(address, u):
		return targetMoved
	case isMedia(u.Path):
		return targetViewer
	case isSameHost && address.Scheme == "http" && u.Scheme == "https":
		return targetMoved
	case isSameAuthority:
		return targetOwnPage
	default:
		return targetViewer
	}
}

// isSameHost reports whether both are of one host, whose name may end in a dot.
func isSameHost(a, b *url.URL) bool {
	return strings.EqualFold(strings.TrimSuffix(a.Hostname(), "."), strings.TrimSuffix(b.Hostname(), "."))
}

// isSamePath reports whether both paths are the same but for the last slash.
func isSamePath(a, b *url.URL) bool {
	return strings.TrimRight(a.EscapedPath(), "/") == strings.TrimRight(b.EscapedPath(), "/")
}

// port returns the port, or that of the scheme.
func port(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	default:
		return "80"
	}
}

// isMedia reports whether the path is that of a playlist, a manifest, a segment or a file to play.
func isMedia(p string) bool {
	return slices.Contains([]string{
		".m3u8", ".m3u", ".mpd", ".ism", ".ts", ".m2ts", ".mpegts", ".mp4", ".m4s", ".m4v", ".m4a", ".cmfv", ".cmfa", ".aac", ".ac3",
		".ec3", ".mp3", ".flv", ".mkv", ".webm", ".mov", ".mpg", ".mpeg",
	}, strings.ToLower(path.Ext(p)))
}

func isPrintableASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= 0x7f || !isPrintable(byte(r)) })
}

func isPrintable(c byte) bool { return c > ' ' && c < 0x7f && c != '\\' }

const (
	// redirectWindowLength is the time in which answers are compared.
	redirectWindowLength = time.Minute
	// minWindowAnswers is how many answers a window must have before it says anything.
	minWindowAnswers = 20
	// maxWindowTargets bounds how many targets are told apart. A target of more than half of the answers is among the first.
	maxWindowTargets = 64
)

// redirectWindow notices that most answers are the same redirect to the check's own path on another host. Then it says nothing about
// a viewer: the backend has moved. Any other target is for the viewer, however many are sent there: on a night on which most are
// refused most get the promo. The zero value is ready. Safe for concurrent use.
type redirectWindow struct {
	mu      sync.Mutex
	start   time.Time
	answers int
	targets map[string]int
	moved   string // the target that has most answers; empty: none
}

// isMoved records an answer that redirects to the target, or to none, and reports whether most answers do.
func (w *redirectWindow) isMoved(now time.Time, target string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now.Sub(w.start) >= redirectWindowLength {
		if w.answers < minWindowAnswers {
			w.moved = ""
		}
		w.start, w.answers = now, 0
		clear(w.targets)
	}
	w.answers++
	if _, isKnown := w.targets[target]; target != "" && (isKnown || len(w.targets) < maxWindowTargets) {
		if w.targets == nil {
			w.targets = make(map[string]int)
		}
		w.targets[target]++
	}
	if w.answers >= minWindowAnswers {
		if !w.hasMost(w.moved) {
			w.moved = ""
		}
		if target != "" && w.hasMost(target) {
			w.moved = target
		}
	}
	return target != "" && target == w.moved
}

// hasMost reports whether more than half of the window's answers redirect to the target. The caller holds mu.
func (w *redirectWindow) hasMost(target string) bool { return 2*w.targets[target] > w.answers }
