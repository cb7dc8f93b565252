package jwt

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"usher/backends"
	"usher/backends/backendtest"
	"usher/backends/httpbackend"
	"usher/backends/setting"
)

func firstKey(t testing.TB) string {
	return setOf(t, map[string]crypto.PublicKey{"1": keyPairs()["P-256"].public})
}

func tokenForKey1(t testing.TB) string {
	return sign(t, "ES256", "1", keyPairs()["P-256"].private, goodClaims(nil))
}

func TestCheck_FetchesKeysOnce(t *testing.T) {
	t.Parallel()
	i := startIssuer(t, firstKey(t))
	b, _ := newBackend(t, withIssuer(i), nil)
	wantDecision(t, mustCheck(t, b, openingRequest("")), backends.Pending, "no token")
	wantDecision(t, mustCheck(t, b, openingRequest("5ecret")), backends.Denied, "token is malformed")
	none := sign(t, "HS256", "1", []byte("x"), goodClaims(nil))
	wantDecision(t, mustCheck(t, b, openingRequest(none)), backends.Denied, "token is signed with an algorithm that is not allowed")
	if i.Calls() != 0 {
		t.Errorf("got %d fetches for tokens that no key could verify, want none", i.Calls())
	}
	for range 3 {
		wantDecision(t, mustCheck(t, b, openingRequest(tokenForKey1(t))), backends.Allowed, "token is valid")
	}
	if seen := i.Requests(); len(seen) != 1 || seen[0].Path != "/jwks.json" || seen[0].Method != http.MethodGet {
		t.Errorf("got requests %+v, want one for the set", seen)
	}
}

func TestCheck_KeyRotation(t *testing.T) {
	t.Parallel()
	i := startIssuer(t, firstKey(t))
	b, clock := newBackend(t, withIssuer(i), nil)
	wantDecision(t, mustCheck(t, b, openingRequest(tokenForKey1(t))), backends.Allowed, "token is valid")

	next := keyPairs()["other P-256"]
	i.publish(setOf(t, map[string]crypto.PublicKey{"2": next.public}))
	token2 := sign(t, "ES256", "2", next.private, goodClaims(nil))
	wantDecision(t, mustCheck(t, b, openingRequest(token2)), backends.Allowed, "token is valid")
	if i.Calls() != 2 {
		t.Errorf("got %d fetches, want 2", i.Calls())
	}
	wantDecision(t, mustCheck(t, b, openingRequest(tokenForKey1(t))), backends.Denied, "token is signed with an unknown key")
	if i.Calls() != 2 {
		t.Errorf("got %d fetches, want 2: the third within ten seconds", i.Calls())
	}
	i.publish(firstKey(t))
	clock.advance(suspectInterval)
	wantDecision(t, mustCheck(t, b, openingRequest(tokenForKey1(t))), backends.Allowed, "token is valid")
	stolen := sign(t, "ES256", "1", next.private, goodClaims(nil))
	wantDecision(t, mustCheck(t, b, openingRequest(stolen)), backends.Denied, "token is not signed by the issuer")
}

func TestCheck_UnknownKeysCauseFewFetches(t *testing.T) {
	t.Parallel()
	i := startIssuer(t, firstKey(t))
	b, clock := newBackend(t, withIssuer(i), nil)
	for round := range 3 {
		var group sync.WaitGroup
		for viewer := range 200 {
			group.Go(func() {
				id := fmt.Sprint("r", round, "-", viewer)
				token := sign(t, "ES256", id, keyPairs()["other P-256"].private, goodClaims(nil))
				wantDecision(t, mustCheck(t, b, openingRequest(token)), backends.Denied, "token is signed with an unknown key")
			})
		}
		group.Wait()
		clock.advance(suspectInterval)
	}
	if got := i.Calls(); got != 4 {
		t.Errorf("got %d fetches by 600 viewers in 30 s, want 4: the first, and one every ten seconds", got)
	}
	wantDecision(t, mustCheck(t, b, openingRequest(tokenForKey1(t))), backends.Allowed, "token is valid")
}

// While no keys are known no token can be allowed or denied, and the outage policy decides, whatever the issuer answers.
func TestCheck_NoKeys_Failure(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		mode backendtest.Mode
		set  string
		kind backends.FailureKind
		says string
	}{
		"refused":            {mode: backendtest.Refuse(), kind: backends.FailureTransport, says: "fetch jwks_url: dial tcp"},
		"reset":              {mode: backendtest.Reset(), kind: backends.FailureTransport},
		"a hang":             {mode: backendtest.Hang(), kind: backends.FailureTimeout},
		"a body never comes": {mode: backendtest.SlowBody(), kind: backends.FailureTimeout},
		"status 503":         {mode: backendtest.Status(503), kind: backends.FailureTransport, says: "fetch jwks_url: status 503"},
		"status 404":         {mode: backendtest.Status(404), kind: backends.FailureTransport, says: "fetch jwks_url: status 404"},
		"status 204":         {mode: backendtest.Status(204), kind: backends.FailureTransport, says: "fetch jwks_url: status 204"},
		"a redirect": {
			mode: backendtest.Redirect("http://127.0.0.1:1/"), kind: backends.FailureTransport, says: "fetch jwks_url: status 302",
		},
		"a redirect to itself": {mode: backendtest.RedirectSelf(), kind: backends.FailureTransport, says: "fetch jwks_url: status 302"},
		"not HTTP":             {mode: backendtest.Garbage(), kind: backends.FailureTransport, says: "the response is not HTTP, or larger than 1048576 bytes"},
		"giant headers":        {mode: backendtest.GiantHeaders(), kind: backends.FailureTransport},
		"not JSON":             {set: "<html>5ecret</html>", kind: backends.FailureTransport, says: "the response is not a JWK set"},
		"a list":               {set: `["5ecret"]`, kind: backends.FailureTransport},
		"another object":       {set: `{"5ecret": 1}`, kind: backends.FailureTransport, says: "the response is not a JWK set"},
		"no keys in it":        {set: `{"keys": []}`, kind: backends.FailureTransport, says: "no usable key"},
		"keys for others alone": {
			set: `{"keys": [{"kty":"oct","k":"5ecret"}, 5, {"kty":"5ecret"}]}`, kind: backends.FailureTransport,
		},
		"too many keys": {
			set: `{"keys": [` + strings.Repeat("{},", 64) + `{}]}`, kind: backends.FailureTransport,
		},
		"too large": {
			set: `{"keys": ["` + strings.Repeat("5ecret", 200_000) + `"]}`, kind: backends.FailureTransport,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := startIssuer(t, tt.set)
			i.setMode(t, tt.mode)
			cfg := withIssuer(i)
			if tt.kind == backends.FailureTimeout {
				cfg.JWKSTimeout = 500 * time.Millisecond
			}
			b, clock := newBackend(t, cfg, nil)
			token := tokenForKey1(t)
			_, err := b.Check(t.Context(), openingRequest(token))
			wantFailure(t, err, tt.kind, token, "5ecret")
			if !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want %q", err, tt.says)
			}

			calls := i.Calls()
			_, err = b.Check(t.Context(), openingRequest(token))
			wantFailure(t, err, tt.kind, token)
			if i.Calls() != calls {
				t.Errorf("got %d fetches, want the failure to stand for a second after %d", i.Calls(), calls)
			}
			expired := sign(t, "ES256", "1", keyPairs()["P-256"].private, goodClaims(map[string]any{"exp": 1}))
			wantDecision(t, mustCheck(t, b, openingRequest(expired)), backends.Denied, "token is expired")

			i.publish(firstKey(t))
			i.setMode(t, backendtest.Healthy())
			clock.advance(failureTTL)
			b.jwks.timeout = time.Minute
			wantDecision(t, mustCheck(t, b, openingRequest(token)), backends.Allowed, "token is valid")
		})
	}
}

func TestCheck_IssuerUnavailable_KeepsKeys(t *testing.T) {
	t.Parallel()
	log, written := newLogger()
	i := startIssuer(t, firstKey(t))
	b, clock := newBackend(t, withIssuer(i), log)
	wantDecision(t, mustCheck(t, b, openingRequest(tokenForKey1(t))), backends.Allowed, "token is valid")
	if strings.Contains(written(), "jwks unavailable") {
		t.Errorf("got a warning about a fetch that succeeded: %s", written())
	}
	other := keyPairs()["other P-256"].private
	unknown, forged := sign(t, "ES256", "2", other, goodClaims(nil)), sign(t, "ES256", "1", other, goodClaims(nil))
	expired := sign(t, "ES256", "2", other, goodClaims(map[string]any{"exp": testNow.Add(-time.Hour).Unix()}))
	for _, mode := range []backendtest.Mode{backendtest.Refuse(), backendtest.Status(500), backendtest.Garbage()} {
		i.setMode(t, mode)
		clock.advance(suspectInterval)
		wantUndecided(t, b, unknown)
		wantUndecided(t, b, forged)
		wantDecision(t, mustCheck(t, b, openingRequest(expired)), backends.Denied, "token is expired")
		wantDecision(t, mustCheck(t, b, openingRequest(tokenForKey1(t))), backends.Allowed, "token is valid")
	}
	i.setMode(t, backendtest.Healthy())
	i.publish(`{"keys": []}`)
	clock.advance(suspectInterval)
	wantUndecided(t, b, unknown)
	wantDecision(t, mustCheck(t, b, openingRequest(tokenForKey1(t))), backends.Allowed, "token is valid")

	i.publish(setOf(t, map[string]crypto.PublicKey{"2": keyPairs()["other P-256"].public}))
	clock.advance(suspectInterval)
	wantDecision(t, mustCheck(t, b, openingRequest(unknown)), backends.Allowed, "token is valid")
	lines := strings.Split(strings.TrimSpace(written()), "\n")
	if len(lines) != 3 ||
		!strings.Contains(lines[0], `level=WARN msg="jwks fetched over plain http, so an attacker`) ||
		!strings.Contains(lines[1], `level=WARN msg="jwks unavailable" backend=tokens has_keys=true`) ||
		!strings.Contains(lines[2], `level=INFO msg="jwks recovered" backend=tokens`) {
		t.Errorf("got the log\n%s\nwant one warning at the start and one line at the end", written())
	}
	wantHidden(t, written(), unknown, tokenForKey1(t))
}

// wantUndecided requires that the token is neither allowed nor denied, and that no outage policy decides on it.
func wantUndecided(t *testing.T, b *Backend, token string) {
	t.Helper()
	d, err := b.Check(t.Context(), openingRequest(token))
	if !backends.IsOverload(err) || backends.AsFailure(err) != nil {
		t.Errorf("got %+v and error %v, want an overload", d, err)
		return
	}
	wantHidden(t, err.Error(), token)
}

// The viewer chooses the key's id, so the wait for an unknown key must end before a long wait would allow them.
func TestCheck_IssuerHangs_UnknownKeyUndecided(t *testing.T) {
	t.Parallel()
	i := startIssuer(t, firstKey(t))
	b, clock := newBackend(t, withIssuer(i), nil)
	wantDecision(t, mustCheck(t, b, openingRequest(tokenForKey1(t))), backends.Allowed, "token is valid")
	i.setMode(t, backendtest.Hang())
	clock.advance(suspectInterval)
	b.jwks.suspectTimeout = defaultSuspectTimeout
	unknown := sign(t, "ES256", "2", keyPairs()["other P-256"].private, goodClaims(nil))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := b.Check(ctx, openingRequest(unknown)); !backends.IsOverload(err) {
		t.Errorf("got %v, want an overload", err)
	}
	wantUndecided(t, b, unknown)
	wantDecision(t, mustCheck(t, b, openingRequest(tokenForKey1(t))), backends.Allowed, "token is valid")
}

func TestCheck_KeyReplacedUnderItsID_Allowed(t *testing.T) {
	t.Parallel()
	i := startIssuer(t, firstKey(t))
	b, clock := newBackend(t, withIssuer(i), nil)
	wantDecision(t, mustCheck(t, b, openingRequest(tokenForKey1(t))), backends.Allowed, "token is valid")
	next := keyPairs()["other P-256"]
	i.publish(setOf(t, map[string]crypto.PublicKey{"1": next.public}))
	clock.advance(time.Minute)
	replaced := sign(t, "ES256", "1", next.private, goodClaims(nil))
	wantDecision(t, mustCheck(t, b, openingRequest(replaced)), backends.Allowed, "token is valid")
	wantDecision(t, mustCheck(t, b, openingRequest(tokenForKey1(t))), backends.Denied, "token is not signed by the issuer")
	if i.Calls() != 2 {
		t.Errorf("got %d fetches, want 2", i.Calls())
	}
}

// After a fetch that a forged token caused, a token of a key that was published since is not denied, since its player would
// be refused for as long as a denial is remembered.
func TestCheck_StaleKeys_Undecided(t *testing.T) {
	t.Parallel()
	i := startIssuer(t, firstKey(t))
	b, clock := newBackend(t, withIssuer(i), nil)
	next := keyPairs()["other P-256"]
	forged := sign(t, "ES256", "1", next.private, goodClaims(nil))
	wantDecision(t, mustCheck(t, b, openingRequest(forged)), backends.Denied, "token is not signed by the issuer")
	i.publish(setOf(t, map[string]crypto.PublicKey{"1": next.public, "2": next.public}))
	clock.advance(freshFor)
	second := sign(t, "ES256", "2", next.private, goodClaims(nil))
	wantUndecided(t, b, forged)
	wantUndecided(t, b, second)
	clock.advance(suspectInterval)
	wantDecision(t, mustCheck(t, b, openingRequest(second)), backends.Allowed, "token is valid")
	wantDecision(t, mustCheck(t, b, openingRequest(forged)), backends.Allowed, "token is valid") // by the issuer's new key
	if i.Calls() != 3 {
		t.Errorf("got %d fetches, want 3: the first, and one every ten seconds", i.Calls())
	}
}

func TestCheck_ForgedSignatures_CauseFewFetches(t *testing.T) {
	t.Parallel()
	i := startIssuer(t, firstKey(t))
	b, clock := newBackend(t, withIssuer(i), nil)
	forged := sign(t, "ES256", "1", keyPairs()["other P-256"].private, goodClaims(nil))
	for range 30 {
		var group sync.WaitGroup
		for range 20 {
			group.Go(func() {
				d, err := b.Check(t.Context(), openingRequest(forged))
				if d.Verdict == backends.Allowed || err != nil && !backends.IsOverload(err) {
					t.Errorf("got %+v and error %v", d, err)
				}
			})
		}
		group.Wait()
		wantDecision(t, mustCheck(t, b, openingRequest(tokenForKey1(t))), backends.Allowed, "token is valid")
		clock.advance(time.Second)
	}
	if got := i.Calls(); got != 4 {
		t.Errorf("got %d fetches for 600 forged tokens in 30 s, want 4: the first, and one every ten seconds", got)
	}
}

func TestCheck_ViewersShareFetch(t *testing.T) {
	t.Parallel()
	i, set := startIssuer(t, ""), firstKey(t)
	answer := make(chan struct{})
	release := sync.OnceFunc(func() { close(answer) })
	t.Cleanup(release)
	i.SetDialect(func(w http.ResponseWriter, _ *http.Request, _ backendtest.User, _ bool) {
		<-answer
		_, _ = w.Write([]byte(set))
	})
	b, _ := newBackend(t, withIssuer(i), nil)
	leaving, leave := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		_, err := b.Check(leaving, openingRequest(tokenForKey1(t)))
		gone <- err
	}()
	if err := i.Wait(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			wantDecision(t, mustCheck(t, b, openingRequest(tokenForKey1(t))), backends.Allowed, "token is valid")
		})
	}
	leave()
	err := <-gone
	if !errors.Is(err, context.Canceled) || backends.AsFailure(err) != nil {
		t.Errorf("got %v for the viewer who left, want context.Canceled and no failure", err)
	}
	wantHidden(t, err.Error(), tokenForKey1(t))
	release()
	group.Wait()
	if i.Calls() != 1 {
		t.Errorf("got %d fetches, want 1", i.Calls())
	}
}

func TestCheck_Deadline_Timeout(t *testing.T) {
	t.Parallel()
	i := startIssuer(t, firstKey(t))
	i.setMode(t, backendtest.Hang())
	b, _ := newBackend(t, withIssuer(i), nil)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err := b.Check(ctx, openingRequest(tokenForKey1(t)))
	wantFailure(t, err, backends.FailureTimeout)
}

func TestBackend_CloseCancelsFetch(t *testing.T) {
	t.Parallel()
	i := startIssuer(t, firstKey(t))
	i.setMode(t, backendtest.Hang())
	cfg := withIssuer(i)
	cfg.JWKSTimeout = time.Hour
	log, written := newLogger()
	b, clock := newBackend(t, cfg, log)
	failed := make(chan error, 1)
	go func() {
		_, err := b.Check(t.Context(), openingRequest(tokenForKey1(t)))
		failed <- err
	}()
	if err := i.Wait(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	b.Close()
	wantFailure(t, <-failed, backends.FailureTransport)
	clock.advance(failureTTL)
	_, err := b.Check(t.Context(), openingRequest(tokenForKey1(t)))
	wantFailure(t, err, backends.FailureTransport)
	if strings.Contains(written(), "jwks unavailable") {
		t.Errorf("got a warning about closing: %s", written())
	}
}

func TestBackend_RunFetchesAtStart(t *testing.T) {
	t.Parallel()
	i := startIssuer(t, firstKey(t))
	b, _ := newBackend(t, withIssuer(i), nil)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	if err := i.Wait(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	wantDecision(t, mustCheck(t, b, openingRequest(tokenForKey1(t))), backends.Allowed, "token is valid")
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("got %v, want nil", err)
	}
	if i.Calls() != 1 {
		t.Errorf("got %d fetches, want 1", i.Calls())
	}
}

func TestBackend_RunWithSecret(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, _ := newBackend(t, withSecret(nil), nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		start := time.Now()
		if err := b.Run(ctx); err != nil || time.Since(start) != time.Hour {
			t.Errorf("got %v after %s, want nil after an hour", err, time.Since(start))
		}
	})
}

func TestCheck_UntrustedCertificate_TransportFailure(t *testing.T) {
	t.Parallel()
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	cfg := DefaultConfig()
	cfg.Algorithms, cfg.JWKSURL = []string{"ES256"}, s.URL
	b, _ := newBackend(t, cfg, nil)
	_, err := b.Check(t.Context(), openingRequest(tokenForKey1(t)))
	wantFailure(t, err, backends.FailureTransport)
}

// The trace of a check shows the adapter's request.
func TestCheck_FetchIsTraced(t *testing.T) {
	t.Parallel()
	i := startIssuer(t, firstKey(t))
	b, _ := newBackend(t, withIssuer(i), nil)
	ctx, exchanges := httpbackend.WithTrace(t.Context())
	if _, err := b.Check(ctx, openingRequest(tokenForKey1(t))); err != nil {
		t.Fatalf("check: %v", err)
	}
	list := exchanges.Entries()
	if len(list) != 1 || list[0].URL != i.URL()+"/jwks.json" || list[0].Status != http.StatusOK {
		t.Errorf("got exchanges %+v, want the fetch", list)
	}
}

// The issuer's certificate is of its own authority, and it demands one of the client.
func TestCheck_JWKSOverMutualTLS(t *testing.T) {
	t.Parallel()
	set := firstKey(t)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, set) }))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	s.StartTLS()
	t.Cleanup(s.Close)
	pair := s.TLS.Certificates[0]
	private, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	certFile, keyFile := filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem")
	for name, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, keyFile: {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg := DefaultConfig()
	cfg.Algorithms, cfg.JWKSURL = []string{"ES256"}, s.URL
	cfg.TLS = setting.TLSConfig{CAFile: certFile, CertFile: certFile, KeyFile: keyFile, ServerName: "example.com"}
	b, _ := newBackend(t, cfg, nil)
	if d, err := b.Check(t.Context(), openingRequest(tokenForKey1(t))); err != nil || d.Verdict != backends.Allowed {
		t.Errorf("got %s and error %v, want allowed", d.Verdict, err)
	}
}

func TestConfig_Validate_TLS(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"with jwks_url": {func(c *Config) { c.Secret, c.JWKSURL, c.TLS.CAFile = "", "https://login.example.com/", "ca.pem" }, ""},
		"without":       {func(c *Config) { c.TLS.CAFile = "ca.pem" }, "tls: is for jwks_url, which is not set"},
		"beside plain http": {
			func(c *Config) {
				c.Secret, c.Algorithms, c.JWKSURL, c.TLS.ServerName = "", []string{"ES256"}, "HTTP://issuer.example.com/", "issuer"
			},
			"tls: has no effect, since jwks_url begins with http://; want https://, or no tls",
		},
		"another interval without": {
			func(c *Config) { c.JWKSRefreshInterval = time.Hour }, "jwks_refresh_interval: 1h0m0s is for jwks_url, which is not set",
		},
		"another timeout without": {func(c *Config) { c.JWKSTimeout = time.Second }, "jwks_timeout: 1s is for jwks_url, which is not set"},
		"half a certificate":      {func(c *Config) { c.Secret, c.JWKSURL, c.TLS.CertFile = "", "https://login.example.com/", "a" }, "tls.cert_file: needs key_file"},
	} {
		c := DefaultConfig()
		c.Algorithms, c.Secret = []string{"HS256"}, "0123456789abcdef0123456789abcdef"
		if tt.change(&c); c.JWKSURL != "" {
			c.Algorithms = []string{"ES256"}
		}
		err := c.Validate()
		if (err == nil) != (tt.want == "") || err != nil && !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}

// TestBackend_TakeOver_AnotherServerToTrust: keys of a server that is not trusted any more are not taken over.
func TestBackend_TakeOver_AnotherServerToTrust(t *testing.T) {
	t.Parallel()
	set := firstKey(t)
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, set) }))
	t.Cleanup(s.Close)
	cfg := DefaultConfig()
	cfg.Algorithms, cfg.JWKSURL, cfg.TLS.InsecureSkipVerify = []string{"ES256"}, s.URL, true
	replaced, _ := newBackend(t, cfg, nil)
	wantDecision(t, mustCheck(t, replaced, openingRequest(tokenForKey1(t))), backends.Allowed, "token is valid")
	s.Close()
	for serverName, isKept := range map[string]bool{"": true, "login.example": false} {
		cfg.TLS.ServerName = serverName
		b, _ := newBackend(t, cfg, nil)
		b.TakeOver(replaced)
		if _, err := b.Check(t.Context(), openingRequest(tokenForKey1(t))); (err == nil) != isKept {
			t.Errorf("server name %q: got %v, want the keys: %t", serverName, err, isKept)
		}
	}
}

// TestBackend_TakeOver replaces a backend while its issuer is away. A forged token is a failure, which would admit its bearer, only if
// the keys came from elsewhere or are for other algorithms.
func TestBackend_TakeOver(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*Config)
		isKept bool
	}{
		"another clock skew":          {func(c *Config) { c.ClockSkew = time.Minute }, true},
		"another timeout":             {func(c *Config) { c.JWKSTimeout = time.Second }, true},
		"one more algorithm":          {func(c *Config) { c.Algorithms = []string{"RS256", "ES256"} }, true},
		"other algorithms":            {func(c *Config) { c.Algorithms = []string{"RS256"} }, false},
		"another address":             {func(c *Config) { c.JWKSURL += "?2" }, false},
		"a secret in place of an URL": {func(c *Config) { *c = withSecret(nil) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := startIssuer(t, firstKey(t))
			cfg := withIssuer(i)
			replaced, _ := newBackend(t, cfg, nil)
			wantDecision(t, mustCheck(t, replaced, openingRequest(tokenForKey1(t))), backends.Allowed, "token is valid")
			i.setMode(t, backendtest.Refuse())
			test.change(&cfg)
			b, _ := newBackend(t, cfg, nil)
			b.TakeOver(replaced)
			forged := sign(t, cfg.Algorithms[0], "2", signingKey(cfg.Algorithms[0]), goodClaims(nil))
			_, err := b.Check(t.Context(), openingRequest(forged))
			if isFailure := backends.AsFailure(err) != nil; isFailure != (!test.isKept && cfg.JWKSURL != "") {
				t.Errorf("a token of an unknown key: %v", err)
			}
			if !test.isKept {
				return
			}
			wantDecision(t, mustCheck(t, b, openingRequest(tokenForKey1(t))), backends.Allowed, "token is valid")
			b.TakeOver(nil)
			wantDecision(t, mustCheck(t, b, openingRequest(tokenForKey1(t))), backends.Allowed, "token is valid")
		})
	}
}
