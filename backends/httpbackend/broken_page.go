package httpbackend

import (
	"bytes"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"usher/backends"
)

// BrokenPage is what an allowing answer means whose body looks like a broken page, where the contract has no body.
type BrokenPage uint8

// The meanings.
const (
	// BrokenPageAlarm raises an alarm for a web page. The answer of a page with the signs of an error also holds no longer
	// than sessions.recheck.min. It is the zero value.
	BrokenPageAlarm BrokenPage = iota
	// BrokenPageFailure makes a failure of a page with the signs of an error, and of any text where the contract has none. The answer
	// waits for the body's end or first byte.
	BrokenPageFailure
	// BrokenPageIgnore looks at no body.
	BrokenPageIgnore
)

// String returns the meaning as the config spells it.
func (b BrokenPage) String() string { return [...]string{"alarm", "failure", "ignore"}[b] }

// MarshalText returns the meaning as the config spells it.
func (b BrokenPage) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText parses a meaning of the config.
func (b *BrokenPage) UnmarshalText(text []byte) error {
	for candidate := BrokenPageAlarm; candidate <= BrokenPageIgnore; candidate++ {
		if candidate.String() == string(text) {
			*b = candidate
			return nil
		}
	}
	return fmt.Errorf("broken_page %q: want ignore, alarm or failure", text)
}

// page is what the beginning of a body looks like.
type page uint8

const (
	pageNone    page = iota // nothing, or what a program says to a program
	pageText                // such words, where the contract has none
	pageWarning             // what PHP says before a program's words or an empty answer
	pageHTML                // a web page
	pageError               // a page with the signs of an error
)

// String returns what a page is called in alarms and errors. It quotes nothing of the page.
func (p page) String() string {
	return [...]string{"no page", "text", "PHP's warnings", "a web page", "an error page"}[p]
}

// pageFinder finds broken pages.
type pageFinder struct{ errors, warning, warningStart *regexp.Regexp }

func newPageFinder() pageFinder {
	return pageFinder{
		errors: regexp.MustCompile(errorSigns), warning: regexp.MustCompile(phpWarning), warningStart: regexp.MustCompile(phpWarningStart),
	}
}

// errorSigns matches what only a program that failed, or a web server in its place, writes:
//   - PHP's errors, in HTML and in text. A header that PHP could not send is among them, since it may be the refusal;
//   - stack traces of PHP, Python, Java, .NET, Node.js and Go, and Perl's software error;
//   - the titles of error pages: most begin with the status, some with words.
const errorSigns = `(?i)\b(?:fatal|parse) error(?:</b>)?\s*:` +
	`|cannot modify header information|headers already sent` +
	`|uncaught (?:\w+\\)*\w*(?:error|exception)\b|unhandled exception|exception in thread "` +
	`|stack trace:|traceback \(most recent call last\)|\n\s+at [\w.$<> ]+ ?\([^)\n]*:\d+\)|goroutine \d+ \[` +
	`|<(?:title|h1)>\s*(?:(?:http )?(?:status |error )?[45]\d\d\b|internal server error|service unavailable|server error|runtime error|iis [\d.]+ detailed error)` +
	`|server error in '[^'\n]*' application|<h1>software error:`

// phpWarning matches what PHP writes of an error after which the script goes on, as display_errors or log_errors has it, to its end:
// between error_prepend_string and error_append_string, which are some of HTML, and with what Xdebug makes of it: a table, or lines of text
// below it, and a line above one that @ would have hidden (xdebug.scream). Those that end the script, "Fatal error", "Parse error" and
// "Recoverable fatal error", which was "Catchable fatal error", are among the errorSigns.
// A message that names another line goes on behind it: "called in FILE on line N and defined in FILE on line N".
const (
	phpLevel     = `(?:Warning|Notice|Deprecated|Strict Standards|Unknown error)(?:</b>)?: `
	phpPrepended = `(?:<(?:b|br|code|div|font|hr|p|pre|span)\b[^>]*>\s*)*`
	phpAppended  = `(?:\s*(?:<(?:[bh]r ?/?|p)>|</\w+>))`
	xdebugTable  = `<table class=["']xdebug-error`
	xdebugScream = `(?:SCREAM:\s+Error suppression ignored for\s+)?`
	xdebugStack  = `(?:\s*(?:Call Stack|Variables in local scope \(#\d+\)):[ \t]*\r?\n(?:[ \t]+\S[^\n]*(?:\n|\z))+)*`

	phpWarning = `^` + phpPrepended + `(?:` + xdebugScream +
		`(?:PHP )?` + phpLevel + `(?s:.+?) in (?s:.+?) on line (?:<b>)?\d+(?:` + phpAppended + `+|[ \t]*[\r\n]|[ \t]*\z)` + xdebugStack +
		`|` + xdebugTable + `(?s:.+?)` + phpLevel + `(?s:.+?)</table>)` + phpAppended + `*`
	// phpWarningStart matches one without its end, of the length that messages have, or what is too short to tell.
	phpWarningStart = `^` + phpPrepended + `(?:` + xdebugScream + `(?:PHP )?` + phpLevel + `(?s:.{0,1000})|` + xdebugTable + `(?s:.*)|(?s:.{0,40}))\z`
)

// find returns what the beginning of a body looks like that came with that header.
func (f pageFinder) find(h http.Header, text []byte) page {
	switch {
	case len(bytes.TrimSpace(text)) == 0, startsAsDeclared(h, text):
		return pageNone
	case f.errors.Match(text):
		return pageError
	case isHTML(text) && !isHTML(f.skipWarnings(text)):
		return pageWarning
	case isHTML(text):
		return pageHTML
	default:
		return pageNone
	}
}

// isHTML reports whether the text is a web page. The Content-Type does not say: PHP sends text/html without a body too.
func isHTML(text []byte) bool {
	return strings.HasPrefix(http.DetectContentType(text), "text/html") || bytes.Contains(bytes.ToLower(text), []byte("<html"))
}

// blank is what a body without a word holds: white space, and the byte order mark of a script.
const blank = " \t\r\n\ufeff"

// readUnexpected reads the beginning of a body where the contract has none. What PHP writes before an empty one is expected: blanks and
// whole warnings.
func (f pageFinder) readUnexpected(a *Response, text []byte) {
	if len(bytes.TrimLeft(text, blank)) == 0 {
		return
	}
	a.isUnexpected = len(f.skipWarnings(text)) > 0
	switch {
	case a.page > pageWarning:
	case a.isUnexpected:
		a.page = pageText
	default:
		a.page = pageWarning
	}
}

// skipWarnings returns what follows the warnings with which PHP begins a body, and blanks. The last one that fits into maxPage may be cut
// off.
func (f pageFinder) skipWarnings(text []byte) []byte {
	isCut := len(text) == maxPage
	text = bytes.TrimLeft(text, blank)
	for end := f.warning.FindIndex(text); end != nil; end = f.warning.FindIndex(text) {
		text = bytes.TrimLeft(text[end[1]:], blank)
	}
	if isCut && f.warningStart.Match(text) {
		return nil
	}
	return text
}

// mayBePage reports whether an answer's body can be a page, by its Content-Type. A program that failed leaves the type that it
// had set for its answer, or none.
func mayBePage(h http.Header) bool {
	media, _, _ := strings.Cut(contentType(h), "/")
	return !slices.Contains([]string{"image", "audio", "video", "font"}, media)
}

// contentType returns the Content-Type in lower case, without parameters.
func contentType(h http.Header) string {
	kind, _, _ := strings.Cut(strings.ToLower(h.Get("Content-Type")), ";")
	return strings.TrimSpace(kind)
}

// startsAsDeclared reports whether the text begins with a value of JSON, and is declared to be one. JSON may speak of errors, and PHP
// writes its own before anything else or in the place of the answer.
func startsAsDeclared(h http.Header, text []byte) bool {
	kind := contentType(h)
	if !strings.HasSuffix(kind, "/json") && !strings.HasSuffix(kind, "+json") {
		return false
	}
	text = bytes.TrimLeft(text, blank)
	return len(text) > 0 && bytes.IndexByte([]byte(`{["-0123456789tfn`), text[0]) >= 0
}

// noteLatePage raises the alarm for a page that came after the decision. The answers after it are read as before.
func (c *Client) noteLatePage(h http.Header, text []byte) {
	if p := c.pages.find(h, text); p != pageNone && c.brokenPage != BrokenPageIgnore {
		c.alarms.Record(time.Now(), AlarmSet(0).With(backends.AlarmBrokenPage), "allowed, and later came "+p.String())
	}
}

// isBroken reports whether a page that came with an allowing answer should not have. A body that is required is no broken page by itself.
func (c *Client) isBroken(p page) bool {
	return p != pageNone && c.brokenPage != BrokenPageIgnore && (c.requirements.body == nil || p == pageError)
}

// readPage reads what a broken page means that came with an allowing answer.
func (c *Client) readPage(r *Classification, a Response) {
	text := "allowed, but with " + a.page.String()
	r.raise(backends.AlarmBrokenPage, text)
	switch {
	case c.brokenPage == BrokenPageFailure && (a.page == pageError || a.isUnexpected):
		r.Failure = &backends.Failure{Kind: backends.FailureMalformed, Backend: c.name, Err: fmt.Errorf("%s in its body", text)}
	case a.page == pageError:
		r.Decision.ValidFor = backends.ShortestValidity
		r.Decision.Reason += ", with " + a.page.String()
	}
}
