package backends

import "log/slog"

// LoggerOrDiscard makes nil a logger that drops everything.
func LoggerOrDiscard(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return log
}
