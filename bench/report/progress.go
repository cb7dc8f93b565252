package report

import (
	"cmp"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"usher/bench/record"
)

// Progress shows a run while it goes on: on a terminal as a block that it refreshes in place, elsewhere as a line for each
// snapshot. It is safe for concurrent use.
type Progress struct {
	out         *os.File
	length      time.Duration // of a measurement
	isRefreshed bool
	hasColour   bool

	mu sync.Mutex
	// last is what the block shows; nil: there is no block.
	last *record.Snapshot
	// drawn are the widths of the block's lines on the screen.
	drawn []int
}

// NewProgress returns the progress of measurements of that length. It writes plain lines unless out is a terminal that can move
// its cursor, by TERM, and has no colours if NO_COLOR is set.
func NewProgress(out *os.File, length time.Duration) *Progress {
	terminal := os.Getenv("TERM")
	_, err := unix.IoctlGetWinsize(int(out.Fd()), unix.TIOCGWINSZ)
	return &Progress{
		out: out, length: length, isRefreshed: err == nil && terminal != "" && terminal != "dumb", hasColour: os.Getenv("NO_COLOR") == "",
	}
}

// Begin writes the title of a measurement. The block of the one before goes.
func (p *Progress) Begin(title string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = nil
	_, _ = p.drawLocked(title + "\n") // as in Show
}

// Show shows the last second.
func (p *Progress) Show(s record.Snapshot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	text := ""
	if p.isRefreshed {
		p.last = &s
	} else {
		text = plainLine(&s)
	}
	_, _ = p.drawLocked(text) // nobody reads what cannot be written; the measurement counts
}

// Write writes whole lines, which stay on the screen above the block.
func (p *Progress) Write(lines []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := p.drawLocked(string(lines)); err != nil {
		return 0, err
	}
	return len(lines), nil
}

// End leaves the block as it is. What is written from now on follows below it.
func (p *Progress) End() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last, p.drawn = nil, nil
}

// Sizes of a terminal that does not tell its own.
const (
	defaultColumns = 80
	defaultRows    = 24
)

// drawLocked writes the text in place of the block, and the block below it, at once.
func (p *Progress) drawLocked(text string) (int, error) {
	columns, rows := defaultColumns, defaultRows
	if size, err := unix.IoctlGetWinsize(int(p.out.Fd()), unix.TIOCGWINSZ); err == nil {
		columns, rows = cmp.Or(int(size.Col), columns), cmp.Or(int(size.Row), rows)
	}
	var out strings.Builder
	up := 0
	for _, width := range p.drawn {
		up += 1 + max(width-1, 0)/columns // terminals wrap lines that became too long for them
	}
	if p.drawn = nil; up > 0 {
		fmt.Fprintf(&out, "\r\x1b[%dA\x1b[J", up)
	}
	out.WriteString(text)
	if p.last != nil {
		room := max(columns-1, 1) // the last column is the cursor's
		lines := block(p.last, p.length, room)
		for _, l := range lines[:min(len(lines), max(rows-1, 1))] { // the cursor is below, and cannot reach what has left the screen
			shown := []rune(l.text)
			if len(shown) > room {
				shown = append(shown[:room-1], '…')
			}
			p.drawn = append(p.drawn, len(shown))
			if p.hasColour && l.colour != "" {
				fmt.Fprintf(&out, "\x1b[%sm%s\x1b[0m\n", l.colour, string(shown))
			} else {
				out.WriteString(string(shown) + "\n")
			}
		}
	}
	return p.out.WriteString(out.String())
}
