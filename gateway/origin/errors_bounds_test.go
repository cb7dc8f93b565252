package origin

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
)

func TestStatusError_IsNotFound(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]bool{
		http.StatusNotFound: true, http.StatusGone: true, http.StatusForbidden: false, http.StatusInternalServerError: false, http.StatusOK: false,
	} {
		if got := (&StatusError{Status: status}).IsNotFound(); got != want {
			t.Errorf("%d: got %v, want %v", status, got, want)
		}
	}
}

func TestAllowsStale_OfMediaAndPlaylist(t *testing.T) {
	t.Parallel()
	status := func(code int) error { return fmt.Errorf("x: %w", &StatusError{Status: code}) }
	for name, test := range map[string]struct {
		err             error
		media, playlist bool
	}{
		"404":                        {status(404), false, true},
		"403":                        {status(403), false, false},
		"410":                        {status(410), false, false},
		"499":                        {status(499), false, false},
		"500":                        {status(500), true, true},
		"503":                        {status(503), true, true},
		"unreachable":                {&UnreachableError{Err: errMalformed}, true, true},
		"too large":                  {ErrTooLarge, true, true},
		"a path that is not sent":    {fmt.Errorf("x: %w", ErrPath), false, false},
		"a playlist as media":        {fmt.Errorf("x: %w", ErrPlaylist), false, false},
		"longer than a viewer waits": {errFreshTimeout, true, true},
	} {
		if got := allowsStale(test.err, cacheKey{media: true}); got != test.media {
			t.Errorf("%s, media: got %v, want %v", name, got, test.media)
		}
		if got := allowsStale(test.err, cacheKey{}); got != test.playlist {
			t.Errorf("%s, playlist: got %v, want %v", name, got, test.playlist)
		}
	}
}

func TestStatusError_RefusesDirectives(t *testing.T) {
	t.Parallel()
	reload := cacheKey{variant: "_HLS_msn=1"}
	for status, want := range map[int]bool{
		400: true, 422: true, 499: true, 304: false, 401: false, 403: false, 404: false, 410: false, 429: false, 500: false,
	} {
		err := fmt.Errorf("x: %w", &StatusError{Status: status})
		if got := refusesDirectives(err, reload); got != want {
			t.Errorf("%d: got %v, want %v", status, got, want)
		}
		if refusesDirectives(err, cacheKey{}) {
			t.Errorf("%d: got true of a request without directives", status)
		}
	}
	if refusesDirectives(&UnreachableError{Err: errMalformed}, reload) {
		t.Error("got true of an origin that is unreachable")
	}
}

func TestTimeoutError_IsANetworkTimeout(t *testing.T) {
	t.Parallel()
	var timeout interface{ Timeout() bool }
	err := fmt.Errorf("dial: %w", &timeoutError{setting: "fetch.connect_timeout"})
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("%v is no timeout", err)
	}
}
