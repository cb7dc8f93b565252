package jwt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"

	"github.com/MicahParks/jwkset"

	"usher/backends"
	"usher/backends/httpbackend"
)

// Bounds of a JWK set: its size in bytes, and its number of keys. Issuers publish a handful.
const (
	maxSetSize = 1 << 20
	maxSetKeys = 64
)

// newClient makes the client of the JWK set. It follows no redirects.
func newClient(name string, cfg Config, log *slog.Logger) (*httpbackend.Client, error) {
	client := httpbackend.DefaultConfig()
	client.Address, client.MaxBodySize = cfg.JWKSURL, maxSetSize
	client.DialTimeout, client.TLSTimeout, client.TLS = cfg.JWKSTimeout, cfg.JWKSTimeout, cfg.TLS
	return httpbackend.NewClient(name, client, httpbackend.Deps{Connections: 1, Log: log})
}

// fetchKeys fetches the JWK set. Its error wraps context.Canceled, or is a *backends.Failure as of a server that does not answer: a
// fetch holds nothing of a viewer, so that an answer without keys is no less of an outage.
func fetchKeys(ctx context.Context, name string, client *httpbackend.Client, algorithms []string) (keySet, error) {
	answer, err := client.Do(ctx, httpbackend.Call{Header: http.Header{"Accept": {"application/json"}}, NeedsBody: true})
	if err != nil {
		return nil, withSetting(err)
	}
	if answer.Status != http.StatusOK {
		return nil, withoutKeys(name, fmt.Errorf("status %d", answer.Status))
	}
	set, err := parseSet(answer.Body, algorithms)
	if err != nil {
		return nil, withoutKeys(name, err)
	}
	return set, nil
}

// withoutKeys returns the failure of an answer that holds no keys.
func withoutKeys(name string, cause error) error {
	return &backends.Failure{Kind: backends.FailureTransport, Backend: name, Err: fmt.Errorf("fetch jwks_url: %w", cause)}
}

// withSetting adds the setting's name to a failure.
func withSetting(err error) error {
	f := backends.AsFailure(err)
	switch {
	case f == nil:
		return err
	case !f.IsTransport():
		return withoutKeys(f.Backend, fmt.Errorf("the response is not HTTP, or larger than %d bytes", maxSetSize))
	}
	named := *f
	named.Err = fmt.Errorf("fetch jwks_url: %w", f.Err)
	return &named
}

var (
	errNoSet       = errors.New("the response is not a JWK set")
	errTooManyKeys = fmt.Errorf("the JWK set has more than %d keys", maxSetKeys)
	errNoUsableKey = errors.New("the JWK set has no usable key for algorithms")
)

// parseSet parses a JWK set. It skips keys that are malformed, not for verification, or for none of the algorithms. A
// set without a usable key is an error. Errors show nothing of the response.
func parseSet(body []byte, algorithms []string) (keySet, error) {
	var published struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &published); err != nil || published.Keys == nil {
		return nil, errNoSet
	}
	if len(published.Keys) > maxSetKeys {
		return nil, errTooManyKeys
	}
	var set keySet
	for _, text := range published.Keys {
		if k, ok := parseKey(text); ok && slices.ContainsFunc(algorithms, k.verifies) {
			set = append(set, k)
		}
	}
	if len(set) == 0 {
		return nil, errNoUsableKey
	}
	return set, nil
}

// parseKey parses one key. It ignores private parts, and with them symmetric keys. It ignores certificates beside the
// key: the set's URL is what makes the key trusted.
func parseKey(text []byte) (key, bool) {
	var published jwkset.JWKMarshal
	if err := json.Unmarshal(text, &published); err != nil {
		return key{}, false
	}
	if published.USE != "" && published.USE != jwkset.UseSig ||
		len(published.KEYOPS) > 0 && !slices.Contains(published.KEYOPS, jwkset.KeyOpsVerify) {
		return key{}, false
	}
	published.X5C, published.X5T, published.X5TS256, published.X5U = nil, "", "", ""
	read, err := jwkset.NewJWKFromMarshal(published, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		return key{}, false
	}
	k := key{id: published.KID, algorithm: published.ALG.String(), value: read.Key()}
	if k.algorithm == "Ed25519" { // RFC 9864's name of EdDSA with that curve
		k.algorithm = "EdDSA"
	}
	return k, k.validate() == nil
}
