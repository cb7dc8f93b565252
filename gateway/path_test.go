package gateway

import "testing"

func TestIsCleanPath(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		path string
		want bool
	}{
		"an ordinary path":              {"/play/a001/index.m3u8", true},
		"names with dots":               {"/play/a.b/.hidden/seg.1.ts", true},
		"empty segments":                {"/play//a001/", true},
		"an escaped space":              {"/play/a%20b/x.ts", true},
		"an escaped letter of another":  {"/play/%D0%B0/x.ts", true},
		"an escaped tilde":              {"/play/%7Ea/x.ts", true},
		"parameters of a segment":       {"/play/a;b=c/x.ts", true},
		"the empty path":                {"", true},
		"a segment of a dot":            {"/play/./x.ts", false},
		"a segment of two dots":         {"/play/a001/../a002/x.ts", false},
		"two dots at the end":           {"/play/a001/..", false},
		"a dot at the end":              {"/play/a001/.", false},
		"three dots":                    {"/play/a001/.../x.ts", false},
		"two dots with a parameter":     {"/play/a001/..;/a002/x.ts", false},
		"a dot with a parameter":        {"/play/a001/.;x/x.ts", false},
		"two dots with an escaped one":  {"/play/a001/..%3B/a002/x.ts", false},
		"an escaped dot":                {"/play/a001/%2e%2e/a002/x.ts", false},
		"an escaped slash":              {"/play/a001%2Fx.ts", false},
		"an escaped slash, small":       {"/play/a001%2fx.ts", false},
		"an escaped backslash":          {"/play/a001%5C..%5Cx.ts", false},
		"a backslash":                   {`/play/a001\..\x.ts`, false},
		"an escaped percent sign":       {"/play/a001/%252e%252e/x.ts", false},
		"an escaped null":               {"/play/a001/x.m3u8%00.ts", false},
		"an escaped newline":            {"/play/a001%0d%0aHost:x/x.ts", false},
		"an escaped delete":             {"/play/a001%7f/x.ts", false},
		"a control character":           {"/play/a001\x01/x.ts", false},
		"an escaped letter":             {"/play/%61001/x.ts", false},
		"an escaped capital":            {"/play/%41001/x.ts", false},
		"an escaped digit":              {"/play/a%3001/x.ts", false},
		"an escaped hyphen":             {"/play/a001/seg%2D1.ts", false},
		"an escaped underscore":         {"/play/a001/seg%5F1.ts", false},
		"half an escape":                {"/play/a001%2", false},
		"a percent sign alone":          {"/play/a001/x%", false},
		"an escape of no hex":           {"/play/a001/%zz", false},
		"an escape of half a hex digit": {"/play/a001/%2g", false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := isCleanPath(tc.path); got != tc.want {
				t.Errorf("cleanPath(%q): got %v, want %v", tc.path, got, tc.want)
			}
		})
	}
}
