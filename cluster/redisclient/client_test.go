package redisclient

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func TestTheClientsOwnLogIsForWhoLooksClosely(t *testing.T) {
	t.Parallel()
	for level, want := range map[slog.Level]string{slog.LevelDebug: `message="dial 192.0.2.1: 7 times"`, slog.LevelInfo: ""} {
		var text bytes.Buffer
		log := libraryLog{slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{Level: level}))}
		log.Printf(t.Context(), "dial %s: %d times", "192.0.2.1", 7)
		if got := text.String(); !strings.Contains(got, want) || (got == "") != (want == "") {
			t.Errorf("at %v it says %q, want %q in it", level, got, want)
		}
	}
}
