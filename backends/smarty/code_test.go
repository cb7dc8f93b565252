package smarty

import (
	"errors"
	"strings"
	"testing"
)

func TestParseCode(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		body string
		want code
	}{
		"alone":                         {`{"error":0}`, codeValid},
		"with space around":             {" {\n\t\"error\" : 1 }\r\n", codeExpired},
		"in quotes":                     {`{"error": "2"}`, codeOtherContent},
		"a zero in quotes":              {`{"error": "0"}`, codeValid},
		"among others":                  {`{"a": {"error": 0}, "error": 3, "b": [1, {"error": 0}]}`, codeOtherAddress},
		"another in capitals":           {`{"ERROR": 0, "error": 1, "Error": 0}`, codeExpired},
		"its name spelled with escapes": {`{"\u0065rror": 1}`, codeExpired},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, err := parseCode([]byte(tt.body)); err != nil || got != tt.want {
				t.Errorf("got %s and error %v, want %s", got, err, tt.want)
			}
		})
	}
}

func TestParseCode_Malformed(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		body string
		want error
	}{
		"nothing":               {"", errNotJSON},
		"a number":              {"0", errNotJSON},
		"null":                  {"null", errNotJSON},
		"a list":                {`[{"error": 0}]`, errNotJSON},
		"a list around":         {`["error", 0]`, errNotJSON},
		"cut off":               {`{"error": 0`, errNotJSON},
		"cut off in the value":  {`{"error": `, errNotJSON},
		"cut off in the name":   {`{"err`, errNotJSON},
		"a comma too many":      {`{"error": 0,}`, errNotJSON},
		"something behind":      {`{"error": 0} {"error": 1}`, errNotJSON},
		"a brace behind":        {`{"error": 0}}`, errNotJSON},
		"a page":                {"<!DOCTYPE html>", errNotJSON},
		"no error":              {`{}`, errNoCode},
		"a nested one":          {`{"result": {"error": 0}}`, errNoCode},
		"one in capitals":       {`{"Error": 0}`, errNoCode},
		"two":                   {`{"error": 0, "error": 0}`, errDuplicateCode},
		"two that differ":       {`{"error": 1, "error": 0}`, errDuplicateCode},
		"two, one of them null": {`{"error": null, "error": 0}`, errDuplicateCode},
		"true":                  {`{"error": true}`, errNotNumber},
		"false":                 {`{"error": false}`, errNotNumber},
		"a null":                {`{"error": null}`, errNotNumber},
		"an object":             {`{"error": {}}`, errNotNumber},
		"a list of one":         {`{"error": [0]}`, errNotNumber},
		"words":                 {`{"error": "no token"}`, errNotNumber},
		"an empty text":         {`{"error": ""}`, errNotNumber},
		"null in quotes":        {`{"error": "null"}`, errNotNumber},
		"a number quoted twice": {`{"error": "\"0\""}`, errNotNumber},
		"another number":        {`{"error": 4}`, errUnknownCode},
		"a negative one":        {`{"error": -1}`, errUnknownCode},
		"a negative zero":       {`{"error": -0}`, errUnknownCode},
		"a fraction":            {`{"error": 0.0}`, errUnknownCode},
		"a power":               {`{"error": 0e1}`, errUnknownCode},
		"256, as bytes count":   {`{"error": 256}`, errUnknownCode},
		"a long one":            {`{"error": 18446744073709551616}`, errUnknownCode},
		"a long one in quotes":  {`{"error": "18446744073709551616"}`, errUnknownCode},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, err := parseCode([]byte(tt.body)); !errors.Is(err, tt.want) {
				t.Errorf("got %s and error %v, want %v", got, err, tt.want)
			}
		})
	}
}

func TestParseCode_ErrorsHideResponse(t *testing.T) {
	t.Parallel()
	_, err := parseCode([]byte(`{"error": 1001}`))
	if err == nil || err.Error() != "`error` is an unknown number: 1001" {
		t.Errorf("got %v, want the code in it", err)
	}
	for _, body := range []string{
		`{"error": "5ecret"}`, `{"error": 0, "token": "5ecret"`, `5ecret`, `{"error": 5314159265}`, `{"5ecret": 1}`,
	} {
		if _, err := parseCode([]byte(body)); err == nil || strings.Contains(err.Error(), "5") {
			t.Errorf("%s: got %v, want an error that shows none of it", body, err)
		}
	}
}

func BenchmarkParseCode(b *testing.B) {
	body := []byte(`{"error": 0}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parseCode(body); err != nil {
			b.Fatal(err)
		}
	}
}
