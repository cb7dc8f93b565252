package httpbackend

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
)

const ownHost = "portal.example.com"

// ownAddress is where the backend is called.
func ownAddress() *url.URL { return &url.URL{Scheme: "http", Host: ownHost, Path: "/check"} }

func header(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

func TestStatusTable_Classify_Headers(t *testing.T) {
	t.Parallel()
	badHeader := AlarmSet(0).With(backends.AlarmBadHeader)
	allowed := backends.Decision{Verdict: backends.Allowed, Source: backends.FromBackend, Reason: "backend answered 200"}
	with := func(change func(*backends.Decision)) backends.Decision {
		d := allowed
		change(&d)
		return d
	}
	tests := map[string]struct {
		header http.Header
		want   backends.Decision
		alarms AlarmSet
	}{
		"none at all": {header(), allowed, 0},
		"all of them": {
			header("X-Session-Name", "alice", "X-UserId", "42", "X-AuthDuration", "36000", "X-Max-Sessions", "3", "X-Unique", "true"),
			with(func(d *backends.Decision) {
				d.User, d.UserID, d.ValidFor, d.MaxSessions, d.Unique = "alice", "42", 10*time.Hour, 3, true
			}), 0,
		},
		"a user id need not be a number":        {header("X-UserId", "a1-б"), with(func(d *backends.Decision) { d.UserID = "a1-б" }), 0},
		"only the exact word true is unique":    {header("X-Unique", "True"), allowed, badHeader},
		"one is not true":                       {header("X-Unique", "1"), allowed, badHeader},
		"false is not unique":                   {header("X-Unique", "false"), allowed, 0},
		"the first of two counts":               {header("X-AuthDuration", "60", "X-AuthDuration", "70"), with(func(d *backends.Decision) { d.ValidFor = time.Minute }), 0},
		"a bound of zero sessions is none":      {header("X-Max-Sessions", "0"), allowed, 0},
		"a negative duration is ignored":        {header("X-AuthDuration", "-1"), allowed, badHeader},
		"a duration of zero is ignored":         {header("X-AuthDuration", "0"), allowed, badHeader},
		"a duration of thirty years is ignored": {header("X-AuthDuration", "1000000000"), allowed, badHeader},
		"a duration beyond 64 bits is ignored":  {header("X-AuthDuration", "99999999999999999999"), allowed, badHeader},
		"a duration in another notation":        {header("X-AuthDuration", "1e9"), allowed, badHeader},
		"a duration that is a word is ignored":  {header("X-AuthDuration", "abc"), allowed, badHeader},
		"a negative number of sessions":         {header("X-Max-Sessions", "-3"), allowed, badHeader},
		"a user id with a control character":    {header("X-UserId", "a\x01b"), allowed, badHeader},
		"a user id that is no UTF-8":            {header("X-UserId", "a\xffb"), allowed, badHeader},
		"a user id without end":                 {header("X-UserId", strings.Repeat("9", 257)), allowed, badHeader},
		"a name is shown without what is not":   {header("X-Session-Name", " al\x00i\x1b[31mce\xff ", "X-UserId", "7"), with(func(d *backends.Decision) { d.User, d.UserID = "ali[31mce", "7" }), badHeader},
		"a name without end is cut":             {header("X-Session-Name", strings.Repeat("é", 300), "X-UserId", "7"), with(func(d *backends.Decision) { d.User, d.UserID = strings.Repeat("é", 128), "7" }), badHeader},
		"a name alone in another code page":     {header("X-Session-Name", "\xc8\xe2\xe0\xed\xee\xe2-1"), allowed, badHeader},
		"a name alone without end":              {header("X-Session-Name", strings.Repeat("x", 257)), allowed, badHeader},
		"a name beside an id that is dropped":   {header("X-Session-Name", "\xcf-1", "X-UserId", "\xcf-1"), allowed, badHeader},
		"a name alone, with spaces around":      {header("X-Session-Name", " \t alice "), with(func(d *backends.Decision) { d.User = "alice" }), 0},
		"a number that was rounded":             {header("X-AuthDuration", "180.0"), allowed, badHeader},
		"a number with a unit":                  {header("X-Max-Sessions", "2 streams"), allowed, badHeader},
		"an X-Location that is no address":      {header("X-Location", "promo channel"), allowed, badHeader},
		"an X-Location on the backend itself":   {header("X-Location", "/promo"), allowed, AlarmSet(0).With(backends.AlarmRedirectToItself)},
		"an X-Location is a denial": {
			header("X-Location", "http://promo.example.com/", "X-Max-Sessions", "3"),
			backends.Decision{
				Verdict: backends.Denied, Source: backends.FromBackend, Reason: "backend answered 200", Redirect: "http://promo.example.com/",
			},
			0,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := mustTable(t, PresetAstra, nil).Classify("portal", ownAddress(), Response{Status: 200, Header: tt.header})
			if got.Failure != nil || got.Raised != tt.alarms {
				t.Errorf("got failure %v and alarms %b, want none and %b", got.Failure, got.Raised, tt.alarms)
			}
			if diff := cmp.Diff(tt.want, got.Decision); diff != "" {
				t.Errorf("decision (-want +got):\n%s", diff)
			}
		})
	}
}

// The alarm names every header that cannot be read, and what holds instead; never a value.
func TestStatusTable_Classify_BadHeaders_AllNamed(t *testing.T) {
	t.Parallel()
	r := mustTable(t, PresetAstra, nil).Classify("portal", ownAddress(), Response{Status: 200, Header: header(
		"X-AuthDuration", "5ecret", "X-Max-Sessions", "5ecret", "X-Unique", "5ecret", "X-UserId", "5ecret\x00", "X-Session-Name", "5ecret\x00",
		"X-Location", "5ecret 5ecret",
	)})
	want := "X-UserId is not printable UTF-8 of at most 256 bytes: the user's streams are counted by X-Session-Name or the credentials; " +
		"X-Session-Name is not printable UTF-8 of at most 256 bytes: it is ignored, and the user's streams are counted by the credentials; " +
		"X-AuthDuration is no number from 1 to 31622400: the decision holds for validity; " +
		"X-Max-Sessions is no number from 0 to 1000000: sessions.per_user.max_streams holds; " +
		"X-Unique is neither true nor false: the user may play several streams; " +
		"Location or X-Location is no http or https address of at most 2048 bytes in printable ASCII, without a user: the viewer is not redirected"
	if r.Detail != want || r.Raised != AlarmSet(0).With(backends.AlarmBadHeader) || r.Decision.Verdict != backends.Allowed {
		t.Errorf("got %s with alarms %b and detail\n%s\nwant\n%s", r.Decision.Verdict, r.Raised, r.Detail, want)
	}
}

func TestStatusTable_Classify_Status(t *testing.T) {
	t.Parallel()
	const promo = "https://promo.example.net/expired.m3u8?x=1"
	unexpected := AlarmSet(0).With(backends.AlarmUnexpectedStatus)
	badHeader := AlarmSet(0).With(backends.AlarmBadHeader)
	moved := AlarmSet(0).With(backends.AlarmAddressMoved)
	itself := AlarmSet(0).With(backends.AlarmRedirectToItself)
	type want struct {
		verdict  backends.Verdict
		redirect string
		failure  string
		alarms   AlarmSet
	}
	tests := map[string]struct {
		preset Preset
		status int
		header http.Header
		want   want
	}{
		"401 denies":                               {PresetAstra, 401, header(), want{verdict: backends.Denied}},
		"403 denies":                               {PresetAstra, 403, header(), want{verdict: backends.Denied}},
		"404 is a wrong address":                   {PresetAstra, 404, header(), want{failure: `check backend "portal": status 404`, alarms: AlarmSet(0).With(backends.AlarmWrongAddress)}},
		"410 denies with an alarm":                 {PresetAstra, 410, header(), want{verdict: backends.Denied, alarms: unexpected}},
		"204 denies with an alarm":                 {PresetAstra, 204, header(), want{verdict: backends.Denied, alarms: unexpected}},
		"503 is a failure":                         {PresetAstra, 503, header(), want{failure: `check backend "portal": status 503`}},
		"302 sends the viewer on":                  {PresetAstra, 302, header("Location", promo), want{verdict: backends.Denied, redirect: promo}},
		"302 with X-Location alone too":            {PresetAstra, 302, header("X-Location", promo), want{verdict: backends.Denied, redirect: promo}},
		"Location wins in a 3xx":                   {PresetAstra, 302, header("X-Location", "http://b.example/", "Location", promo), want{verdict: backends.Denied, redirect: promo}},
		"403 with X-Location":                      {PresetAstra, 403, header("X-Location", promo), want{verdict: backends.Denied, redirect: promo}},
		"403 with a Location, which is not for it": {PresetAstra, 403, header("Location", promo), want{verdict: backends.Denied}},
		"flussonic relays as well":                 {PresetFlussonic, 302, header("Location", promo), want{verdict: backends.Denied, redirect: promo}},
		"alta says no and nothing else":            {PresetAlta, 302, header("Location", promo), want{verdict: backends.Denied}},
		"alta does not know X-Location":            {PresetAlta, 403, header("X-Location", promo), want{verdict: backends.Denied}},
		"auth-proxy with nowhere to follow":        {PresetAuthProxy, 302, header(), want{verdict: backends.Denied, alarms: unexpected}},
		"302 without a place":                      {PresetAstra, 302, header(), want{verdict: backends.Denied, alarms: unexpected}},
		"302 to the portal's login": {
			PresetAstra, 302, header("Location", "https://PORTAL.example.com:8443/login"),
			want{
				failure: `check backend "portal": malformed: status 302: the address has moved; set address to https://PORTAL.example.com:8443/check`,
				alarms:  moved,
			},
		},
		"302 to a path, which is the portal's": {
			PresetAstra, 302, header("Location", "/login"),
			want{failure: `check backend "portal": malformed: status 302 redirects to a page of the backend's own`, alarms: itself},
		},
		"302 to the portal by its absolute name": {
			PresetAstra, 302, header("Location", "//portal.example.com./login"),
			want{failure: `check backend "portal": malformed: status 302 redirects to a page of the backend's own`, alarms: itself},
		},
		"403 with X-Location on the portal still denies": {PresetAstra, 403, header("X-Location", "http://portal.example.com/promo"), want{verdict: backends.Denied, alarms: itself}},
		"a login with a letter of no ASCII": {
			PresetAstra, 302, header("Location", "/login?next=caf\xc3\xa9"),
			want{failure: `check backend "portal": malformed: status 302 redirects to a page of the backend's own`, alarms: itself},
		},
		"a login over TLS with a space, a broken escape and a user": {
			PresetAstra, 302, header("Location", "https://u:p@portal.example.com/login page/%zz"),
			want{failure: `check backend "portal": malformed: status 302: the address has moved; set address to https://portal.example.com/check`, alarms: moved},
		},
		"a login without end": {
			PresetAstra, 302, header("Location", "/login?next="+strings.Repeat("x", 2048)),
			want{failure: `check backend "portal": malformed: status 302 redirects to a page of the backend's own`, alarms: itself},
		},
		"a promo with a letter of no ASCII is not sent": {PresetAstra, 302, header("Location", "http://promo.example.net/\xe9"), want{verdict: backends.Denied, alarms: badHeader}},
		"a script is no place":                          {PresetAstra, 302, header("Location", "javascript:alert(1)"), want{verdict: backends.Denied, alarms: badHeader}},
		"a place with a password":                       {PresetAstra, 302, header("Location", "http://u:p@promo.example.net/"), want{verdict: backends.Denied, alarms: badHeader}},
		"a place with a line break":                     {PresetAstra, 403, header("X-Location", "http://a.example/\r\nX: y"), want{verdict: backends.Denied, alarms: badHeader}},
		"a place with a backslash":                      {PresetAstra, 302, header("Location", `http:\\promo.example.net`), want{verdict: backends.Denied, alarms: badHeader}},
		"a place without end":                           {PresetAstra, 302, header("Location", "http://a.example/"+strings.Repeat("x", 2048)), want{verdict: backends.Denied, alarms: badHeader}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := mustTable(t, tt.preset, nil).Classify("portal", ownAddress(), Response{Status: tt.status, Header: tt.header})
			got := want{verdict: r.Decision.Verdict, redirect: r.Decision.Redirect, alarms: r.Raised}
			if r.Failure != nil {
				got.failure = r.Failure.Error()
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(want{})); diff != "" {
				t.Errorf("reading (-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzClassify(f *testing.F) {
	f.Add(200, "36000", "3", "42", "alice", "http://a.example/", "true")
	f.Add(302, "-1", "1e9", "\x00", "\xff", "//x", "1")
	f.Add(403, "", "", "", "", "http://portal.example.com", "")
	f.Fuzz(func(t *testing.T, status int, duration, sessions, id, name, place, unique string) {
		h := header("X-AuthDuration", duration, "X-Max-Sessions", sessions, "X-UserId", id, "X-Session-Name", name,
			"Location", place, "X-Location", place, "X-Unique", unique)
		for preset := PresetAstra; preset <= PresetAuthProxy; preset++ {
			r := mustTable(t, preset, nil).Classify("portal", ownAddress(), Response{Status: status, Header: h})
			checkClassification(t, r, status)
		}
	})
}

// checkClassification checks what holds of every classification, whatever the answer.
func checkClassification(t *testing.T, r Classification, status int) {
	t.Helper()
	d := r.Decision
	switch {
	case (r.Failure == nil) == (d.Verdict == backends.Pending):
		t.Errorf("got verdict %s and failure %v, want one of them", d.Verdict, r.Failure)
	case d.Verdict == backends.Allowed && status != 200:
		t.Errorf("status %d allows", status)
	case d.Redirect != "" && (d.Verdict != backends.Denied || !isPrintableASCII(d.Redirect) || newRedirectTarget(ownAddress(), d.Redirect).kind != targetViewer):
		t.Errorf("got redirect %q with verdict %s", d.Redirect, d.Verdict)
	case d.ValidFor < 0 || d.ValidFor > maxAuthDuration || d.MaxSessions < 0 || d.MaxSessions > maxSessionsBound:
		t.Errorf("got validity %s and %d sessions, out of bounds", d.ValidFor, d.MaxSessions)
	case len(d.User) > maxUserLength || len(d.UserID) > maxUserLength:
		t.Errorf("got a user of %d and an id of %d bytes", len(d.User), len(d.UserID))
	case strings.ContainsFunc(d.User+d.UserID, unicode.IsControl) || !utf8.ValidString(d.User+d.UserID):
		t.Errorf("got user %q and id %q, want what can be shown", d.User, d.UserID)
	}
}

func BenchmarkClassify(b *testing.B) {
	table := mustTable(b, PresetAstra, nil)
	a := Response{Status: 200, Header: header("X-Session-Name", "alice", "X-UserId", "42", "X-AuthDuration", strconv.Itoa(180))}
	b.ReportAllocs()
	for b.Loop() {
		_ = table.Classify("portal", ownAddress(), a)
	}
}
