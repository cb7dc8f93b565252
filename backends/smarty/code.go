package smarty

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// code is what `error` says.
type code uint8

// The codes, all that are documented.
const (
	valid code = iota
	expired
	otherContent
	otherAddress
)

// String is the code in words.
func (c code) String() string {
	return [...]string{
		"error 0: the token is valid",
		"error 1: the token has expired",
		"error 2: the token was made for other content",
		"error 3: the token was made for another address",
	}[c]
}

// longestShown is how long an undocumented code may be to be shown: no token is that short.
const longestShown = 4

var (
	errNotJSON = errors.New("the answer is not one JSON object")
	errNoCode  = errors.New("the answer has no `error`")
	errTwice   = errors.New("the answer has more than one `error`")
	errNoMatch = errors.New("`error` is not a number")
	errUnknown = errors.New("`error` is a number that means nothing known")
)

// parse reads an answer's body. Its errors show nothing of it but a code of a few digits.
func parse(body []byte) (code, error) {
	value, err := errorOf(body)
	if err != nil {
		return 0, err
	}
	text := string(value)
	if value[0] == '"' && json.Unmarshal(value, &text) != nil {
		return 0, errNotJSON
	}
	switch text {
	case "0":
		return valid, nil
	case "1":
		return expired, nil
	case "2":
		return otherContent, nil
	case "3":
		return otherAddress, nil
	}
	var number json.Number
	if json.Unmarshal([]byte(text), &number) != nil || number == "" || text[0] == '"' {
		return 0, errNoMatch
	}
	if len(number) <= longestShown {
		return 0, fmt.Errorf("%w: %s", errUnknown, number)
	}
	return 0, errUnknown
}

// errorOf is the value of the `error` of a body that is one JSON object and nothing else. It goes key by key, because
// decoding into a struct would take "ERROR" for it too, and the last of two.
func errorOf(body []byte) (json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil, errNotJSON
	}
	var found json.RawMessage
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, errNotJSON
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, errNotJSON
		}
		if key != "error" {
			continue
		}
		if found != nil {
			return nil, errTwice
		}
		found = value
	}
	if _, err := d.Token(); err != nil { // the closing brace
		return nil, errNotJSON
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errNotJSON
	}
	if found == nil {
		return nil, errNoCode
	}
	return found, nil
}
