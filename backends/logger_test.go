package backends

import (
	"log/slog"
	"testing"
)

func TestLoggerOrDiscard(t *testing.T) {
	t.Parallel()
	if own := slog.Default(); LoggerOrDiscard(own) != own {
		t.Error("got another logger than the given one")
	}
	if got := LoggerOrDiscard(nil); got == nil || got.Handler() != slog.DiscardHandler {
		t.Errorf("got %v for no logger, want one that discards", got)
	}
}
