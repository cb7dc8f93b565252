// Package config reads the gateway's settings from a strict YAML file and from the environment. It knows nothing of
// the settings themselves: every package owns its Config, package main joins them in one struct that already holds the
// defaults, and Parse writes over them what the operator gave.
//
//	file ─► tree (anchors, merges resolved; every key keeps its place) ─► struct ─► overrides ─► Validate ─► problems
//
// Invariants:
//   - All problems are reported at once, in file order, as "usher.yaml:12:5: routes[0].bakend: unknown key; …".
//   - No problem and no warning shows a secret; where a value that ${NAME} brought is refused, ${NAME} is shown.
//   - A setting is what the environment says, else the file, else the default that the struct held.
//
// Sections whose keys depend on a kind implement [Kinded] and keep the kind's own settings in an inline field:
//
//	type Backend struct {
//		Kind    string        `yaml:"kind"`
//		Timeout time.Duration `yaml:"timeout"`
//		Adapter any           `yaml:",inline"` // pointer to the settings of the kind, set by SetKind
//	}
//
// Both are decoded strictly from the one section; a key that both define is a mistake of ours and says "BUG".
//
// Texts: ${NAME} (unset or empty is an error) and ${NAME:-default} stand in any scalar, $$ is a dollar sign. A Secret
// may also be file:PATH. A variable's value is taken as it is, so that a secret may hold any character.
//
// Overrides: USHER_ and the path's keys in upper case, joined by '_', every other character an '_'. Where two paths
// make one name, the longer key wins: USHER_A_B_C means a_b.c before a.b_c. A list of scalars is given with commas. A
// kind, a list of sections and a new map entry are given in the file only. A USHER_ variable that names no setting
// is an error, except those that the file refers to and those that Kubernetes sets for a service named usher.
//
// Decided: a list replaces the default list, a map's entries are laid over the default's, an empty section keeps its
// defaults; a key of the top level that begins with "x-" is ignored, so that anchors have somewhere to live; an
// explicit key beats a merged one, but two merged sections that give the same key are an error.
//
// Refused: the decoder of the YAML library, because it stops at the first problem and cannot tell where a default
// came from; several documents; tags, because the struct says what a text means.
package config
