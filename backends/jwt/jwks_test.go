package jwt

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"usher/backends"
	"usher/backends/backendtest"
	"usher/backends/httpbackend"
)

func firstKey(t testing.TB) string {
	return setOf(t, map[string]crypto.PublicKey{"1": pairs()["P-256"].public})
}

func token1(t testing.TB) string {
	return sign(t, "ES256", "1", pairs()["P-256"].private, claimed(nil))
}

func TestTheSetIsFetchedAtTheFirstNeedAndOnce(t *testing.T) {
	t.Parallel()
	i := startIssuer(t, firstKey(t))
	b, _ := newBackend(t, withSet(i), nil)
	want(t, ask(t, b, opening("")), backends.Pending, "no token")
	want(t, ask(t, b, opening("5ecret")), backends.Denied, "token is malformed")
	none := sign(t, "HS256", "1", []byte("x"), claimed(nil))
	want(t, ask(t, b, opening(none)), backends.Denied, "token is signed with an algorithm that is not allowed")
	if i.Calls() != 0 {
		t.Errorf("got %d fetches for tokens that no key could verify, want none", i.Calls())
	}
	for range 3 {
		want(t, ask(t, b, opening(token1(t))), backends.Allowed, "token is valid")
	}
	if seen := i.Requests(); len(seen) != 1 || seen[0].Path != "/jwks.json" || seen[0].Method != http.MethodGet {
		t.Errorf("got requests %+v, want one for the set", seen)
	}
}

func TestKeysRotate(t *testing.T) {
	t.Parallel()
	i := startIssuer(t, firstKey(t))
	b, clock := newBackend(t, withSet(i), nil)
	want(t, ask(t, b, opening(token1(t))), backends.Allowed, "token is valid")

	next := pairs()["other P-256"]
	i.publish(setOf(t, map[string]crypto.PublicKey{"2": next.public}))
	token2 := sign(t, "ES256", "2", next.private, claimed(nil))
	want(t, ask(t, b, opening(token2)), backends.Allowed, "token is valid")
	if i.Calls() != 2 {
		t.Errorf("got %d fetches, want 2", i.Calls())
	}
	want(t, ask(t, b, opening(token1(t))), backends.Denied, "token is signed with an unknown key")
	if i.Calls() != 2 {
		t.Errorf("got %d fetches, want 2: the third within ten seconds", i.Calls())
	}
	i.publish(firstKey(t))
	clock.advance(unknownPause)
	want(t, ask(t, b, opening(token1(t))), backends.Allowed, "token is valid")
	stolen := sign(t, "ES256", "1", next.private, claimed(nil))
	want(t, ask(t, b, opening(stolen)), backends.Denied, "token is not signed by the issuer")
}

func TestAFloodOfUnknownKeysCausesFewFetches(t *testing.T) {
	t.Parallel()
	i := startIssuer(t, firstKey(t))
	b, clock := newBackend(t, withSet(i), nil)
	for round := range 3 {
		var group sync.WaitGroup
		for viewer := range 200 {
			group.Go(func() {
				id := fmt.Sprint("r", round, "-", viewer)
				token := sign(t, "ES256", id, pairs()["other P-256"].private, claimed(nil))
				want(t, ask(t, b, opening(token)), backends.Denied, "token is signed with an unknown key")
			})
		}
		group.Wait()
		clock.advance(unknownPause)
	}
	if got := i.Calls(); got != 4 {
		t.Errorf("got %d fetches by 600 viewers in 30 s, want 4: the first, and one every ten seconds", got)
	}
	want(t, ask(t, b, opening(token1(t))), backends.Allowed, "token is valid")
}

// While no keys are known nobody can be told yes or no, and the policy for outages decides.
func TestNoKeysAtAllIsAFailure(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		mode   backendtest.Mode
		set    string
		kind   backends.FailureKind
		status int
	}{
		"refused":            {mode: backendtest.Refuse(), kind: backends.FailureTransport},
		"reset":              {mode: backendtest.Reset(), kind: backends.FailureTransport},
		"a hang":             {mode: backendtest.Hang(), kind: backends.FailureTimeout},
		"a body never comes": {mode: backendtest.SlowBody(), kind: backends.FailureTimeout},
		"status 503":         {mode: backendtest.Status(503), kind: backends.FailureStatus, status: 503},
		"status 404":         {mode: backendtest.Status(404), kind: backends.FailureStatus, status: 404},
		"status 204":         {mode: backendtest.Status(204), kind: backends.FailureStatus, status: 204},
		"a redirect": {
			mode: backendtest.Redirect("http://127.0.0.1:1/"), kind: backends.FailureStatus, status: 302,
		},
		"a redirect to itself": {mode: backendtest.RedirectSelf(), kind: backends.FailureStatus, status: 302},
		"not HTTP":             {mode: backendtest.Garbage(), kind: backends.FailureMalformed},
		"giant headers":        {mode: backendtest.GiantHeaders(), kind: backends.FailureMalformed},
		"not JSON":             {set: "<html>5ecret</html>", kind: backends.FailureMalformed},
		"a list":               {set: `["5ecret"]`, kind: backends.FailureMalformed},
		"another object":       {set: `{"5ecret": 1}`, kind: backends.FailureMalformed},
		"no keys in it":        {set: `{"keys": []}`, kind: backends.FailureMalformed},
		"keys for others alone": {
			set: `{"keys": [{"kty":"oct","k":"5ecret"}, 5, {"kty":"5ecret"}]}`, kind: backends.FailureMalformed,
		},
		"too many keys": {
			set: `{"keys": [` + strings.Repeat("{},", 64) + `{}]}`, kind: backends.FailureMalformed,
		},
		"too large": {
			set: `{"keys": ["` + strings.Repeat("5ecret", 200_000) + `"]}`, kind: backends.FailureMalformed,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := startIssuer(t, tt.set)
			i.fare(t, tt.mode)
			cfg := withSet(i)
			if tt.kind == backends.FailureTimeout {
				cfg.JWKSTimeout = 500 * time.Millisecond
			}
			b, clock := newBackend(t, cfg, nil)
			token := token1(t)
			_, err := b.Check(t.Context(), opening(token))
			wantFailure(t, err, tt.kind, token, "5ecret")
			if status := backends.AsFailure(err).Status; status != tt.status {
				t.Errorf("got status %d, want %d", status, tt.status)
			}

			calls := i.Calls()
			_, err = b.Check(t.Context(), opening(token))
			wantFailure(t, err, tt.kind, token)
			if i.Calls() != calls {
				t.Errorf("got %d fetches, want the failure to stand for a second after %d", i.Calls(), calls)
			}
			expired := sign(t, "ES256", "1", pairs()["P-256"].private, claimed(map[string]any{"exp": 1}))
			want(t, ask(t, b, opening(expired)), backends.Denied, "token is expired")

			i.publish(firstKey(t))
			i.fare(t, backendtest.Healthy())
			clock.advance(failurePause)
			b.remote.timeout = time.Minute
			want(t, ask(t, b, opening(token)), backends.Allowed, "token is valid")
		})
	}
}

func TestTheLastKeysHoldWhileTheIssuerIsAway(t *testing.T) {
	t.Parallel()
	log, written := logged()
	i := startIssuer(t, firstKey(t))
	b, clock := newBackend(t, withSet(i), log)
	want(t, ask(t, b, opening(token1(t))), backends.Allowed, "token is valid")
	unknown := sign(t, "ES256", "2", pairs()["other P-256"].private, claimed(nil))
	for _, mode := range []backendtest.Mode{backendtest.Refuse(), backendtest.Status(500), backendtest.Garbage()} {
		i.fare(t, mode)
		clock.advance(unknownPause)
		want(t, ask(t, b, opening(unknown)), backends.Denied, "token is signed with an unknown key")
		want(t, ask(t, b, opening(token1(t))), backends.Allowed, "token is valid")
	}
	i.fare(t, backendtest.Healthy())
	i.publish(`{"keys": []}`)
	clock.advance(unknownPause)
	want(t, ask(t, b, opening(unknown)), backends.Denied, "token is signed with an unknown key")
	want(t, ask(t, b, opening(token1(t))), backends.Allowed, "token is valid")

	i.publish(setOf(t, map[string]crypto.PublicKey{"2": pairs()["other P-256"].public}))
	clock.advance(unknownPause)
	want(t, ask(t, b, opening(unknown)), backends.Allowed, "token is valid")
	lines := strings.Split(strings.TrimSpace(written()), "\n")
	if len(lines) != 3 ||
		!strings.Contains(lines[0], `level=WARN msg="signing keys come over plain http`) ||
		!strings.Contains(lines[1], `level=WARN msg="signing keys cannot be fetched" backend=tokens known=true`) ||
		!strings.Contains(lines[2], `level=INFO msg="signing keys are fetched again" backend=tokens`) {
		t.Errorf("got the log\n%s\nwant one warning when it began and one word when it ended", written())
	}
	wantHidden(t, written(), unknown, token1(t))
}

// An unknown key is the viewer's own word, so the wait for it must end before waiting itself would let him in.
func TestAnUnknownKeyIsANoWhileTheIssuerHangs(t *testing.T) {
	t.Parallel()
	i := startIssuer(t, firstKey(t))
	b, _ := newBackend(t, withSet(i), nil)
	want(t, ask(t, b, opening(token1(t))), backends.Allowed, "token is valid")
	i.fare(t, backendtest.Hang())
	b.remote.patience = unknownPatience
	unknown := sign(t, "ES256", "2", pairs()["other P-256"].private, claimed(nil))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	d, err := b.Check(ctx, opening(unknown))
	if err != nil {
		t.Fatalf("check: %v", err)
	}
	want(t, d, backends.Denied, "token is signed with an unknown key")
	want(t, ask(t, b, opening(unknown)), backends.Denied, "token is signed with an unknown key")
	want(t, ask(t, b, opening(token1(t))), backends.Allowed, "token is valid")
}

func TestViewersShareTheFirstFetchAndNoneEndsIt(t *testing.T) {
	t.Parallel()
	i, set := startIssuer(t, ""), firstKey(t)
	answer := make(chan struct{})
	release := sync.OnceFunc(func() { close(answer) })
	t.Cleanup(release)
	i.SetDialect(func(w http.ResponseWriter, _ *http.Request, _ backendtest.User, _ bool) {
		<-answer
		_, _ = w.Write([]byte(set))
	})
	b, _ := newBackend(t, withSet(i), nil)
	leaving, leave := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		_, err := b.Check(leaving, opening(token1(t)))
		gone <- err
	}()
	if err := i.Wait(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() { want(t, ask(t, b, opening(token1(t))), backends.Allowed, "token is valid") })
	}
	leave()
	err := <-gone
	if !errors.Is(err, context.Canceled) || backends.AsFailure(err) != nil {
		t.Errorf("got %v for the viewer who left, want context.Canceled and no failure", err)
	}
	wantHidden(t, err.Error(), token1(t))
	release()
	group.Wait()
	if i.Calls() != 1 {
		t.Errorf("got %d fetches, want 1", i.Calls())
	}
}

func TestAViewersDeadlineIsATimeout(t *testing.T) {
	t.Parallel()
	i := startIssuer(t, firstKey(t))
	i.fare(t, backendtest.Hang())
	b, _ := newBackend(t, withSet(i), nil)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err := b.Check(ctx, opening(token1(t)))
	wantFailure(t, err, backends.FailureTimeout)
}

func TestCloseEndsTheFetchUnderWay(t *testing.T) {
	t.Parallel()
	i := startIssuer(t, firstKey(t))
	i.fare(t, backendtest.Hang())
	cfg := withSet(i)
	cfg.JWKSTimeout = time.Hour
	log, written := logged()
	b, clock := newBackend(t, cfg, log)
	failed := make(chan error, 1)
	go func() {
		_, err := b.Check(t.Context(), opening(token1(t)))
		failed <- err
	}()
	if err := i.Wait(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	b.Close()
	wantFailure(t, <-failed, backends.FailureTransport)
	clock.advance(failurePause)
	_, err := b.Check(t.Context(), opening(token1(t)))
	wantFailure(t, err, backends.FailureTransport)
	if strings.Contains(written(), "cannot be fetched") {
		t.Errorf("got a warning about closing: %s", written())
	}
}

func TestRunFetchesBeforeAnybodyAsks(t *testing.T) {
	t.Parallel()
	i := startIssuer(t, firstKey(t))
	b, _ := newBackend(t, withSet(i), nil)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	if err := i.Wait(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	want(t, ask(t, b, opening(token1(t))), backends.Allowed, "token is valid")
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("got %v, want nil", err)
	}
	if i.Calls() != 1 {
		t.Errorf("got %d fetches, want 1", i.Calls())
	}
}

func TestRunHasNothingToDoWithASecret(t *testing.T) {
	t.Parallel()
	b, _ := newBackend(t, withSecret(nil), nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Run(ctx); err != nil {
		t.Errorf("got %v, want nil", err)
	}
}

func TestACertificateThatNobodyTrustsIsATransportFailure(t *testing.T) {
	t.Parallel()
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	cfg := DefaultConfig()
	cfg.Algorithms, cfg.JWKSURL = []string{"ES256"}, s.URL
	b, _ := newBackend(t, cfg, nil)
	_, err := b.Check(t.Context(), opening(token1(t)))
	wantFailure(t, err, backends.FailureTransport)
}

// What an adapter asks with is written down for a person who looks for the mistake.
func TestTheFetchOfACheckIsWrittenDown(t *testing.T) {
	t.Parallel()
	i := startIssuer(t, firstKey(t))
	b, _ := newBackend(t, withSet(i), nil)
	ctx, exchanges := httpbackend.WithTrace(t.Context())
	if _, err := b.Check(ctx, opening(token1(t))); err != nil {
		t.Fatalf("check: %v", err)
	}
	list := exchanges.Entries()
	if len(list) != 1 || list[0].URL != i.URL()+"/jwks.json" || list[0].Status != http.StatusOK {
		t.Errorf("got exchanges %+v, want the fetch", list)
	}
}
