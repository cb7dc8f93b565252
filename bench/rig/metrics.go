package rig

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// sample is one line of Prometheus's text format.
type sample struct {
	name   string
	labels map[string]string
	value  float64
}

var errMetric = errors.New("no line of Prometheus's text format")

// parseMetrics reads the samples that begin with a prefix.
func parseMetrics(text []byte, prefix string) ([]sample, error) {
	var all []sample
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		line := lines.Text()
		if !strings.HasPrefix(line, prefix) {
			continue
		}
		s, err := parseMetric(line)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, lines.Err()
}

func parseMetric(line string) (s sample, err error) {
	bad := fmt.Errorf("%w: %.100q", errMetric, line)
	end := strings.IndexAny(line, "{ ")
	if end <= 0 {
		return s, bad
	}
	s.name, s.labels = line[:end], map[string]string{}
	rest := line[end:]
	if rest[0] == '{' {
		if rest, err = s.parseLabels(rest[1:]); err != nil {
			return s, bad
		}
	}
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return s, bad
	}
	if s.value, err = strconv.ParseFloat(fields[0], 64); err != nil {
		return s, bad
	}
	return s, nil
}

// parseLabels reads labels until their closing bracket, and returns what follows.
func (s *sample) parseLabels(text string) (rest string, err error) {
	for {
		text = strings.TrimLeft(text, ", ")
		if after, isEnd := strings.CutPrefix(text, "}"); isEnd {
			return after, nil
		}
		name, after, found := strings.Cut(text, "=")
		if !found {
			return "", errMetric
		}
		quoted, err := strconv.QuotedPrefix(after)
		if err != nil || quoted[0] != '"' {
			return "", errMetric
		}
		if s.labels[name], err = strconv.Unquote(quoted); err != nil {
			return "", err
		}
		text = after[len(quoted):]
	}
}

// errNoMetrics is wrapped by readMetrics' error for a page that no node of Usher wrote.
var errNoMetrics = errors.New("no metrics of Usher")

// readMetrics reads a node's metrics.
func readMetrics(ctx context.Context, url, token string) ([]sample, error) {
	const prefix = "usher_"
	text, status, err := get(ctx, url, token)
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("%w: status %d", errNoMetrics, status)
	}
	samples, err := parseMetrics(text, prefix)
	if err == nil && len(samples) == 0 {
		err = fmt.Errorf("%w: no line of it begins with %s", errNoMetrics, prefix)
	}
	return samples, err
}

// get fetches a URL over a connection of its own, with a bearer token unless it is empty.
func get(ctx context.Context, url, token string) (body []byte, status int, err error) {
	const largest = 16 << 20
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, 0, err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(request)
	if err != nil {
		return nil, 0, err
	}
	defer answer.Body.Close()
	body, err = io.ReadAll(io.LimitReader(answer.Body, largest))
	return body, answer.StatusCode, err
}
