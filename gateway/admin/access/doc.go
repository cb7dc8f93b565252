// Package access says who may use the operator's API: a token has a name and a role, and a request that presents it has both
// as its [Principal].
//
//	Authorization: Bearer <token> ──► Authenticator.FromBearer ──► Principal{Name, Role} ──► WithPrincipal ──► handlers
//
// Invariants:
//   - A comparison takes as long for a token that is nearly right as for any other.
//   - Only the code of this listener gives a request its principal: a client cannot set a context's value.
//   - No error and no log contains a token.
//
// Decided: two roles. Read sees all that the API shows, write also kicks, bans and changes. More would be rules to get wrong,
// and a node has few operators.
//
// Refused: the token as a query parameter: URLs are logged and shared.
package access
