package config

import (
	"reflect"
	"slices"
	"strings"

	"usher/backends/setting"
)

// validation calls Validate of every section, inner sections first, and reports the messages with positions. It drops
// messages about settings that could not be read, which were reported already.
type validation struct {
	source *Source
	around []around // the sections around the one that is asked, itself last
}

type around struct {
	path string
	keys []string
}

func (c *validation) walk(v reflect.Value, path string) {
	v = pointedAt(v)
	if !v.IsValid() || isScalar(v.Type()) {
		return
	}
	isSection := v.Kind() == reflect.Struct
	var s structure
	if isSection {
		s = structureOf(v, path)
		c.around = append(c.around, around{path, s.keys()})
	}
	for _, inner := range childrenOf(v, path) {
		if isSecret(inner.value.Type()) && v.Kind() != reflect.Map { // a map's are values of header fields, and short ones are usual
			c.warnOfWeakness(inner)
		}
		c.walk(inner.value, inner.path)
	}
	for _, part := range s.parts {
		c.ask(part, path)
	}
	if isSection {
		c.around = c.around[:len(c.around)-1]
	}
}

func (c *validation) warnOfWeakness(s child) {
	if why := setting.Secret(s.value.String()).Weakness(); why != "" {
		c.source.warn(c.source.locate(s.path), s.path,
			"the secret "+why+": who guesses it can do what it protects; create one with openssl rand -hex 32")
	}
}

// ask calls Validate and Warnings of a section.
func (c *validation) ask(v reflect.Value, path string) {
	if slices.Contains(c.source.broken, join(path, kindKey)) {
		return
	}
	if validator, ok := reflect.TypeAssert[Validator](v.Addr()); ok {
		c.report(validator.Validate(), c.source.add)
	}
	if warner, ok := reflect.TypeAssert[Warner](v.Addr()); ok {
		c.report(warner.Warnings(), c.source.warn)
	}
}

// report adds the messages of a section, except those that follow from what could not be read.
func (c *validation) report(err error, add func(at Problem, path, message string)) {
	for _, message := range messagesOf(err, "") {
		about, text := c.resolve(message)
		isConsequence := slices.ContainsFunc(c.source.broken, func(b string) bool { return within(b, about) || within(about, b) })
		if !isConsequence {
			add(c.source.locate(about), about, text)
		}
	}
}

// resolve returns the setting that a message is about. A message begins with a key of the section or of a section
// around it; otherwise it is about the section itself.
func (c *validation) resolve(message string) (path, text string) {
	said, text := splitPath(message)
	for _, section := range slices.Backward(c.around) {
		switch {
		case said == "" || !slices.Contains(section.keys, firstKey(said)):
		case section.path == "":
			return said, text
		default:
			return section.path + "." + said, text
		}
	}
	return c.around[len(c.around)-1].path, strings.TrimSpace(message)
}
