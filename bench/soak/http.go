package soak

import (
	"context"
	"io"
	"net/http"
	"time"

	"usher/bench/soak/netns"
)

// clientOf returns a client whose connections begin in a host. Each request has a connection of its own.
func clientOf(h *netns.Host) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: h.Dial, DisableKeepAlives: true}, CheckRedirect: noRedirect}
}

// playerOf returns a client that keeps its connections, as players do.
func playerOf(h *netns.Host) *http.Client {
	const idle = 20 * time.Second
	return &http.Client{
		Transport:     &http.Transport{DialContext: h.Dial, MaxIdleConnsPerHost: 2, IdleConnTimeout: idle},
		CheckRedirect: noRedirect,
	}
}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// fetch fetches a URL with some header fields.
func fetch(ctx context.Context, client *http.Client, url string, header map[string]string) (status int, body []byte, err error) {
	return send(ctx, client, http.MethodGet, url, header, nil)
}

func send(ctx context.Context, client *http.Client, method, url string, header map[string]string, content io.Reader) (int, []byte, error) {
	const largest = 16 << 20
	request, err := http.NewRequestWithContext(ctx, method, url, content)
	if err != nil {
		return 0, nil, err
	}
	for name, value := range header {
		request.Header.Set(name, value)
	}
	answer, err := client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, largest))
	return answer.StatusCode, body, err
}
