package edge

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
)

var errMissing = errors.New("missing or not what it should be; set the edge up as in deploy/edges")

// decodeFlussonic reads an auth_backend request: a GET's query where somebody plays, a POST's JSON of the same fields where
// somebody publishes.
func decodeFlussonic(in *HTTPRequest, q *CheckRequest) error {
	var get func(name string) string
	if in.Method == http.MethodPost {
		fields, err := readJSON(in.Body)
		if err != nil {
			return err
		}
		get, q.IsPublish = func(name string) string { return fields[name] }, true
	} else {
		values, _ := url.ParseQuery(in.Query) // what a viewer's odd User-Agent breaks is left out, the rest is there
		get = values.Get
	}
	q.Channel = get("name")
	if q.Channel == "" {
		return fmt.Errorf("name: %w", errMissing)
	}
	q.Address = parseAddress(get("ip"))
	if !q.Address.IsValid() {
		return fmt.Errorf("ip: %w", errMissing)
	}
	q.Method = "GET"
	q.Path = "/" + (&url.URL{Path: q.Channel}).EscapedPath()
	q.Query = flussonicQuery(get("qs"), get("token"))
	q.UserAgent, q.Referer, q.Host = get("user_agent"), get("referer"), get("host")
	q.EdgeSession = get("session_id")
	return nil
}

// flussonicQuery is the viewer's own query. Where he sent none, Flussonic may have made a token for him: then that is all
// there is to ask about.
func flussonicQuery(qs, token string) string {
	if qs == "" && token != "" {
		return "token=" + url.QueryEscape(token)
	}
	return qs
}

// readJSON reads an object's texts and numbers. Fields of other types, of which nothing is needed, are left out.
func readJSON(body []byte) (map[string]string, error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(body, &raw); err != nil {
		return nil, fmt.Errorf("the body, a JSON object: %w", errMissing)
	}
	fields := make(map[string]string, len(raw))
	for name, value := range raw {
		var text string
		var number json.Number
		switch {
		case json.Unmarshal(value, &text) == nil:
			fields[name] = text
		case json.Unmarshal(value, &number) == nil:
			fields[name] = number.String()
		}
	}
	return fields, nil
}
