package jwt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/MicahParks/jwkset"

	"usher/backends"
	"usher/backends/httpbackend"
)

// Bounds of a JWK set: its size in bytes, and its keys. Issuers have a handful.
const (
	maxSetSize = 1 << 20
	maxSetKeys = 64
)

// newClient asks for the JWK set. It follows no redirects, and sorts what goes wrong as it does for any backend.
func newClient(name string, cfg Config) (*httpbackend.Client, error) {
	asking := httpbackend.DefaultConfig()
	asking.URL, asking.MaxBodySize = cfg.JWKSURL, maxSetSize
	asking.DialTimeout, asking.TLSTimeout = cfg.JWKSTimeout, cfg.JWKSTimeout
	return httpbackend.NewClient(name, asking, httpbackend.Deps{Connections: 1})
}

// load fetches the JWK set. Its error is a *backends.Failure, or wraps context.Canceled.
func load(ctx context.Context, name string, client *httpbackend.Client, algorithms []string) (keySet, error) {
	answer, err := client.Do(ctx, httpbackend.Call{Header: http.Header{"Accept": {"application/json"}}, NeedsBody: true})
	if err != nil {
		return nil, explained(err)
	}
	if answer.Status != http.StatusOK {
		return nil, &backends.Failure{Kind: backends.FailureStatus, Backend: name, Status: answer.Status}
	}
	set, err := parseSet(answer.Body, algorithms)
	if err != nil {
		return nil, client.Malformed(fmt.Errorf("fetch jwks_url: %w", err))
	}
	return set, nil
}

// explained names the setting that a failure belongs to.
func explained(err error) error {
	f := backends.AsFailure(err)
	if f == nil {
		return err
	}
	told := *f
	if told.Err = fmt.Errorf("fetch jwks_url: %w", f.Err); f.Kind == backends.FailureMalformed {
		told.Err = fmt.Errorf("fetch jwks_url: the answer is not HTTP, or larger than %d bytes", maxSetSize)
	}
	return &told
}

var (
	errNoSet       = errors.New("the answer is no JWK set")
	errManyKeys    = fmt.Errorf("the JWK set has more than %d keys", maxSetKeys)
	errNoUsableKey = errors.New("the JWK set has no usable key for algorithms")
)

// parseSet reads a JWK set. A key that is not for verifying, or not for one of the algorithms, or broken, is left out
// and spoils no other; a set without any other is an error. Errors show nothing of the answer.
func parseSet(body []byte, algorithms []string) (keySet, error) {
	var published struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &published); err != nil || published.Keys == nil {
		return nil, errNoSet
	}
	if len(published.Keys) > maxSetKeys {
		return nil, errManyKeys
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

// parseKey reads one key. Private parts are not taken, and so neither are symmetric keys. Certificates beside the key
// are not looked at: it is the address that vouches for it.
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
	if k.algorithm == "Ed25519" { // RFC 9864's name for it
		k.algorithm = "EdDSA"
	}
	return k, k.check() == nil
}
