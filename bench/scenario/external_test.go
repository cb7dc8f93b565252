package scenario

import (
	"testing"
	"time"

	"usher/bench/process"
	"usher/bench/rig"
)

// TestRun_External_SecondRun runs twice against the operator's node, whose decisions of the first run hold for much longer: the harness's
// middleware is asked in both.
func TestRun_External_SecondRun(t *testing.T) {
	t.Parallel()
	binary, err := usher()
	if err != nil {
		t.Fatal(err)
	}
	port, err := process.ReservePort()
	if err != nil {
		t.Fatal(err)
	}
	defer port.Release()
	node, err := rig.Start(t.Context(), rig.Options{
		Server: rig.Usher, Binary: binary, Validity: time.Hour, RecheckRate: 200, OnFailure: "allow", Segment: time.Second,
		Settings: map[string]any{"backends": map[string]any{"portal": map[string]any{"address": "http://" + port.Address + "/check"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	s, err := Parse("f.yaml", []byte("shows: a\nviewers: 3\nbad: 40%\nfor: 3s\nexpect: [ count(denials) > 0, errors == 0 ]"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		run, err := Run(t.Context(), s, Options{External: &rig.External{URLs: node.URLs(), Middleware: port.Address}})
		if err != nil {
			t.Fatal(err)
		}
		if failed := run.Failed(); len(failed) > 0 {
			t.Errorf("%v; want what is expected to hold", failed)
		}
	}
}
