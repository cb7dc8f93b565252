package report_test

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// terminal is a pseudo terminal.
type terminal struct {
	master, slave *os.File
	columns, rows int
	text          chan string // all that was written
}

// openTerminal opens a terminal of that size.
func openTerminal(t *testing.T, columns, rows int) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = slave.Close() })
	terminal := &terminal{master: master, slave: slave, text: make(chan string, 1)}
	terminal.resize(t, columns, rows)
	go func() {
		text, _ := io.ReadAll(master) // ends with an error when the slave is closed
		terminal.text <- string(text)
	}()
	return terminal
}

func (t *terminal) resize(test *testing.T, columns, rows int) {
	test.Helper()
	t.columns, t.rows = columns, rows
	if err := unix.IoctlSetWinsize(int(t.slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: uint16(columns), Row: uint16(rows)}); err != nil {
		test.Fatal(err)
	}
}

// after returns all that the function wrote. It closes the terminal.
func (t *terminal) after(write func(out *os.File)) string {
	write(t.slave)
	_ = t.slave.Close()
	return <-t.text
}

// screen returns what the terminal shows after that text.
func (t *terminal) screen(text string) *screen {
	s := &screen{columns: cmp.Or(t.columns, 80), rows: cmp.Or(t.rows, 24)}
	s.write(text)
	return s
}

// screen emulates the control sequences that a progress needs. It keeps what has left the screen at the top.
type screen struct {
	columns, rows int
	lines         [][]rune
	x, y          int
	wraps         int
}

func (s *screen) write(text string) {
	for text != "" {
		var n int
		var kind rune
		if count, _ := fmt.Sscanf(text, "\x1b[%d%c", &n, &kind); count == 2 && kind == 'A' {
			s.y = max(s.y-n, len(s.lines)-s.rows, 0)
		} else if strings.HasPrefix(text, "\x1b[J") {
			s.lines = s.lines[:min(s.y+1, len(s.lines))]
			s.lines[s.y] = s.lines[s.y][:min(s.x, len(s.lines[s.y]))]
		}
		if rest, isControl := strings.CutPrefix(text, "\x1b["); isControl {
			text = rest[strings.IndexAny(rest, "AJm")+1:]
			continue
		}
		r, length := utf8.DecodeRuneInString(text)
		text = text[length:]
		s.put(r)
	}
}

// put writes a character.
func (s *screen) put(r rune) {
	switch {
	case r == '\r':
		s.x = 0
		return
	case r == '\n':
		s.y++
	case s.x == s.columns:
		s.wraps++
		s.x = 0
		s.y++
	}
	for len(s.lines) <= s.y {
		s.lines = append(s.lines, nil)
	}
	if r == '\n' {
		return
	}
	for len(s.lines[s.y]) <= s.x {
		s.lines[s.y] = append(s.lines[s.y], ' ')
	}
	s.lines[s.y][s.x] = r
	s.x++
}

// narrow makes the screen narrower, and wraps what is on it, as most terminals do.
func (s *screen) narrow(columns int) {
	var wrapped [][]rune
	for _, line := range s.lines {
		for len(line) > columns {
			wrapped, line = append(wrapped, line[:columns]), line[columns:]
		}
		wrapped = append(wrapped, line)
	}
	s.columns, s.lines, s.x, s.y = columns, wrapped, 0, len(wrapped)-1
}

func (s *screen) String() string {
	var text strings.Builder
	for i, line := range s.lines {
		if i < len(s.lines)-1 || len(line) > 0 {
			text.WriteString(string(line) + "\n")
		}
	}
	return text.String()
}
