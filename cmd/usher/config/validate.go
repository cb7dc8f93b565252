package config

import (
	"reflect"
	"slices"
	"strings"

	"usher/backends/setting"
)

// check is what a section says of its values once all are read.
type check struct {
	section reflect.Value
	path    string
}

// runChecks calls Validate and Warnings of every section, inner sections first.
func (d *decoder) runChecks() {
	for _, c := range d.checks {
		if slices.Contains(d.source.broken, join(c.path, kindKey)) {
			continue
		}
		if validator, ok := reflect.TypeAssert[Validator](c.section.Addr()); ok {
			d.explain(validator.Validate(), c.path, &d.source.problems)
		}
		if warner, ok := reflect.TypeAssert[Warner](c.section.Addr()); ok {
			d.explain(warner.Warnings(), c.path, &d.source.warnings)
		}
	}
}

// explain adds the messages of a section, except those that follow from what could not be read.
func (d *decoder) explain(err error, section string, to *Problems) {
	for _, message := range messagesOf(err, "") {
		path, text := d.subject(message, section)
		isConsequence := slices.ContainsFunc(d.source.broken, func(b string) bool { return within(b, path) || within(path, b) })
		if !isConsequence {
			*to = append(*to, d.source.problem(d.source.locate(path), path, text))
		}
	}
}

// subject returns the setting that a message is about. A message begins with a key of the section or of a section
// around it; otherwise it is about the section itself.
func (d *decoder) subject(message, section string) (path, text string) {
	said, text := splitPath(message)
	for around := section; said != ""; around = around[:max(strings.LastIndexAny(around, ".["), 0)] {
		if path = join(around, firstKey(said)); d.isSetting[path] {
			return path + strings.TrimPrefix(said, firstKey(said)), text
		}
		if around == "" {
			break
		}
	}
	return section, strings.TrimSpace(message)
}

// warnOfWeakness warns of a secret that can be guessed. It does not look at a map's, which are values of header fields: short
// ones are usual.
func (d *decoder) warnOfWeakness(v reflect.Value, path string) {
	secret, ok := reflect.TypeAssert[setting.Secret](v)
	if why := secret.Weakness(); ok && why != "" {
		d.source.warn(d.source.locate(path), path,
			"the secret "+why+": who guesses it can do what it protects; create one with openssl rand -hex 32")
	}
}
