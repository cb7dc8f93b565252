package sessions

import "testing"

// TestInSeconds writes also the time of a long outage with many viewers, which is more than a time.Duration holds.
func TestInSeconds(t *testing.T) {
	t.Parallel()
	for seconds, want := range map[float64]string{
		0: "0s", 0.4: "0s", 59.5: "1m0s", 3599: "59m59s", 3600: "1h0m0s", 3661.5: "1h1m2s", 1e10: "2777777h46m40s",
	} {
		if got := inSeconds(seconds); got != want {
			t.Errorf("%v seconds: %s, want %s", seconds, got, want)
		}
	}
}
