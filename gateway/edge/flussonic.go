package edge

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
)

var errMissing = errors.New("missing or not what it should be; set the edge up as in deploy/edges")

// decodeFlussonic decodes an auth_backend request: the query of a GET for a viewer who plays, or the same fields as JSON in
// a POST for one who publishes.
func decodeFlussonic(in *HTTPRequest, q *CheckRequest) error {
	q.Method, q.IsPublish = http.MethodGet, in.Method == http.MethodPost
	var get func(name string) string
	if q.IsPublish {
		fields, err := readJSON(in.Body)
		if err != nil {
			return err
		}
		get = func(name string) string { return fields[name] }
	} else {
		values, _ := url.ParseQuery(in.Query) // pairs that an odd User-Agent breaks are dropped, the rest is kept
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
	q.Path = "/" + (&url.URL{Path: q.Channel}).EscapedPath()
	q.Query, q.Token = get("qs"), get("token")
	q.UserAgent, q.Referer, q.Host = get("user_agent"), get("referer"), get("host")
	q.EdgeSession, q.Protocol, q.IsArchive = get("session_id"), get("proto"), get("dvr") == "true"
	return nil
}

// readJSON reads an object's texts and numbers. It drops fields of other types, none of which is needed.
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
