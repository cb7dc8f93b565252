package access

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/http"
	"strings"

	"usher/backends/setting"
)

// Principal is who uses the API.
type Principal struct {
	// Name is the name of the token.
	Name string
	// Role is what they may do.
	Role Role
}

// Check returns why the principal may not do what needs a role, or nil.
func (p Principal) Check(action string, needed Role) error {
	if p.Role.Allows(needed) {
		return nil
	}
	return fmt.Errorf("token %q has the role %s; %s needs the role %s", p.Name, p.Role, action, needed)
}

type contextKey struct{}

// WithPrincipal returns a context of a request by the principal.
func WithPrincipal(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, contextKey{}, p)
}

// FromContext returns who makes the request of a context, if that is known.
func FromContext(ctx context.Context) (p Principal, isKnown bool) {
	p, isKnown = ctx.Value(contextKey{}).(Principal)
	return p, isKnown
}

// digest is the hash of a token. All have one length, so that a comparison does not show a token's.
type digest [sha256.Size]byte

// Authenticator knows the tokens of a listener. It is safe for concurrent use.
type Authenticator struct {
	digests    []digest
	principals []Principal
}

// NewAuthenticator returns an Authenticator of admin.token and the other tokens. An empty token is none.
func NewAuthenticator(admin setting.Secret, others []Token) *Authenticator {
	a := &Authenticator{}
	for _, t := range append([]Token{{AdminName, admin, Write}}, others...) {
		if t.Token != "" {
			a.digests = append(a.digests, sha256.Sum256([]byte(t.Token.Reveal())))
			a.principals = append(a.principals, Principal{t.Name, t.Role})
		}
	}
	return a
}

// FromToken returns whose token the text is. It compares all tokens in constant time.
func (a *Authenticator) FromToken(text string) (p Principal, isKnown bool) {
	given, at := sha256.Sum256([]byte(text)), -1
	for i := range a.digests {
		at = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(given[:], a.digests[i][:]), i, at)
	}
	if at < 0 {
		return Principal{}, false
	}
	return a.principals[at], true
}

// Bearer returns the token in the request's header field Authorization. Another scheme there is a proxy's business.
func Bearer(r *http.Request) (text string, isBearer bool) {
	scheme, text, hasToken := strings.Cut(r.Header.Get("Authorization"), " ")
	return text, hasToken && strings.EqualFold(scheme, "Bearer")
}

// FromBearer returns whose token the request presents in its header field Authorization.
func (a *Authenticator) FromBearer(r *http.Request) (p Principal, isKnown bool) {
	text, isBearer := Bearer(r)
	if !isBearer {
		return Principal{}, false
	}
	return a.FromToken(text)
}
