package httpbackend

import (
	"bytes"
	"strings"
	"testing"
)

func TestPageFinder_Find(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		text string
		want page
	}{
		"nothing":                        {"", pageNone},
		"white space":                    {" \r\n\t", pageNone},
		"a word":                         {"OK", pageNone},
		"JSON":                           {`{"allowed":true,"error":0,"html":"none"}`, pageNone},
		"words about errors":             {"no error; a fatal mistake in the parser", pageNone},
		"a comment in XML":               {"<?xml version='1.0'?><user id='7'/>", pageNone},
		"a page":                         {"<!DOCTYPE html><p>It works!", pageHTML},
		"a page after white space":       {"\n\n  <html><body>Log in</body></html>", pageHTML},
		"XHTML":                          {"<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'>", pageHTML},
		"nginx's welcome":                {"<!DOCTYPE html>\n<html>\n<head>\n<title>Welcome to nginx!</title>", pageHTML},
		"PHP's warning":                  {"<br />\n<b>Warning</b>:  Undefined variable $user in <b>/srv/check.php</b> on line <b>3</b><br />", pageWarning},
		"PHP's warning before words":     {"<br />\n<b>Warning</b>:  Undefined variable $user in <b>/srv/check.php</b> on line <b>3</b><br />\nOK", pageWarning},
		"PHP's warnings before a page":   {strings.Repeat("<b>Notice</b>: m in <b>/srv/a.php</b> on line <b>3</b><br />\n", 2) + "<!DOCTYPE html><p>Hi", pageHTML},
		"PHP's warnings, cut off":        {cutOff("<b>Notice</b>: m in <b>/srv/a.php</b> on line <b>3</b><br />\n"), pageWarning},
		"a part of a warning":            {"<br />\n<b>Warning</b>:  Undefined", pageHTML},
		"PHP's fatal error":              {"<br />\n<b>Fatal error</b>:  Uncaught Error: Class &quot;Stb&quot; not found in /srv/check.php:3", pageError},
		"PHP's fatal error in text":      {"\nFatal error: Uncaught Error: Class \"Stb\" not found in /srv/check.php:3", pageError},
		"PHP's fatal error with its log": {"PHP Fatal error:  Allowed memory size of 134217728 bytes exhausted", pageError},
		"PHP's parse error":              {"<br />\n<b>Parse error</b>:  syntax error, unexpected end of file", pageError},
		"PHP could not send the 403":     {"<b>Warning</b>:  Cannot modify header information - headers already sent by (output started at", pageError},
		"PHP's stack trace":              {"#0 {main} thrown\nStack trace:\n#0 /srv/check.php(3)", pageError},
		"an uncaught exception":          {"Uncaught PDOException: SQLSTATE[HY000] [2002] Connection refused", pageError},
		"one with a namespace":           {"PHP Uncaught Doctrine\\DBAL\\Exception\\ConnectionException in", pageError},
		"Python's":                       {"Traceback (most recent call last):\n  File \"check.py\", line 3", pageError},
		"Java's":                         {"java.lang.NullPointerException\n\tat com.example.Check.doGet(Check.java:42)\n", pageError},
		"Node's":                         {"TypeError: x is not a function\n    at Object.<anonymous> (/srv/check.js:3:1)", pageError},
		"Go's":                           {"panic: runtime error\n\ngoroutine 1 [running]:\nmain.main()", pageError},
		"ASP.NET's":                      {"<title>Runtime Error</title><h1>Server Error in '/' Application.", pageError},
		"nginx's 404":                    {"<html>\r\n<head><title>404 Not Found</title></head>\r\n<body>\r\n<center><h1>404 Not Found", pageError},
		"nginx's 502":                    {"<html>\r\n<head><title>502 Bad Gateway</title></head>", pageError},
		"Apache's 500":                   {"<!DOCTYPE HTML PUBLIC \"-//IETF//DTD HTML 2.0//EN\">\n<html><head>\n<title>500 Internal Server Error</title>", pageError},
		"IIS's 404":                      {"<!DOCTYPE html><html><head><title>404 - File or directory not found.</title>", pageError},
		"Tomcat's 500":                   {"<!doctype html><html lang=\"en\"><head><title>HTTP Status 500 – Internal Server Error</title>", pageError},
		"Jetty's 503":                    {"<html><head><title>Error 503 Service Unavailable</title></head>", pageError},
		"HAProxy's 503":                  {"<html><body><h1>503 Service Unavailable</h1>\nNo server is available", pageError},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := newPageFinder().find(nil, []byte(tt.text)); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// TestPageFinder_ReadUnexpected has each level of PHP's errors in each form that PHP gives it. A script goes on after some of them.
func TestPageFinder_ReadUnexpected(t *testing.T) {
	t.Parallel()
	levels := map[string]bool{ // whether the script goes on
		"Warning": true, "Notice": true, "Deprecated": true, "Strict Standards": true, "Unknown error": true,
		"Fatal error": false, "Parse error": false, "Recoverable fatal error": false, "Catchable fatal error": false,
	}
	forms := map[string]string{
		"in HTML":                 "<br />\n<b>LEVEL</b>:  m in <b>/srv/chk.php</b> on line <b>3</b><br />\n",
		"in HTML of PHP 4":        "<br>\n<b>LEVEL</b>:  m in <b>/srv/chk.php</b> on line <b>3</b><br>\n",
		"in HTML without a break": "<b>LEVEL</b>:  m in <b>/srv/chk.php</b> on line <b>3</b><br />\n",
		"in HTML, in red":         "<span style='color: #ff0000'><br />\n<b>LEVEL</b>:  m in <b>/srv/chk.php</b> on line <b>3</b><br />\n</span>",
		"in text":                 "\nLEVEL: m in /srv/chk.php on line 3\n",
		"in text, in red":         "<pre><font color=ff0000>\nLEVEL: m in /srv/chk.php on line 3\n</font></pre>",
		"in the log":              "PHP LEVEL:  m in /srv/chk.php on line 3\n",
		"in Xdebug's table": "<br />\n<font size='1'><table class='xdebug-error xe-warning' dir='ltr'>\n<tr><th><span style='color: #fce94f'>( ! )</span> " +
			"LEVEL: m in /srv/chk.php on line <i>3</i></th></tr>\n<tr><th>Call Stack</th></tr>\n</table></font>\n",
		"in Xdebug's text": "\nLEVEL: m in /srv/chk.php on line 3\n\nCall Stack:\n    0.0001     392080   1. {main}() /srv/chk.php:0\n" +
			"    0.0001     392080   2. f($x = 'OK', $y = 5) /srv/chk.php:3\n\n\nVariables in local scope (#2):\n" +
			"  $x = *uninitialized*\n  $z = [0 => 1, 1 => 'a\\nb']\n\n",
		"in Xdebug's text, hidden": "\nSCREAM:  Error suppression ignored for\nLEVEL: m in /srv/chk.php on line 3\n\n" +
			"Call Stack:\n    0.0001     392080   1. {main}() /srv/chk.php:0\n\n<hr>",
		"in Xdebug's text, cut off": "\nSCREAM:  Error suppression ignored for\nLEVEL: m in /srv/chk.php on line 3\n\n" +
			"Call Stack:\n    0.0001     392080   1. {main}() /srv/chk.php:0\n\n",
		"in text, with a rule":    "\nLEVEL: m in /srv/chk.php on line 3\n<hr>\n",
		"in HTML, in paragraphs":  "<p><br />\n<b>LEVEL</b>:  m in <b>/srv/chk.php</b> on line <b>3</b><br />\n</p><p>",
		"after a byte order mark": "\ufeffLEVEL: m in /srv/chk.php on line 3\n",
		"before another one":      "\nLEVEL: m in /srv/chk.php on line 3\n\nNotice: m in /srv/chk.php on line 4\n",
		"that names another line": "\nLEVEL: Missing argument 1 for f(), called in /srv/a.php on line 3 and defined in /srv/b.php on line 4\n",
		"of code without a file":  "\nLEVEL: m in /srv/chk.php(3) : eval()'d code on line 1",
		"in several lines":        "<br />\n<b>LEVEL</b>:  near\n\"x\" in <b>/srv/chk.php</b> on line <b>3</b><br />\n",
		"cut off":                 "\nLEVEL: m in /srv/chk.php on line 3\n",
		"in a table, cut off":     "<br />\n<font size='1'><table class=\"xdebug-error\">\n<tr><th>( ! )</span> LEVEL: m",
	}
	for level, goesOn := range levels {
		for form, text := range forms {
			t.Run(level+" "+form, func(t *testing.T) {
				t.Parallel()
				text := strings.ReplaceAll(text, "LEVEL", level)
				if strings.HasSuffix(form, "cut off") {
					text = cutOff(text)
				}
				f := newPageFinder()
				a := Response{page: f.find(nil, []byte(text))}
				f.readUnexpected(&a, []byte(text))
				if isFailure := a.page == pageError || a.isUnexpected; isFailure == goesOn || goesOn && a.page != pageWarning {
					t.Errorf("got %s, unexpected: %t; the script goes on: %t", a.page, a.isUnexpected, goesOn)
				}
			})
		}
	}
	const html, plain = "<br />\n<b>Warning</b>:  m in <b>/srv/chk.php</b> on line <b>3</b><br />\n", "\nNotice: m in /srv/chk.php on line 3\n"
	for _, text := range []string{
		"OK", "Warnings: none", "Warning", "<p>Log in</p>", "<div id=app></div>", "OK\nWarning: m", "Login Notice: m", "<html><body>Warning: m", `{"Notice": 1}`,
		"<br />OK", "<p>Notice: please log in</p>", "<p>Warning: your subscription has ended</p>", cutOff("<p>Notice: please log in</p>"),
		html + "Identification failed", plain + "Identification failed", html + "<!DOCTYPE html>", html + html + plain + "OK",
		"Notice: log in on line 3 of the form", plain + cutOff("<!DOCTYPE html><title>TV</title>"),
		"<table class='xdebug-error'>Notice: m</table>Identification failed",
		plain + "\nCall Stack:\n    0.0001     392080   1. {main}() /srv/chk.php:0\n\nIdentification failed", "Call Stack:\n", plain + "Call Stack:\nOK",
		plain + "<p>Log in</p>", "SCREAM: log in",
	} {
		var a Response
		if newPageFinder().readUnexpected(&a, []byte(text)); !a.isUnexpected || a.page != pageText {
			t.Errorf("%.100q: got %s, unexpected: %t", text, a.page, a.isUnexpected)
		}
	}
}

// cutOff returns as much of a text that repeats itself as is read of a body.
func cutOff(text string) string { return strings.Repeat(text, maxPage)[:maxPage] }

// What is around a sign of an error hides none, nor does its case.
func FuzzPageFinder_Find(f *testing.F) {
	for _, seed := range []string{
		"", "OK", `{"error":0}`, "<html>", "<b>Fatal error</b>: x", "<title>404", "\n at a (b:1)", "<?xml?>", "\x00\xff<br>", "Traceback (most recent",
	} {
		f.Add([]byte(seed), []byte(" "))
	}
	finder := newPageFinder()
	f.Fuzz(func(t *testing.T, text, more []byte) {
		got := finder.find(nil, text)
		if len(bytes.TrimSpace(text)) == 0 && got != pageNone {
			t.Errorf("%q: got %s for an empty body", text, got)
		}
		if got == pageError && finder.find(nil, bytes.Join([][]byte{more, text, more}, []byte("\n"))) != pageError {
			t.Errorf("%q: an error page is none between %q", text, more)
		}
		if ascii := strings.ToUpper(string(text)); got == pageError && isPrintableASCII(strings.Join(strings.Fields(ascii), "")) &&
			finder.find(nil, []byte(ascii)) != pageError {
			t.Errorf("%q: an error page is none in capitals", text)
		}
	})
}
