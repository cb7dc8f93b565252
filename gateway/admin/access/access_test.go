package access_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/backends/setting"
	"usher/cmd/usher/config"
	"usher/gateway/admin/access"
)

const (
	adminToken = "the token of admin"
	readToken  = "the token of grafana"
	writeToken = "the token of support"
)

func tokens() []access.Token {
	return []access.Token{
		{Name: "grafana", Token: readToken, Role: access.Read}, {Name: "support", Token: writeToken, Role: access.Write},
	}
}

func TestAuthenticator_FromBearer(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		authorization string
		want          access.Principal
	}{
		"admin.token":               {"Bearer " + adminToken, access.Principal{Name: "admin", Role: access.Write}},
		"the first of the others":   {"Bearer " + readToken, access.Principal{Name: "grafana", Role: access.Read}},
		"the last of the others":    {"Bearer " + writeToken, access.Principal{Name: "support", Role: access.Write}},
		"a scheme in small letters": {"bearer " + readToken, access.Principal{Name: "grafana", Role: access.Read}},
		"a longer scheme":           {"Bearers " + readToken, access.Principal{}},
		"nothing":                   {"", access.Principal{}},
		"an empty token":            {"Bearer ", access.Principal{}},
		"the beginning of a token":  {"Bearer " + readToken[:len(readToken)-1], access.Principal{}},
		"more than a token":         {"Bearer " + readToken + "x", access.Principal{}},
		"another last character":    {"Bearer " + readToken[:len(readToken)-1] + "x", access.Principal{}},
		"a token without a scheme":  {readToken, access.Principal{}},
		"another scheme":            {"Basic " + readToken, access.Principal{}},
		"two tokens":                {"Bearer " + readToken + " " + writeToken, access.Principal{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/?token="+strings.ReplaceAll(writeToken, " ", "+"), nil)
			r.Header.Set("Authorization", test.authorization)
			got, isKnown := access.NewAuthenticator(adminToken, tokens()).FromBearer(r)
			if got != test.want || isKnown != (test.want.Name != "") {
				t.Errorf("got %+v, %t, want %+v", got, isKnown, test.want)
			}
		})
	}
}

func TestAuthenticator_EmptyToken_NobodysToken(t *testing.T) {
	t.Parallel()
	a := access.NewAuthenticator("", []access.Token{{Name: "x", Role: access.Write}})
	if p, isKnown := a.FromToken(""); isKnown {
		t.Errorf("got %+v", p)
	}
}

func TestPrincipal_Check(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		role, needed access.Role
		want         string
	}{
		{access.Read, access.Read, ""},
		{access.Write, access.Read, ""},
		{access.Write, access.Write, ""},
		{access.Read, access.Write, `token "x" has the role read; kick needs the role write`},
		{"", access.Read, `token "x" has the role ; kick needs the role read`},
	} {
		got := ""
		if err := (access.Principal{Name: "x", Role: test.role}).Check("kick", test.needed); err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%q for %q: got %q, want %q", test.role, test.needed, got, test.want)
		}
	}
}

func TestFromContext(t *testing.T) {
	t.Parallel()
	if p, isKnown := access.FromContext(t.Context()); isKnown || p.Role.Allows(access.Read) {
		t.Errorf("nobody is %+v", p)
	}
	want := access.Principal{Name: "x", Role: access.Read}
	if p, isKnown := access.FromContext(access.WithPrincipal(t.Context(), want)); !isKnown || p != want {
		t.Errorf("got %+v, %t", p, isKnown)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	token := func(name, text string) access.Token {
		return access.Token{Name: name, Token: setting.Secret(text), Role: access.Read}
	}
	for name, test := range map[string]struct {
		admin  setting.Secret
		others []access.Token
		want   string
	}{
		"admin.token alone":     {adminToken, nil, ""},
		"others alone":          {"", tokens(), ""},
		"all":                   {adminToken, tokens(), ""},
		"the longest name":      {adminToken, []access.Token{token(strings.Repeat("a", 32), readToken)}, ""},
		"the shortest token":    {"123456789012", nil, ""},
		"none":                  {"", nil, "token: has 0 characters; want at least 12"},
		"a short admin.token":   {"12345678901", tokens(), "token: has 11 characters; want at least 12"},
		"a short one of others": {adminToken, []access.Token{token("a", "12345678901")}, "tokens[0].token: has 11 characters; want at least 12"},
		"a missing one":         {adminToken, []access.Token{token("a", "")}, "tokens[0].token: has 0 characters; want at least 12"},
		"a space at the end": {
			adminToken,
			[]access.Token{token("a", "123456789012 ")},
			"tokens[0].token: begins or ends with a space, which no header field keeps",
		},
		"admin.token again": {
			adminToken,
			[]access.Token{token("a", adminToken)},
			"tokens[0].token: is the token of admin.token; want another, or nobody knows who used it",
		},
		"two equal ones": {
			"",
			[]access.Token{token("a", readToken), token("b", readToken)},
			"tokens[1].token: is the token of admin.tokens[0].token; want another, or nobody knows who used it",
		},
		"two names": {
			"",
			[]access.Token{token("a", readToken), token("a", writeToken)},
			`tokens[1].name: "a" is the name of another token, or of admin.token; want another`,
		},
		"the name of admin.token": {
			"",
			[]access.Token{token("admin", readToken)},
			`tokens[0].name: "admin" is the name of another token, or of admin.token; want another`,
		},
		"no name": {
			"",
			[]access.Token{token("", readToken)},
			`tokens[0].name: "": want 1 to 32 letters, digits, '.', '_' and '-', a letter or digit first`,
		},
		"a long name": {
			"",
			[]access.Token{token(strings.Repeat("a", 33), readToken)},
			`tokens[0].name: "` + strings.Repeat("a", 33) + `": want 1 to 32 letters, digits, '.', '_' and '-', a letter or digit first`,
		},
		"a name of two words": {
			"",
			[]access.Token{token("a b", readToken)},
			`tokens[0].name: "a b": want 1 to 32 letters, digits, '.', '_' and '-', a letter or digit first`,
		},
		"no role": {"", []access.Token{{Name: "a", Token: readToken}}, "tokens[0].role: missing; want read or write"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := access.Validate(test.admin, test.others)
			if got := fmt.Sprint(errors.Join(err)); err == nil && test.want != "" || err != nil && got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// tokenSettings is a settings file with tokens.
type tokenSettings struct {
	Tokens []access.Token `yaml:"tokens"`
}

// Validate reports every invalid token.
func (s tokenSettings) Validate() error { return access.Validate("", s.Tokens) }

func TestToken_Settings(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ text, want string }{
		"valid":           {`tokens: [ { name: a, token: "` + readToken + `", role: read } ]`, ""},
		"an unknown role": {`tokens: [ { name: a, token: "` + readToken + `", role: root } ]`, `f:1:59: tokens[0].role: unknown role "root"; want read or write`},
		"an unknown key":  {`tokens: [ { name: a, token: "` + readToken + `", rule: read } ]`, `f:1:53: tokens[0].rule: unknown key; did you mean "role"? allowed: name, role, token`},
		"a short token":   {`tokens: [ { name: a, token: short, role: read } ]`, `f:1:22: tokens[0].token: has 5 characters; want at least 12`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := config.Parse("f", []byte(test.text), &tokenSettings{}, config.Environment{})
			got := ""
			if err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
}
