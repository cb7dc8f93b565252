// Package reference seals what a playlist said of a URI into the URI itself.
package reference
