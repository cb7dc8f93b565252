package actors

import "testing"

func TestLifecycle_TryRun(t *testing.T) {
	t.Parallel()
	l, ran := newLifecycle(), 0
	defer l.cancel()
	if !l.tryRun(func() { ran++ }) {
		t.Error("a task is refused before the end")
	}
	l.tasks.Wait()
	l.shut()
	if l.tryRun(func() { ran++ }) {
		t.Error("a task is started after the end")
	}
	l.wait()
	if ran != 1 {
		t.Errorf("%d tasks ran, want the one before the end", ran)
	}
}
