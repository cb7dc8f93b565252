// Package config reads the gateway's settings from a strict YAML file and from the environment. It does
// not know the settings: every package owns its Config, package main joins them in one struct with the defaults, and
// [Parse] and [Load] write the values of the file and of the environment over them.
//
//	file ─► tree of go.yaml.in/yaml (anchors, merges resolved; every key keeps its position) ─┐
//	                                                  USHER_ variables, each over its setting ─┴─► struct ─► Validate ─► problems
//
// Invariants:
//   - All problems are reported at once, in file order, as "usher.yaml:12:5: routes[0].bakend: unknown key; …".
//   - A setting that is allowed and has a price is a warning, with the same position: a [Warner] says it, beside a weak
//     secret, a secret's file that everybody can read, and a network with the address of a host.
//   - No problem and no warning shows a secret; an invalid value from ${NAME} is shown as ${NAME}.
//   - No number, duration or size is so large that sums or products of settings overflow, whichever section it is in.
//   - The environment takes precedence over the file, and the file over the default in the struct.
//
// Sections whose keys depend on a kind implement [Kinded] and keep the kind's settings in an inline field:
//
//	type Backend struct {
//		Kind     string `yaml:"kind"`
//		Settings any    `yaml:",inline"` // pointer to the settings of the kind, set by SetKind
//	}
//
// Both are decoded strictly from the one section. The library prints no inline interface, so such a type has a
// MarshalYAML.
//
// A section that has an UnmarshalText may also be given as a single text.
//
// Texts: ${NAME} (unset or empty is an error) and ${NAME:-default} stand in any scalar, $$ is a dollar sign. A Secret
// may also be file:PATH, also as a default or in a USHER_ variable. The value of another variable is not expanded again, so a
// secret may contain any character; one that begins with file: is an error, because the path would be the secret.
//
// Defaults that depend on a section's preset are those of the preset that the file names: see [Kinded].
//
// Overrides: USHER_ and the path's keys in upper case, joined by '_', every other character an '_'. Where two paths
// make one name, the longer key takes precedence: USHER_A_B_C means a_b.c before a.b_c. A list of scalars is given with commas.
// A kind, a list of sections, a new map entry and a section behind a nil pointer are given in the file only. A USHER_
// variable that names no setting is an error, except those that the file refers to and those that Kubernetes sets for a service named usher.
//
// Decided: a list and a map replace the default, an empty section keeps its defaults; a key of the top level that begins
// with "x-" is ignored, for anchors; an explicit key beats a merged one, but two merged sections that give the same key are
// an error; the bound of what is read counts aliases each time.
//
// Refused: a file that is no regular one, such as a pipe, because a node reads it again for a reload, and would wait for its
// writer; a print with the credentials in URLs, because it ends in tickets and chats; several documents; tags, because the struct
// says what a text means; decoding by the library. Its errors have positions and no paths, it stops at the first unknown alias,
// drops a whole section for one repeated key, ignores an empty value for a number, takes yes for true and 0x10 for a number, and
// has no defaults for the entries of a map, no kinds and no positions for Validate.
package config
