package backends

import "log/slog"

// OrDiscard makes nil a logger that drops everything.
func OrDiscard(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return log
}
