package main

import (
	"fmt"
	"strings"
	"testing"

	"usher/cmd/usher/config"
)

// TestSettings_ValidateViewerFields: a backend gets of a viewer's request what the route passes on, and nothing else.
func TestSettings_ValidateViewerFields(t *testing.T) {
	t.Parallel()
	const (
		bySecret   = "algorithms: [ HS256 ], secret: 7f3a9c1e5b8d20467f3a9c1e5b8d2046"
		byHeader   = "portal: { kind: jwt, parameter: '', header: X-Token, " + bySecret + " }"
		byOwn      = "portal: { kind: jwt, parameter: '', header: X-Session-Token, " + bySecret + " }"
		byEither   = "portal: { kind: jwt, header: X-Token, " + bySecret + " }"
		byAgent    = "portal: { kind: jwt, header: User-Agent, " + bySecret + " }"
		byTicket   = "portal: { kind: jwt, parameter: ticket, " + bySecret + " }"
		byKey      = "portal: { kind: jwt, parameter: key, " + bySecret + " }"
		accounts   = "portal: { kind: users, file: /nowhere.yaml }"
		withRealm  = "portal: { kind: users, file: /nowhere.yaml, realm: TV }"
		secure     = "portal: { kind: securetoken, key: 7f3a9c1e5b8d2046 }"
		secureUser = "portal: { kind: securetoken, key: 7f3a9c1e5b8d2046, formula: flussonic, user_parameter: u, salt_length: 32 }"
		link       = "portal: { kind: signedlink, secret: 7f3a9c1e5b8d2046 }"
		stalker    = `portal: { kind: ministra, address: "http://127.0.0.1:9/stalker_portal" }`
		ownScript  = `portal: { kind: ministra, address: "http://127.0.0.1:9/own.php" }`
		smart      = `portal: { kind: smarty, address: "http://127.0.0.1:9/" }`
		numbered   = "portal: { kind: signedlink, secret: 7f3a9c1e5b8d2046, expires_parameter: _t }"
		tokens     = "portal: { kind: rules, rules: [ { tokens: [ a ], action: deny } ], default: allow }"
		flussonic  = `portal: { kind: flussonic, address: "http://127.0.0.1:9/" }`
		noAuto     = `portal: { kind: flussonic, address: "http://127.0.0.1:9/", auto_token: false }`
		signs      = `portal: { kind: httprequest, address: "http://127.0.0.1:9/", ` + "signature: { keys: [ { id: a, secret: 7f3a9c1e5b8d2046 } ], signed_headers: [ X-Session-ID, User-Agent, x-device ] } }"
		inside     = "\n  others: { kind: any, backends: [ portal ] }"
		beside     = "\n  others: { kind: iprules, rules: [ allow all ] }"

		play    = `{ path: "/play/{channel}/*", origin: stage, backend: portal`
		others  = `{ path: "/play/{channel}/*", origin: stage, backend: others`
		asks    = "{ path: /auth, backend: portal, edge: { dialect: astra, networks: [ 192.0.2.1/32 ] }"
		publish = "{ path: /auth, backend: others, edge: { dialect: flussonic, networks: [ 192.0.2.1/32 ], publish_backend: portal }"

		nobody    = `routes[0].backend: "portal" allows nobody here, as the route passes no credentials on to it; want `
		notPassed = " has no effect, as no route that uses it passes "
		reserved  = `routes[0].credential_headers[1]: "X-Session-Token" reaches no backend of the route`
	)
	for name, test := range map[string]struct{ backends, route, says string }{
		"a token in a header":             {byHeader, play, nobody + "X-Token in credential_headers, as backends.portal.header says"},
		"a token in a header that passes": {byHeader, play + ", credential_headers: [ x-token ]", ""},
		"a token in a header or a parameter": {
			byEither, play, "backends.portal.header:" + notPassed + "X-Token on to it, not routes[0]; want X-Token in credential_headers",
		},
		"a token in a header or a parameter, neither of which passes": {
			byEither, play + ", credentials: [ key ]",
			nobody + "token in credentials, as backends.portal.parameter says, or X-Token in credential_headers, as backends.portal.header says",
		},
		"a token in the path":                   {byKey, `{ path: "/{key}/{channel}/*", credentials: [ none ], origin: stage, backend: portal`, ""},
		"a token in a parameter":                {byKey, play, ""},
		"a token in a parameter that is listed": {byKey, play + ", credentials: [ key ]", ""},
		"a token in a parameter that is not":    {byKey, play + ", credentials: [ token ]", nobody + "key in credentials, as"},
		"a token in a parameter that is left":   {byKey, play + ", ignore_query: [ key ]", nobody + "key in credentials, as"},
		"a token in the ticket's parameter":     {byTicket, play, nobody + "ticket in credentials, as"},
		"a member's token in a header": {
			byHeader + inside, others, "backends.portal: allows nobody, as no route that uses it passes credentials on to it, not routes[0]; want X-Token in",
		},
		"a member's token in a header that passes":           {byHeader + inside, others + ", credential_headers: [ X-Token ]", ""},
		"a member's token in a header that one route passes": {byHeader + inside, others + " }, " + `{ path: "/b/{channel}/*", origin: stage, backend: portal, credential_headers: [ X-Token ]`, ""},
		"a member's token in a header that no route passes": {
			byEither + inside, others + " }, " + `{ path: "/b/{channel}/*", origin: stage, backend: portal`,
			"backends.portal.header:" + notPassed + "X-Token on to it, not routes[0], routes[1]; want",
		},
		"a backend of no route":               {byHeader + beside, others, ""},
		"a realm":                             {withRealm, play, "backends.portal.realm:" + notPassed + "Authorization on to it, not routes[0]; want Authorization in credential_headers"},
		"a realm whose header passes":         {withRealm, play + ", credential_headers: [ authorization ]", ""},
		"accounts by a header alone":          {accounts, play + ", credentials: [ key ], credential_headers: [ Authorization ]", ""},
		"accounts by one of their parameters": {accounts, play + ", credentials: [ token ]", ""},
		"accounts by a parameter that is not": {
			accounts, play + ", credentials: [ key ]", nobody + "Authorization in credential_headers, as backends.portal.kind says, or auth in credentials",
		},
		"accounts by a user without a password": {
			accounts, play + ", credentials: [ user ]",
			", or user in credentials, as backends.portal.user_parameter says, and password in credentials, as backends.portal.password_parameter says",
		},
		"accounts by a user and a password":            {accounts, play + ", credentials: [ user, password ]", ""},
		"accounts at an edge without header fields":    {accounts, asks + ", credentials: [ key ]", nobody + "auth in credentials, as"},
		"a realm at an edge without header fields":     {withRealm, asks, notPassed + "Authorization on to it, not routes[0]; want no realm, as these edges pass no header fields on"},
		"a token in a header at an edge without them":  {byHeader, asks, nobody + "another backend, as this edge passes no header fields on"},
		"a token in either at an edge without headers": {byEither, asks, notPassed + "X-Token on to it, not routes[0]; want no header, as these edges pass"},
		"a token in a header that Usher sets":          {byAgent, play, `backends.portal.header: "User-Agent" never reaches a backend as the viewer sent it; want a field that`},
		"a secure token that does not pass":            {secure, play + ", credentials: [ key ]", nobody + "token in credentials, as"},
		"a secure token's user who does not pass":      {secureUser, play + ", credentials: [ token ]", "backends.portal.user_parameter:" + notPassed + "u on"},
		"a signed link whose end does not pass": {
			link, play + ", credentials: [ st ]",
			nobody + "st in credentials, as backends.portal.md5_parameter says, and e in credentials, as backends.portal.expires_parameter says",
		},
		"a signed link whose end defeats caches": {numbered, play, nobody + "st in credentials, as"},
		"a signed link whose end is listed":      {numbered, play + ", credentials: [ st, _t ]", ""},
		"a signed link whose end is required":    {numbered, play + ", required: [ _t ]", ""},
		"a signed link whose end is in the path": {numbered, `{ path: "/{_t}/{channel}/*", origin: stage, backend: portal`, ""},
		"a portal's token that does not pass":    {stalker, play + ", credentials: [ key ]", nobody + "token in credentials, as backends.portal.kind says"},
		"a portal's token":                       {stalker, play + ", credentials: [ token ]", ""},
		"what a portal's own script reads":       {ownScript, play + ", credentials: [ key ]", ""},
		"Smarty's token that does not pass":      {smart, play + ", credentials: [ key ]", nobody + "token in credentials, as backends.portal.kind says"},
		"a signed link in capitals":              {link, play + ", credentials: [ ST, E ]", ""},
		"a signed link in capitals in the path":  {link, `{ path: "/{ST}/{E}/{channel}/*", credentials: [ none ], origin: stage, backend: portal`, ""},
		"a signed link in capitals that is left": {link, play + ", credentials: [ ST, E ], ignore_query: [ ST, E ]", nobody + "st in credentials, as"},
		"a token in capitals":                    {byKey, play + ", credentials: [ KEY ]", nobody + "key in credentials, as"},
		"a rule's token that does not pass":      {tokens, play + ", credentials: [ key ]", "backends.portal.rules[0].tokens:" + notPassed + "token on"},
		"a rule's token":                         {tokens, play, ""},
		"Flussonic's token that does not pass":   {noAuto, play + ", credentials: [ key ]", nobody + "token in credentials, as backends.portal.auto_token says"},
		"a token that is made for each viewer":   {flussonic, play + ", credentials: [ key ]", ""},
		"a signed header of a viewer":            {signs, play, ""},
		"a signed header at an edge that passes none": {
			signs, `{ path: /auth, backend: portal, edge: { dialect: astra, networks: [ 192.0.2.1/32 ] }`, "",
		},
		"who may send a stream, by what passes":    {byKey + beside, publish, ""},
		"who may send a stream, by what does not":  {byKey + beside, publish + ", credentials: [ token ]", `routes[0].edge.publish_backend: "portal" allows nobody here`},
		"a token in a header like Usher's own":     {byOwn, play + ", credential_headers: [ x-session-token ]", ""},
		"a member's token in such a header":        {byOwn + inside, others + ", credential_headers: [ X-Session-Token ]", ""},
		"such a header that nobody reads":          {byEither, play + ", credential_headers: [ X-Token, X-Session-Token ]", reserved},
		"such a header before a middleware":        {flussonic, play + ", credential_headers: [ A, X-Session-Token ]", reserved},
		"a token that is the backend's of another": {byKey + beside, others + ", credentials: [ token ]", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := strings.Replace(checkSettings("  "+test.backends+"\n"), play+" } ]", test.route+" } ]", 1)
			_, err := config.Parse("usher.yaml", []byte(text), defaultSettings(), config.Environment{})
			if (err == nil) != (test.says == "") || !strings.Contains(fmt.Sprint(err), test.says) {
				t.Errorf("got %v, want %q", err, test.says)
			}
		})
	}
}
