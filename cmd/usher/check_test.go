package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"usher/backends/backendtest"
	"usher/backends/setting"
)

// checkSettings returns a settings file with these backends, and one route whose backend is "portal".
func checkSettings(backends string) string {
	return `
identity: { secret: "0123456789abcdef" }
tickets: { keys: [ { id: a, secret: "0123456789abcdef" } ] }
origins: { stage: { url: "http://127.0.0.1:9" } }
routes: [ { path: "/play/{channel}/*", origin: stage, backend: portal } ]
backends:
` + backends
}

// wantCheck runs usher check with a good token, and requires the exit code and the texts.
func wantCheck(t *testing.T, settings string, code int, wants ...string) {
	t.Helper()
	got, out, errs := usher("check", "--config", writeFile(t, settings), "--url", "http://tv.example/play/a001/index.m3u8?token=good")
	if got != code {
		t.Errorf("exit code %d, want %d", got, code)
	}
	for _, want := range wants {
		if !strings.Contains(out+errs, want) {
			t.Errorf("the output has no %q:\n%s%s", want, out, errs)
		}
	}
}

// TestCheckCommand_Run_FilesNotWritable checks a URL with files of the node that this process cannot write.
func TestCheckCommand_Run_FilesNotWritable(t *testing.T) {
	const none = "/nowhere/of/the/node"
	m := middleware(t)
	settings := checkSettings(fmt.Sprintf("  portal: { kind: httprequest, address: %q }\n", m.URL()+"/check")) + fmt.Sprintf(`
cluster: { state_dir: %[1]s }
records: { file: { path: %[1]s/records.jsonl }, spool: { path: %[1]s/records.db } }
admin: { listen: "127.0.0.1:0", token: "0123456789abcdef", audit: { file: %[1]s/audit.jsonl } }
`, none)
	wantCheck(t, settings, 0, "verdict   allowed")
	code, _, errs := usher("validate", "--config", writeFile(t, settings))
	for _, setting := range []string{"cluster.state_dir", "records.file.path", "records.spool.path", "admin.audit.file"} {
		if code != 2 || !strings.Contains(errs, setting) {
			t.Errorf("validate: exit code %d, want 2 and %s:\n%s", code, setting, errs)
		}
	}
}

func TestCheck_NamesWrongServer(t *testing.T) {
	page := func(status int, text string) backendtest.Dialect {
		return func(w http.ResponseWriter, _ *http.Request, _ backendtest.User, _ bool) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			w.WriteHeader(status)
			_, _ = w.Write([]byte(text))
		}
	}
	tests := map[string]struct {
		dialect backendtest.Dialect
		more    string
		code    int
		wants   []string
	}{
		"a web page with 200": {
			page(200, "<html>\nIt works!</html>"), "", 0,
			[]string{
				"< <html> It works!</html>", "WARNING   the answer is a web page",
				"VIOLATION portal: broken_page: ", "if it names a web page, set require_header or require_body", "(detail: allowed, but with a web page)",
			},
		},
		"PHP's warnings before a yes": {
			page(200, "<br />\n<b>Warning</b>:  m in <b>/srv/check.php</b> on line <b>3</b><br />\nOK"), "", 0,
			[]string{"WARNING   the answer begins with PHP's warnings", "if detail names PHP's warnings, turn display_errors off"},
		},
		"a web page with 200, require_header set": {
			page(200, "<html>It works!</html>"), ", require_header: X-UserId", 2,
			[]string{`require_header="X-Userid"`, "another server than the backend answers", "VIOLATION portal: unexpected_answer: check address"},
		},
		"a web page with 200, require_body set": {
			page(200, "<html>It works!</html>"), `, require_body: "^OK$"`, 2,
			[]string{`require_body="^OK$"`, "it is a web page", "free access"},
		},
		"an answer with the required header": {backendtest.Astra, ", require_header: X-UserId", 0, []string{"verdict   allowed"}},
		"a path that does not exist": {
			page(404, "not found"), "", 2, []string{"wrong URL", "VIOLATION portal: wrong_address: check the path in address"},
		},
		"a path that does not exist, and a preset whose 404 denies": {
			page(404, "not found"), ", preset: alta", 1, []string{"verdict   denied", "WARNING   404 counts as denied here"},
		},
		"Usher's own password refused": {
			func(w http.ResponseWriter, _ *http.Request, _ backendtest.User, _ bool) {
				w.Header().Set("WWW-Authenticate", "Basic")
				w.WriteHeader(http.StatusUnauthorized)
			},
			", headers: { Authorization: Bearer x }", 2,
			[]string{"status 401: it refuses Usher itself", "VIOLATION portal: unexpected_status"},
		},
		"an error page": {page(500, "oops"), "", 2, []string{"status 500", "the backend itself fails"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			m := middleware(t)
			m.SetDialect(test.dialect)
			settings := fmt.Sprintf("  portal: { kind: httprequest, address: %q%s }\n", m.URL()+"/check", test.more)
			wantCheck(t, checkSettings(settings), test.code, test.wants...)
		})
	}
	const warning = "<br />\n<b>Warning</b>:  Undefined array key in <b>/srv/check.php</b> on line <b>3</b><br />\n"
	for name, test := range map[string]struct {
		text, more string
		want       string
	}{
		"a portal's warnings":     {warning, "", "PHP's warnings"},
		"a portal's text":         {"OK", ", broken_page: alarm", "the answer has text and should have no body"},
		"a portal's web page":     {"<html>Log in</html>", ", broken_page: alarm", "the answer has a web page and should have no body"},
		"a portal's error page":   {"Fatal error: m", ", broken_page: alarm", "the answer is an error page"},
		"a portal that says more": {warning + "OK", ", broken_page: alarm", "the answer has text and should have no body"},
	} {
		t.Run(name, func(t *testing.T) {
			m := middleware(t)
			m.SetDialect(page(200, test.text))
			settings := checkSettings(fmt.Sprintf("  portal: { kind: ministra, address: %q%s }\n", m.URL()+"/chk.php", test.more))
			_, out, errs := usher("check", "--config", writeFile(t, settings), "--url", "http://tv.example/play/a001/index.m3u8?token=good")
			_, warning, _ := strings.Cut(out, "WARNING")
			if !strings.Contains(out, "verdict   allowed") || !strings.Contains(warning, test.want) ||
				strings.Contains(warning, "require_body") {
				t.Errorf("want allowed with %q, and no require_body where there is no body:\n%s%s", test.want, out, errs)
			}
		})
	}
	t.Run("a web page that is required", func(t *testing.T) {
		m := middleware(t)
		m.SetDialect(page(200, "<html>granted</html>"))
		settings := checkSettings(fmt.Sprintf("  portal: { kind: httprequest, address: %q, require_body: granted }\n", m.URL()+"/check"))
		_, out, errs := usher("check", "--config", writeFile(t, settings), "--url", "http://tv.example/play/a001/index.m3u8?token=good")
		if !strings.Contains(out, "verdict   allowed") || strings.Contains(out, "WARNING") {
			t.Errorf("want allowed, and no warning:\n%s%s", out, errs)
		}
	})
	for name, requirement := range map[string]string{
		"a member's error page that is a failure": "broken_page: failure",
		"a member's page that is a denial":        "require_header: X-UserId, on_unmet_requirement: deny",
	} {
		t.Run(name, func(t *testing.T) {
			first, second := middleware(t), middleware(t)
			first.SetDialect(page(200, "<html>Fatal error: m</html>"))
			second.SetDialect(page(200, ""))
			settings := fmt.Sprintf("  first: { kind: httprequest, address: %q, %s }\n  second: { kind: httprequest, address: %q }\n"+
				"  portal: { kind: any, backends: [ first, second ] }\n", first.URL()+"/check", requirement, second.URL()+"/check")
			_, out, errs := usher("check", "--config", writeFile(t, checkSettings(settings)), "--url", "http://tv.example/play/a001/index.m3u8?token=good")
			if !strings.Contains(out, "verdict   allowed") || !strings.Contains(out, "200") || strings.Contains(out, "WARNING") {
				t.Errorf("want allowed by the second, and no warning of a page that admits nobody:\n%s%s", out, errs)
			}
		})
	}
	t.Run("a redirect to a login page", func(t *testing.T) {
		m := middleware(t)
		if err := m.SetMode(backendtest.RedirectSelf()); err != nil {
			t.Fatal(err)
		}
		wantCheck(t, checkSettings(fmt.Sprintf("  portal: { kind: httprequest, address: %q }\n", m.URL())), 2,
			"wants a login", "VIOLATION portal: redirect_to_itself")
	})
	t.Run("a backend that has moved", func(t *testing.T) {
		m := middleware(t)
		moved := strings.Replace(m.URL(), "http:", "https:", 1) + "/check"
		if err := m.SetMode(backendtest.Redirect(moved + "?token=good")); err != nil {
			t.Fatal(err)
		}
		wantCheck(t, checkSettings(fmt.Sprintf("  portal: { kind: httprequest, address: %q }\n", m.URL()+"/check")), 2,
			"wrong URL", "set address to "+moved+":", "VIOLATION portal: address_moved")
	})
	t.Run("a server that hangs up", func(t *testing.T) {
		m := middleware(t)
		m.SetDialect(func(http.ResponseWriter, *http.Request, backendtest.User, bool) { panic(http.ErrAbortHandler) })
		wantCheck(t, checkSettings(fmt.Sprintf("  portal: { kind: httprequest, address: %q }\n", m.URL()+"/check")), 2,
			"EOF: the backend server closes the connection without an answer")
	})
	t.Run("an unknown host", func(t *testing.T) {
		wantCheck(t, checkSettings("  portal: { kind: httprequest, address: \"http://"+strings.Repeat("x", 64)+"/\" }\n"), 2,
			"wrong URL; the host name")
	})
	t.Run("an https address of a plain HTTP server", func(t *testing.T) {
		m := middleware(t)
		wantCheck(t, checkSettings(fmt.Sprintf("  portal: { kind: httprequest, address: %q }\n", strings.Replace(m.URL(), "http:", "https:", 1))), 2,
			"http:// against https://")
	})
}

// TestFailureHint_TimeoutOfTheBackend has a backend hang, alone and below another one, which has no timeout of its own.
func TestFailureHint_TimeoutOfTheBackend(t *testing.T) {
	m := middleware(t)
	if err := m.SetMode(backendtest.Hang()); err != nil {
		t.Fatal(err)
	}
	const remote = `{ kind: httprequest, address: %q, timeout: 200ms }`
	for above, name := range map[string]string{
		"": "portal",
		"  portal: { kind: any, backends: [ billing ] }\n":                                            "billing",
		"  portal: { kind: rules, rules: [ { backend: billing } ], default: deny }\n":                 "billing",
		"  portal: { kind: any, backends: [ gate ] }\n  gate: { kind: any, backends: [ billing ] }\n": "billing",
	} {
		settings := checkSettings(above + "  " + name + ": " + fmt.Sprintf(remote, m.URL()+"/check") + "\n")
		wantCheck(t, settings, 2, "the request hangs; check the network and backends."+name+".timeout=200ms")
	}
}

// TestCheckCommand_Run_Validity checks viewers whose answers hold longer or shorter than answers may, and a denial, which holds for
// denial_ttl whatever the answer says.
func TestCheckCommand_Run_Validity(t *testing.T) {
	m := middleware(t)
	settings := checkSettings(fmt.Sprintf("  portal: { kind: httprequest, address: %q }\n", m.URL()+"/check"))
	m.SetUser("good", backendtest.User{ValidFor: time.Second})
	wantCheck(t, settings+"sessions: { recheck: { min: 20s } }\n", 0, "valid for 20s")
	m.SetUser("good", backendtest.User{ValidFor: time.Hour})
	wantCheck(t, settings+"sessions: { recheck: { max: 30m } }\n", 0, "valid for 30m0s")
	m.RemoveUser("good")
	m.SetHeader("X-AuthDuration", "600")
	wantCheck(t, settings+"sessions: { denial_ttl: 25s }\n", 1, "verdict   denied", "valid for 25s")
}

func TestCheck_CompositeBackend_ShowsEveryCall(t *testing.T) {
	first, second := middleware(t), middleware(t)
	first.RemoveUser("good")
	settings := checkSettings(fmt.Sprintf(`
  portal: { kind: any, backends: [ first, second ] }
  first: { kind: httprequest, address: %q, headers: { X-Api-Key: "the operator's own" } }
  second: { kind: ministra, address: %q }
`, first.URL()+"/check", second.URL()+"/stalker_portal"))
	wantCheck(t, settings, 0, "/stalker_portal/server/api/chk_flussonic_tmp_link.php?token=good",
		"verdict   allowed", "second: backend answered 200")
	second.RemoveUser("good") // an allowed ends the check at once; without one every member is called
	wantCheck(t, settings, 1, "called    first", "called    second", "/check?token=good",
		"/stalker_portal/server/api/chk_flussonic_tmp_link.php?token=good", "verdict   denied")
	code, out, _ := usher("check", "--config", writeFile(t, settings), "--json", "--url", "http://tv.example/play/a001/index.m3u8?token=good")
	var report checkReport
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != 1 || len(report.Calls) != 2 {
		t.Errorf("exit code %d, %v, calls %+v", code, err, report.Calls)
	}
	if strings.Contains(out, "the operator's own") {
		t.Errorf("the report shows a secret:\n%s", out)
	}
}

// TestCheck_AnswerWithSecrets_Hidden has a middleware answer with what it was sent: a secret of the address, and a viewer's password.
func TestCheck_AnswerWithSecrets_Hidden(t *testing.T) {
	m := middleware(t)
	settings := strings.Replace(checkSettings(fmt.Sprintf("  portal: { kind: httprequest, address: %q }\n", m.URL()+"/check?key=5ecret7")),
		"backend: portal", "backend: portal, credential_headers: [ Authorization ]", 1)
	for name, answer := range map[string]http.HandlerFunc{
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			_, password, _ := r.BasicAuth()
			w.Header().Set("Location", "https://login.example/?return="+url.QueryEscape(r.URL.RequestURI())+"&password="+password)
			w.WriteHeader(http.StatusFound)
		},
		"a user": func(w http.ResponseWriter, r *http.Request) {
			_, password, _ := r.BasicAuth()
			w.Header().Set("X-Session-Name", "alice:"+password)
			w.Header().Set("X-Userid", r.URL.Query().Get("key"))
		},
		"a challenge": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Www-Authenticate", fmt.Sprintf("Basic realm=%q", r.URL.RequestURI()+r.Header.Get("Authorization")))
			w.WriteHeader(http.StatusUnauthorized)
		},
	} {
		t.Run(name, func(t *testing.T) {
			m.SetDialect(func(w http.ResponseWriter, r *http.Request, _ backendtest.User, _ bool) { answer(w, r) })
			for _, form := range []string{"--json=false", "--json"} {
				_, out, errs := usher("check", "--config", writeFile(t, settings), form, "--url", "http://alice:pa55word@tv.example/play/a001/index.m3u8")
				basic := basicAuthorization(url.UserPassword("alice", "pa55word"))
				for _, secret := range []string{"5ecret7", "pa55word", strings.TrimPrefix(basic, "Basic ")} {
					if strings.Contains(out+errs, secret) || strings.Count(out, setting.Hidden) < 4 {
						t.Errorf("%s: it shows %s:\n%s%s", form, secret, out, errs)
					}
				}
			}
		})
	}
}

// TestCheck_OwnWords_Shown has a parameter of the address whose value is a word that Usher says, too. Only what the middleware says is hidden.
func TestCheck_OwnWords_Shown(t *testing.T) {
	m := middleware(t)
	settings := checkSettings(fmt.Sprintf("  portal: { kind: httprequest, address: %q }\n", strings.Replace(m.URL(), "127.0.0.1", "localhost", 1)+"/answered?for=backend&in=status&by=address&at=localhost&as=answered"))
	for answer, want := range map[string]string{
		"403": "reason    backend answered 403", "503": `reason    check backend "portal": status 503: the backend itself fails`,
		"301": "the address has moved; set address to https://[hidden]/answered: wrong URL",
	} {
		m.SetDialect(func(w http.ResponseWriter, _ *http.Request, _ backendtest.User, _ bool) {
			status, _ := strconv.Atoi(answer)
			w.Header().Set("Location", "https://localhost/elsewhere")
			w.Header().Set("X-Session-Name", "a backend")
			w.WriteHeader(status)
		})
		_, out, errs := usher("check", "--config", writeFile(t, settings), "--url", "http://tv.example/play/a001/index.m3u8?token=good")
		if !strings.Contains(out, want) || answer == "403" && !strings.Contains(out, "user      a [hidden]") {
			t.Errorf("%s: want %q:\n%s%s", answer, want, out, errs)
		}
	}
}

// TestCheck_HostileAnswer_Printable has a middleware answer with what would move the cursor, or turn a line around.
func TestCheck_HostileAnswer_Printable(t *testing.T) {
	m := middleware(t)
	m.SetDialect(func(w http.ResponseWriter, _ *http.Request, _ backendtest.User, _ bool) {
		w.Header().Set("X-Userid", "A\u202en\u009b2Jn")
		w.WriteHeader(http.StatusOK)
	})
	_, out, errs := usher("check", "--config", writeFile(t, checkSettings(fmt.Sprintf("  portal: { kind: httprequest, address: %q }\n", m.URL()+"/check"))),
		"--url", "http://tv.example/play/a001/index.m3u8?token=good")
	if !strings.Contains(out, "< X-Userid: A\ufffdn\ufffd2Jn\n") || strings.ContainsAny(out+errs, "\u202e\u009b") {
		t.Errorf("printed %q and %q, want the user without what does not print", out, errs)
	}
}

func TestCheck_LocalBackend(t *testing.T) {
	const rules = `  portal: { kind: iprules, rules: [ "allow 192.0.2.1", "deny 192.0.2.2" ] }` + "\n"
	wantCheck(t, checkSettings(rules), 0, "decided   locally, no backend was called", "verdict   allowed (source local)", "rules[0]: allow 192.0.2.1")
	for ip, why := range map[string]string{"192.0.2.2": "rules[1]: deny 192.0.2.2", "192.0.2.3": "no backend has an opinion on the viewer"} {
		code, out, _ := usher("check", "--config", writeFile(t, checkSettings(rules)), "--ip", ip,
			"--url", "http://tv.example/play/a001/index.m3u8?token=good")
		if code != 1 || !strings.Contains(out, why) {
			t.Errorf("%s: exit code %d, want 1 and %q:\n%s", ip, code, why, out)
		}
	}
}

// TestCheck_EdgeChannel gives check the URL that a viewer has, for a route of an edge.
func TestCheck_EdgeChannel(t *testing.T) {
	m := middleware(t)
	settings := strings.Replace(checkSettings(fmt.Sprintf("  portal: { kind: httprequest, address: %q }\n", m.URL())),
		`routes: [ { path: "/play/{channel}/*", origin: stage, backend: portal } ]`,
		`routes: [ { path: "/auth", backend: portal, edge: { dialect: astra, networks: [ 192.0.2.9/32 ] } } ]`, 1)
	path := writeFile(t, settings)
	code, out, errs := usher("check", "--config", path, "--channel", "a001", "--url", "http://tv.example/play/a001/index.m3u8?token=good")
	if code != 0 || !strings.Contains(out, "> X-Channel-ID: a001") {
		t.Errorf("exit code %d, want 0 and the channel's name:\n%s%s", code, out, errs)
	}
}
