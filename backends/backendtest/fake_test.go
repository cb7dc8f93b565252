package backendtest

import (
	"context"
	"testing"

	"usher/backends"
)

func TestFake_AnswersAndRecords(t *testing.T) {
	t.Parallel()
	var f Fake
	if d, err := f.Check(t.Context(), NewRequest("a")); err != nil || d.Verdict != backends.Allowed {
		t.Errorf("got %s and error %v from the zero value, want allowed", d.Verdict, err)
	}
	f.CheckFunc = func(context.Context, *backends.Request) (backends.Decision, error) {
		return backends.Decision{Verdict: backends.Denied}, nil
	}
	if d, err := f.Check(t.Context(), NewRequest("b")); err != nil || d.Verdict != backends.Denied {
		t.Errorf("got %s and error %v, want what CheckFunc says", d.Verdict, err)
	}
	if seen := f.Requests(); f.Calls() != 2 || seen[0].Query != "token=a" || seen[1].Query != "token=b" {
		t.Errorf("got %d calls, %+v", f.Calls(), seen)
	}
}
