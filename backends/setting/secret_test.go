package setting_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"usher/backends/setting"
)

func TestSecret_Hidden(t *testing.T) {
	t.Parallel()
	const s = setting.Secret("hunter2")
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("key read", slog.Any("key", s))
	text, err := json.Marshal(map[string]setting.Secret{"set": s, "unset": ""})
	if err != nil {
		t.Fatalf("marshal: %v", err)
	}
	if want := `{"set":"[hidden]","unset":""}`; string(text) != want {
		t.Errorf("JSON: got %s, want %s", text, want)
	}
	for _, shown := range []string{log.String(), fmt.Sprint(s), fmt.Sprintf("%+v %#v %q", s, s, s)} {
		if strings.Contains(shown, "hunter2") || !strings.Contains(shown, "[hidden]") {
			t.Errorf("got %q, want it hidden", shown)
		}
	}
	if s.Reveal() != "hunter2" {
		t.Errorf("revealed: got %q", s.Reveal())
	}
}
