// Package peers starts the servers that an operator would run in Usher's place, each with a recipe, and on free ports.
//
// Entry points: [Names], [Find], which says what is missing, and [Start].
//
//	nginx-static       files, no auth: the ceiling
//	nginx-cache        proxy_cache, no auth
//	nginx-auth-each    auth_request, a call of the middleware for every request
//	nginx-auth         the yardstick: auth_request, the answer kept by token, channel and address; proxy_cache
//	nginx-failopen     the same, hardened by hand to admit viewers while the middleware does not answer
//	nginx-lua          the same with Lua and a shared dictionary
//	nginx-securelink   signed links, checked locally
//	varnish            a question to the middleware by restart; answers and media kept in memory
//	haproxy            a question from Lua, every time; media kept
//	caddy              forward_auth, every time; nothing kept
//
// The recipes are in the folder recipes, to be read and copied.
//
// Invariants:
//   - A peer serves when Start returns. It ends with Close, and when the harness dies.
//   - All configuration, caches and logs are in a folder that Close removes.
//   - A token that the middleware refuses is refused, and an allowed viewer gets the origin's bytes.
//
// Decided: nothing is installed. A peer that is not there is an error that names its Debian package.
//
// Refused: containers. They would put a network of their own between the load and the server.
package peers
