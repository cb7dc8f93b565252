package records

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"usher/backends/setting"
)

// batch is the body of a request.
type batch struct {
	Version int               `json:"version"`
	Records []json.RawMessage `json:"records"`
}

// webhook sends batches to a receiver.
type webhook struct {
	url    string
	key    []byte
	client *http.Client
}

// secretPrefix marks a secret in base64.
const secretPrefix = "whsec_"

// signingKey returns the key of a secret.
func signingKey(s setting.Secret) ([]byte, error) {
	text := s.Reveal()
	if text == "" {
		return nil, errors.New("missing; the receiver cannot tell who sends; create one with openssl rand -hex 32")
	}
	if n := len(text); n < setting.MinSecretSize {
		return nil, fmt.Errorf("has %d bytes; want at least %d; create one with openssl rand -hex 32", n, setting.MinSecretSize)
	}
	encoded, isEncoded := strings.CutPrefix(text, secretPrefix)
	if !isEncoded {
		return []byte(text), nil
	}
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(key) == 0 {
		return nil, errors.New("what follows whsec_ is not base64")
	}
	return key, nil
}

func newWebhook(c WebhookConfig) (*webhook, error) {
	key, err := signingKey(c.Secret)
	if err != nil {
		return nil, err
	}
	return &webhook{url: c.URL, key: key, client: &http.Client{
		Timeout: c.Timeout,
		// A redirect could lead to a server that nobody configured.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 1},
	}}, nil
}

// sign returns the signature of a request: "v1," and the HMAC of id, timestamp and body.
func sign(key []byte, id, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, key)
	for _, part := range []string{id, ".", timestamp, "."} {
		_, _ = mac.Write([]byte(part))
	}
	_, _ = mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// send sends records. An error does not show the URL, which may hold a credential.
func (w *webhook) send(ctx context.Context, records [][]byte, now time.Time) error {
	b := batch{Version: formVersion}
	for _, r := range records {
		b.Records = append(b.Records, r)
	}
	body, err := json.Marshal(b)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	hash := sha256.Sum256(body)
	id := hex.EncodeToString(hash[:16])
	timestamp := strconv.FormatInt(now.Unix(), 10)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "usher")
	r.Header.Set("webhook-id", id)
	r.Header.Set("webhook-timestamp", timestamp)
	r.Header.Set("webhook-signature", sign(w.key, id, timestamp, body))
	resp, err := w.client.Do(r)
	if failed, ok := errors.AsType[*url.Error](err); ok {
		return failed.Err
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection is used again
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("status %d, want 2xx", resp.StatusCode)
	}
	return nil
}
