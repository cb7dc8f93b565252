package sessions

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"usher/gateway/admin/printable"
)

// maxAPIResponse bounds a response. A thousand sessions, the most in one list, take a megabyte at most.
const maxAPIResponse = 16 << 20

var errNotAccepted = errors.New("--token (or USHER_TOKEN): not accepted; want admin.token of the node, or one of its admin.tokens")

// get calls the API and prints the response, with show unless JSON is wanted.
func (f adminFlags) get(r Runtime, path string, query url.Values, into any, show func() error) error {
	return f.call(r, http.MethodGet, path, query, nil, into, show)
}

// send calls the API to change something.
func (f adminFlags) send(r Runtime, method, path string, body map[string]any, into any, show func() error) error {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return fmt.Errorf("BUG: %w", err)
		}
	}
	return f.call(r, method, path, nil, text, into, show)
}

func (f adminFlags) call(
	r Runtime, method, path string, query url.Values, body []byte, into any, show func() error,
) error {
	status, header, answer, err := f.exchange(r, method, path, query, body)
	if err != nil {
		return err
	}
	if err := f.refusal(r, path, status, answer); err != nil {
		return err
	}
	text := strings.TrimSpace(string(answer))
	if pending := header.Get("X-Usher-Pending"); pending != "" {
		if err := Printf(r.Err, "warning: %s\n", pending); err != nil {
			return err
		}
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("--admin=%s is not the admin listener of a node: %w", f.Admin, err)
	}
	if f.JSON {
		_, err := fmt.Fprintln(r.Out, text)
		return err
	}
	return show()
}

// isAbsence reports whether the text of a 404 is the API's and says that what the path names does not exist. Any other server may say 404.
func isAbsence(path, text string) bool {
	var begins []string
	switch kind, _, _ := strings.Cut(path, "/"); kind {
	case "sessions":
		begins = []string{"session ", "no live session "}
	case "bans":
		begins = []string{"ban ", "credentials_of: "}
	case "backends":
		begins = []string{"backend "}
	}
	return slices.ContainsFunc(begins, func(begin string) bool { return strings.HasPrefix(text, begin) })
}

// refusal returns the error that a response to a request for that path tells, or nil.
func (f adminFlags) refusal(r Runtime, path string, status int, answer []byte) error {
	text := printable.Text(strings.TrimSpace(string(answer)))
	switch status {
	case http.StatusOK, http.StatusAccepted:
		return nil
	case http.StatusNotFound:
		if !isAbsence(path, text) {
			return fmt.Errorf("--admin=%s is not the admin listener of a node: it answers 404: %s", f.Admin, text)
		}
		if _, err := fmt.Fprintln(r.Err, "usher:", text); err != nil {
			return err
		}
		return ErrNegative
	case http.StatusUnauthorized:
		return errNotAccepted
	case http.StatusTooManyRequests: // a known token is never slowed
		return fmt.Errorf("%w; after many wrong ones, wait a minute before you try another", errNotAccepted)
	case http.StatusForbidden:
		return fmt.Errorf("--token (or USHER_TOKEN): %s", text)
	case http.StatusConflict:
		var refused struct{ Error string }
		if err := json.Unmarshal(answer, &refused); err == nil && refused.Error != "" {
			return errors.New(printable.Text(refused.Error))
		}
	}
	return fmt.Errorf("--admin=%s answers %d: %s", f.Admin, status, text)
}

func (f adminFlags) exchange(
	r Runtime, method, path string, query url.Values, body []byte,
) (status int, header http.Header, answer []byte, err error) {
	if strings.Contains(path+"/", "//") { // as a variable of a script may be
		return 0, nil, nil, errors.New("an id or a name is empty; give it a value")
	}
	token := strings.TrimSpace(f.Token) // a file ends with a line break, and no node's token does
	if strings.ContainsFunc(token, unicode.IsControl) {
		return 0, nil, nil, errors.New("--token (or USHER_TOKEN): has a line break or another control character, which no header field keeps")
	}
	base, err := url.Parse(f.Admin)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
		return 0, nil, nil, fmt.Errorf("--admin=%s: want an address such as http://127.0.0.1:8081", f.Admin)
	}
	address := strings.TrimSuffix(base.String(), "/") + "/api/v1/" + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	ctx, cancel := withAPITimeout(r.Context)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return 0, nil, nil, fmt.Errorf("--admin=%s: %w", f.Admin, err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(request)
	if err != nil {
		if broken, ok := errors.AsType[*url.Error](err); ok {
			err = broken.Err // without the URL, which the message begins with
		}
		return 0, nil, nil, fmt.Errorf("--admin=%s: %w", f.Admin, err)
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, maxAPIResponse))
	if err != nil {
		return 0, nil, nil, fmt.Errorf("--admin=%s: %w", f.Admin, err)
	}
	return resp.StatusCode, resp.Header, answer, nil
}
