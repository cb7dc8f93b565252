package systemd

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Notifier tells systemd the state of the service. A nil one tells nobody. It is safe for concurrent use.
type Notifier struct{ log *slog.Logger }

// NewNotifier returns a notifier, which logs what it cannot tell.
func NewNotifier(log *slog.Logger) *Notifier { return &Notifier{log} }

// Ready tells that the node serves, also after a reload. The status is shown by systemctl.
func (n *Notifier) Ready(status string) { n.send(daemon.SdNotifyReady, statusLine(status)) }

// Reloading tells that the settings are being reloaded. Ready must follow.
func (n *Notifier) Reloading() {
	n.send(daemon.SdNotifyReloading, strings.TrimSuffix(daemon.SdNotifyMonotonicUsec(), "\n"))
}

// Stopping tells that the node drains, which may take that long.
func (n *Notifier) Stopping(most time.Duration) {
	n.send(daemon.SdNotifyStopping, fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", most.Microseconds()), statusLine("draining"))
}

// RunWatchdog tells systemd that the node lives, twice in each WatchdogSec= of the unit, until ctx ends. The check blocks for as
// long as the node is stuck. Without WatchdogSec= it returns at once.
func (n *Notifier) RunWatchdog(ctx context.Context, check func()) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		n.log.Warn("systemd's watchdog is not served", slog.Any("error", err))
	}
	if interval <= 0 {
		return
	}
	tick := time.NewTicker(interval / 2)
	defer tick.Stop()
	for {
		check()
		n.send(daemon.SdNotifyWatchdog)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// statusLine is the assignment of a status, which is one line.
func statusLine(status string) string { return "STATUS=" + strings.ReplaceAll(status, "\n", "; ") }

func (n *Notifier) send(lines ...string) {
	if n == nil {
		return
	}
	if _, err := daemon.SdNotify(false, strings.Join(lines, "\n")); err != nil {
		n.log.Warn("systemd not notified", slog.String("state", lines[0]), slog.Any("error", err))
	}
}
