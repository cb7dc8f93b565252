package table

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"usher/bench/peers"
	"usher/bench/process"
	"usher/bench/result"
)

// Options say how the table is made.
type Options struct {
	// Usher is the program; see [FindUsher].
	Usher string
	// Rounds is how often each server is measured, and Length for how long each time, after a warm-up of Warm.
	Rounds       int
	Length, Warm time.Duration
	// Sessions is the size of the rows on a million sessions.
	Sessions int
	// Hold is for how long those of one row are held while they are re-checked, at least 2 s.
	Hold time.Duration
	// Only has the keys of rows to run; empty: all.
	Only []string
	// Progress gets a line for each measurement; nil: nobody does.
	Progress func(line string)
}

// DefaultOptions takes an hour and a quarter.
func DefaultOptions() Options {
	return Options{Rounds: 5, Length: 5 * time.Second, Warm: time.Second, Sessions: 1_000_000, Hold: 5 * time.Minute}
}

// Quick shortens the options to a few minutes. Its figures are for orientation.
func (o Options) Quick() Options {
	o.Rounds, o.Length, o.Warm, o.Sessions, o.Hold = 1, 2*time.Second, 500*time.Millisecond, min(o.Sessions, 20_000), 10*time.Second
	return o
}

// ErrUnknownRow is wrapped by the error for a key that no row has.
var ErrUnknownRow = errors.New("unknown row")

// Validate reports every invalid field.
func (o Options) Validate() error {
	var errs []error
	for _, key := range o.Only {
		if !slices.Contains(Rows(), key) {
			errs = append(errs, fmt.Errorf("%w %q, want one of %s", ErrUnknownRow, key, strings.Join(Rows(), ", ")))
		}
	}
	if o.Rounds < 1 {
		errs = append(errs, fmt.Errorf("rounds: %d is below 1", o.Rounds))
	}
	if o.Length <= 0 {
		errs = append(errs, fmt.Errorf("length: %s is not above 0", o.Length))
	}
	if o.Hold < minHold {
		errs = append(errs, fmt.Errorf("hold: %s is below %s", o.Hold, minHold))
	}
	if o.Sessions < tokens {
		errs = append(errs, fmt.Errorf("sessions: %d is below %d", o.Sessions, tokens))
	}
	return errors.Join(errs...)
}

// Table is what was measured.
type Table struct {
	Host  result.Host
	Lines []Line
	Notes []string
}

// Line is one row of the table. Its fields are text, as reports print them.
type Line struct {
	Work, Goal string
	// Peers has the figures of others, Usher its own, and Ratio Usher's over the yardstick's, with the range of the rounds.
	Peers, Usher, Ratio string
	// Met says whether the goal is met.
	Met bool
}

// row is a kind of work. It makes one line or several.
type row struct {
	key string
	run func(ctx context.Context, b *bed) ([]Line, error)
}

func rows() []row {
	return []row{
		{"playlists", playlists},
		{"tickets", tickets},
		{"segments", segments},
		{"mixed", mixed},
		{"auth", authQuestions},
		{"new-viewers", newViewers},
		{"refuses", refuses},
		{"hangs", hangs},
		{"million", million},
		{"held", held},
		{"expiring", expiring},
		{"idle", idle},
		{"calls", calls},
		{"lookup", lookup},
		{"generator", generator},
	}
}

// Rows returns the keys of all rows, in the table's order.
func Rows() []string {
	var keys []string
	for _, r := range rows() {
		keys = append(keys, r.key)
	}
	return keys
}

// Run measures the rows. The yardstick has to be installed; other peers that are not are left out, with a note. An error of a row comes
// with the table of those before it.
func Run(ctx context.Context, o Options) (*Table, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if _, err := peers.Find(peers.Yardstick); err != nil {
		return nil, err
	}
	b, err := newBed(ctx, o)
	if err != nil {
		return nil, err
	}
	defer b.close()
	t := &Table{Host: process.Host()}
	defer func() { t.Notes = b.allNotes() }()
	for _, r := range rows() {
		if len(o.Only) > 0 && !slices.Contains(o.Only, r.key) {
			continue
		}
		lines, err := r.run(ctx, b)
		if err != nil {
			return t, fmt.Errorf("row %s: %w", r.key, err)
		}
		t.Lines = append(t.Lines, lines...)
	}
	return t, nil
}

// WriteMarkdown writes the table and what it was measured on.
func (t *Table) WriteMarkdown(w io.Writer) error {
	var text strings.Builder
	text.WriteString("| work, ratios in one run | goal | peers | Usher | Usher ÷ nginx-auth (range of rounds) | met |\n|---|---|---|---|---|---|\n")
	for _, l := range t.Lines {
		met := "no"
		if l.Met {
			met = "yes"
		}
		fmt.Fprintf(&text, "| %s | %s | %s | %s | %s | %s |\n", l.Work, l.Goal, l.Peers, l.Usher, l.Ratio, met)
	}
	h := t.Host
	fmt.Fprintf(&text, "\nMeasured on %d CPUs (%s), %.0f GiB, %s, %s. Load, servers, origin and middleware share them, on loopback.\n",
		h.CPUs, h.CPU, float64(h.Memory)/(1<<30), h.System, h.Go)
	for _, note := range t.Notes {
		fmt.Fprintf(&text, "%s\n", note)
	}
	_, err := io.WriteString(w, text.String())
	return err
}
