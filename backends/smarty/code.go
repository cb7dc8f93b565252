package smarty

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// code is the value of `error`.
type code uint8

// The documented codes.
const (
	codeValid code = iota
	codeExpired
	codeOtherContent
	codeOtherAddress
)

// String describes the code.
func (c code) String() string {
	return [...]string{
		"error 0: the token is valid",
		"error 1: the token has expired",
		"error 2: the token was made for other content",
		"error 3: the token was made for another address",
	}[c]
}

// maxShownDigits bounds an undocumented code that errors show: no token is that short.
const maxShownDigits = 4

var (
	errNotJSON       = errors.New("the response is not one JSON object")
	errNoCode        = errors.New("the response has no `error`")
	errDuplicateCode = errors.New("the response has more than one `error`")
	errNotNumber     = errors.New("`error` is not a number")
	errUnknownCode   = errors.New("`error` is an unknown number")
)

// parseCode parses a response's body. Its errors show nothing of it but a code of a few digits.
func parseCode(body []byte) (code, error) {
	value, err := errorField(body)
	if err != nil {
		return 0, err
	}
	text := string(value)
	if value[0] == '"' && json.Unmarshal(value, &text) != nil {
		return 0, errNotJSON
	}
	switch text {
	case "0":
		return codeValid, nil
	case "1":
		return codeExpired, nil
	case "2":
		return codeOtherContent, nil
	case "3":
		return codeOtherAddress, nil
	}
	var number json.Number
	if json.Unmarshal([]byte(text), &number) != nil || number == "" || text[0] == '"' {
		return 0, errNotNumber
	}
	if len(number) <= maxShownDigits {
		return 0, fmt.Errorf("%w: %s", errUnknownCode, number)
	}
	return 0, errUnknownCode
}

// errorField returns the value of `error` in a body that is exactly one JSON object. It reads key by key, because
// decoding into a struct would also accept "ERROR", and the last of two.
func errorField(body []byte) (json.RawMessage, error) {
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
			return nil, errDuplicateCode
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
