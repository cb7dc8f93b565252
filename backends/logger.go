package backends

import "log/slog"

// LoggerOrDiscard returns log, or a logger that discards everything if it is nil.
func LoggerOrDiscard(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return log
}
