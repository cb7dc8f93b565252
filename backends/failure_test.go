package backends

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

func TestNewOverload_WritesTheValueAsTheConfigDoes(t *testing.T) {
	t.Parallel()
	for want, value := range map[string]any{
		"200000": 200_000, "32KiB": "32KiB", "0s": time.Duration(0), "1s": time.Second, "500ms": 500 * time.Millisecond,
		"1m": time.Minute, "1m30s": 90 * time.Second, "1h": time.Hour, "1h0m5s": time.Hour + 5*time.Second, "1h30m": 90 * time.Minute,
	} {
		if got := NewOverload("sessions.max", value).Error(); got != "overloaded: sessions.max="+want+" reached" {
			t.Errorf("%v: got %q, want %s", value, got, want)
		}
	}
}

// TestFailure_IsConnect has every kind, before and after the request was sent.
func TestFailure_IsConnect(t *testing.T) {
	t.Parallel()
	for kind := FailureTransport; kind <= FailureBreakerOpen; kind++ {
		for _, wasSent := range []bool{false, true} {
			f := Failure{Kind: kind, WasSent: wasSent}
			isNetwork := kind == FailureTransport || kind == FailureTimeout
			if f.IsTransport() != isNetwork || f.IsConnect() != (isNetwork && !wasSent) {
				t.Errorf("%s, sent=%t: got IsTransport=%t and IsConnect=%t", kind, wasSent, f.IsTransport(), f.IsConnect())
			}
		}
	}
}

func TestFailure_Error_NamesBackendAndCause(t *testing.T) {
	t.Parallel()
	for want, failure := range map[string]*Failure{
		`check backend "b": status 503`:                 {Kind: FailureStatus, Backend: "b", Status: 503, Err: errors.New("boom")},
		`check backend "b": malformed: boom`:            {Kind: FailureMalformed, Backend: "b", Err: errors.New("boom")},
		`check backend "b": ` + FailureTimeout.String(): {Kind: FailureTimeout, Backend: "b"},
	} {
		if got := failure.Error(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// An error says what it is through any layer around it, and what it is not.
func TestAsFailure_IsOverload_Wrapped(t *testing.T) {
	t.Parallel()
	cause := errors.New("refused")
	failure := &Failure{Kind: FailureTransport, Backend: "b", Err: cause}
	overload := NewOverload("sessions.max", 1)
	for name, tt := range map[string]struct {
		err        error
		failure    *Failure
		isOverload bool
	}{
		"none":               {nil, nil, false},
		"another error":      {cause, nil, false},
		"a failure":          {failure, failure, false},
		"a wrapped failure":  {fmt.Errorf("open: %w", failure), failure, false},
		"an overload":        {overload, nil, true},
		"a wrapped overload": {fmt.Errorf("open: %w", overload), nil, true},
	} {
		got := AsFailure(tt.err)
		if (got == nil) != (tt.failure == nil) || got != nil && *got != *tt.failure || IsOverload(tt.err) != tt.isOverload {
			t.Errorf("%s: got failure %v, overload %t", name, got, IsOverload(tt.err))
		}
	}
	if !errors.Is(failure, cause) {
		t.Error("the failure hides its cause")
	}
}
