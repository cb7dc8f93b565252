package smarty

import (
	"errors"
	"strings"
	"testing"
)

func TestCodesThatAreRead(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		body string
		want code
	}{
		"alone":                         {`{"error":0}`, valid},
		"with space around":             {" {\n\t\"error\" : 1 }\r\n", expired},
		"in quotes":                     {`{"error": "2"}`, otherContent},
		"a zero in quotes":              {`{"error": "0"}`, valid},
		"among others":                  {`{"a": {"error": 0}, "error": 3, "b": [1, {"error": 0}]}`, otherAddress},
		"another in capitals":           {`{"ERROR": 0, "error": 1, "Error": 0}`, expired},
		"its name spelled with escapes": {`{"\u0065rror": 1}`, expired},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, err := parse([]byte(tt.body)); err != nil || got != tt.want {
				t.Errorf("got %s and error %v, want %s", got, err, tt.want)
			}
		})
	}
}

func TestCodesThatAreNone(t *testing.T) {
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
		"two":                   {`{"error": 0, "error": 0}`, errTwice},
		"two that differ":       {`{"error": 1, "error": 0}`, errTwice},
		"two, one of them null": {`{"error": null, "error": 0}`, errTwice},
		"true":                  {`{"error": true}`, errNoMatch},
		"false":                 {`{"error": false}`, errNoMatch},
		"a null":                {`{"error": null}`, errNoMatch},
		"an object":             {`{"error": {}}`, errNoMatch},
		"a list of one":         {`{"error": [0]}`, errNoMatch},
		"words":                 {`{"error": "no token"}`, errNoMatch},
		"an empty text":         {`{"error": ""}`, errNoMatch},
		"null in quotes":        {`{"error": "null"}`, errNoMatch},
		"a number quoted twice": {`{"error": "\"0\""}`, errNoMatch},
		"another number":        {`{"error": 4}`, errUnknown},
		"a negative one":        {`{"error": -1}`, errUnknown},
		"a negative zero":       {`{"error": -0}`, errUnknown},
		"a fraction":            {`{"error": 0.0}`, errUnknown},
		"a power":               {`{"error": 0e1}`, errUnknown},
		"256, as bytes count":   {`{"error": 256}`, errUnknown},
		"a long one":            {`{"error": 18446744073709551616}`, errUnknown},
		"a long one in quotes":  {`{"error": "18446744073709551616"}`, errUnknown},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, err := parse([]byte(tt.body)); !errors.Is(err, tt.want) {
				t.Errorf("got %s and error %v, want %v", got, err, tt.want)
			}
		})
	}
}

func TestAnErrorShowsACodeAndNothingElse(t *testing.T) {
	t.Parallel()
	_, err := parse([]byte(`{"error": 1001}`))
	if err == nil || err.Error() != "`error` is a number that means nothing known: 1001" {
		t.Errorf("got %v, want the code in it", err)
	}
	for _, body := range []string{
		`{"error": "5ecret"}`, `{"error": 0, "token": "5ecret"`, `5ecret`, `{"error": 5314159265}`, `{"5ecret": 1}`,
	} {
		if _, err := parse([]byte(body)); err == nil || strings.Contains(err.Error(), "5") {
			t.Errorf("%s: got %v, want an error that shows none of it", body, err)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	body := []byte(`{"error": 0}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parse(body); err != nil {
			b.Fatal(err)
		}
	}
}
