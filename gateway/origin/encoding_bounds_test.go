package origin

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
)

// stored returns raw deflate without compression, whose blocks begin with that byte. Only its three lower bits have a meaning.
func stored(first byte, texts ...string) []byte {
	var all []byte
	for i, text := range texts {
		if i == len(texts)-1 {
			first |= 1 // the last block
		}
		n := len(text)
		all = append(all, first, byte(n), 0, ^byte(n), 0xff)
		all = append(all, text...)
	}
	return all
}

// TestNewInflater_RawThatLooksLikeZlib reads raw deflate that has one of the two marks of zlib's header.
func TestNewInflater_RawThatLooksLikeZlib(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("x", 23)
	for name, test := range map[string]struct {
		body []byte
		want string
	}{
		"its method only":   {stored(0x08, "hello", "world"), "helloworld"},
		"its checksum only": {stored(0x00, text), text},
		"both":              {compress(t, "zlib", []byte(text)), text},
		"neither":           {compress(t, "raw", []byte(text)), text},
	} {
		r, err := newInflater(bytes.NewReader(test.body))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, err := io.ReadAll(r); string(got) != test.want || err != nil {
			t.Errorf("%s: got %q, %v; want %q", name, got, err, test.want)
		}
	}
}

func TestContentCodings_AtMostTwo(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fields []string
		want   int // -1: refused
	}{
		"none":                 {nil, 0},
		"two":                  {[]string{"gzip, deflate"}, 2},
		"two in two fields":    {[]string{"gzip", "x-gzip"}, 2},
		"two and what is none": {[]string{"gzip, identity, gzip"}, 2},
		"three":                {[]string{"gzip, gzip, gzip"}, -1},
		"three in two fields":  {[]string{"gzip, gzip", "gzip"}, -1},
	} {
		got, err := contentCodings(http.Header{"Content-Encoding": test.fields})
		if (err != nil) != (test.want < 0) || err == nil && len(got) != test.want {
			t.Errorf("%s: got %q, %v; want %d", name, got, err, test.want)
		}
	}
}

// TestNewDecoder_TwoCodings decodes a body that was encoded twice, the last coding first.
func TestNewDecoder_TwoCodings(t *testing.T) {
	t.Parallel()
	body := []byte("#EXTM3U\n")
	twice := compress(t, "gzip", compress(t, "zlib", body))
	r, err := newDecoder([]string{"deflate", "gzip"}, bytes.NewReader(twice))
	if err != nil {
		t.Fatalf("newDecoder: %v", err)
	}
	if got, err := io.ReadAll(r); !bytes.Equal(got, body) || err != nil {
		t.Errorf("got %q, %v; want %q", got, err, body)
	}
}
