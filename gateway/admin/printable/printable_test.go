package printable

import "testing"

func TestText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "", "Ann Ä 1": "Ann Ä 1", "a\tb\r\nc": "a b  c", "\u009b31m\x1b[2J": "\uFFFD31m\uFFFD[2J", "a\u202eb\u200fc": "a\uFFFDb\uFFFDc",
		"\u00a0": " ", "a\xffb": "a\uFFFDb",
	} {
		if got := Text(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}
