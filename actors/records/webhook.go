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
	"log/slog"
	"math/rand/v2"
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

// secretPrefix marks a secret in base64, the only form that receivers' libraries take.
const secretPrefix = "whsec_"

// secretAdvice says how to make a secret.
const secretAdvice = `create one with echo "whsec_$(openssl rand -base64 32)"`

// signingKey returns the key of a secret.
func signingKey(s setting.Secret) ([]byte, error) {
	text := s.Reveal()
	if text == "" {
		return nil, errors.New("missing; the receiver cannot tell who sends; " + secretAdvice)
	}
	key := []byte(text)
	if encoded, isEncoded := strings.CutPrefix(text, secretPrefix); isEncoded {
		var err error
		if key, err = base64.StdEncoding.DecodeString(encoded); err != nil {
			return nil, errors.New("what follows whsec_ is not base64")
		}
	}
	if n := len(key); n < setting.MinSecretSize {
		return nil, fmt.Errorf("has %d bytes; want at least %d; %s", n, setting.MinSecretSize, secretAdvice)
	}
	return key, nil
}

func newWebhook(c WebhookConfig) (*webhook, error) {
	key, err := signingKey(c.Secret)
	if err != nil {
		return nil, err
	}
	// A request that times out does not end its connection of HTTP/2, over which the next ones would be lost too.
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &webhook{url: c.URL, key: key, client: &http.Client{
		Timeout: c.Timeout,
		// A redirect could lead to a server that nobody configured.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 1, Protocols: protocols},
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

// errSpool means that the spool failed, and not the receiver.
var errSpool = errors.New("spool")

// runWebhook sends what waits until ctx ends.
func (d *Delivery) runWebhook(ctx context.Context) {
	failures, failure := 0, error(nil)
	for ctx.Err() == nil {
		d.dropExpired(time.Now())
		sent, err := d.deliver(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			d.noteFailure(failure, err)
			await(ctx, d.pauseAfter(failures))
			failures, failure = failures+1, err
		case sent == 0:
			await(ctx, d.arrived)
		default:
			if failures > 0 {
				d.log.Info("records are delivered again", slog.Int64("waiting", d.Stats().Waiting))
			}
			failures, failure = 0, nil
			d.noteRoom()
		}
	}
}

// noteFailure counts a failed request, and logs what fails unless it was that before.
func (d *Delivery) noteFailure(before, err error) {
	isSpool := errors.Is(err, errSpool)
	if !isSpool {
		d.failed.Add(1)
	}
	switch {
	case before != nil && errors.Is(before, errSpool) == isSpool:
	case isSpool:
		d.log.Error("records are not removed from the spool, they wait or are sent again; check records.spool.path", slog.Any("error", err))
	default:
		d.log.Warn("webhook failed, records wait; check records.webhook.url", slog.Int64("waiting", d.Stats().Waiting), slog.Any("error", err))
	}
}

// noteRoom has the next loss of records logged once half of the spool is free. A receiver that is too slow would have each of its
// requests followed by a warning.
func (d *Delivery) noteRoom() {
	if d.isDropping.Load() && d.Stats().WaitingBytes <= d.spool.max/2 {
		d.isDropping.Store(false)
	}
}

// pauseAfter returns a channel that tells when to try again after so many failures and one. Its jitter keeps nodes apart.
func (d *Delivery) pauseAfter(failures int) <-chan time.Time {
	pause := min(longestPause, d.pause<<min(failures, 20))
	return time.After(pause/2 + rand.N(pause/2)) //nolint:gosec // jitter, not a secret
}

// deliver sends the oldest records, and returns how many. What is among them and cannot be read is dropped. Records count as delivered
// once they are removed, since until then they are sent again.
func (d *Delivery) deliver(ctx context.Context) (sent int, err error) {
	batch, err := d.spool.hold(maxBatch)
	defer d.spool.release()
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errSpool, err)
	}
	if batch.last == nil {
		return 0, nil
	}
	if sent = len(batch.records); sent > 0 {
		if err := d.hook.send(ctx, batch.records, time.Now()); err != nil {
			return 0, err
		}
	}
	if err := d.spool.remove(batch.last); err != nil {
		return sent, fmt.Errorf("%w: %w", errSpool, err)
	}
	d.delivered.Add(uint64(sent))
	d.countUnreadable(batch.unreadable)
	return sent, nil
}
