package config

import (
	"fmt"
	"reflect"
	"slices"
)

// validate calls Validate of every section, inner sections first, and reports the messages with positions. It drops
// messages about settings that could not be read, which were reported already.
func validate(source *Source, root reflect.Value) {
	v := &validation{source: source, broken: slices.Clone(source.broken)}
	v.walk(root, "", 0)
}

type validation struct {
	source *Source
	broken []string
	around []sectionKeys // the sections around the one that is asked, itself last
}

type sectionKeys struct {
	path string
	keys []string
}

func (c *validation) walk(v reflect.Value, path string, depth int) {
	t := v.Type()
	switch {
	case depth > maxDepth || isScalar(t):
	case t.Kind() == reflect.Pointer && !v.IsNil():
		c.walk(v.Elem(), path, depth+1)
	case t.Kind() == reflect.Struct:
		c.walkStruct(v, path, depth)
	case t.Kind() == reflect.Map:
		for entries := v.MapRange(); entries.Next(); {
			c.walk(copyOf(entries.Value()), join(path, keyText(entries.Key())), depth+1)
		}
	case t.Kind() == reflect.Slice:
		for i := range v.Len() {
			c.walk(v.Index(i), index(path, i), depth+1)
		}
	}
}

func (c *validation) walkStruct(v reflect.Value, path string, depth int) {
	fields, _ := fieldsOf(v) // a mistake in the struct was reported where it was decoded
	c.around = append(c.around, sectionKeys{path, keysOf(fields)})
	for _, f := range fields {
		c.walk(f.value, join(path, f.key), depth+1)
	}
	c.askInline(v, path)
	c.ask(v, path)
	c.around = c.around[:len(c.around)-1]
}

// askInline calls Validate of the inline settings of a section.
func (c *validation) askInline(v reflect.Value, path string) {
	for i := range v.NumField() {
		of := v.Type().Field(i)
		if !of.IsExported() || of.Tag.Get("yaml") != ",inline" {
			continue
		}
		inner := v.Field(i)
		for (inner.Kind() == reflect.Interface || inner.Kind() == reflect.Pointer) && !inner.IsNil() {
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Struct && inner.CanSet() {
			c.askInline(inner, path)
			c.ask(inner, path)
		}
	}
}

func (c *validation) ask(v reflect.Value, path string) {
	validator, ok := reflect.TypeAssert[Validator](v.Addr())
	if !ok || slices.Contains(c.broken, join(path, kindKey)) {
		return
	}
	for _, message := range messagesOf(validator.Validate(), "") {
		about, text := c.resolve(message)
		if !c.follows(about) {
			c.source.problems = append(c.source.problems, c.source.problem(about, text))
		}
	}
}

// follows reports whether a complaint about a setting may be due to a setting that could not be read.
func (c *validation) follows(about string) bool {
	return slices.ContainsFunc(c.broken, func(b string) bool { return within(b, about) || within(about, b) })
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
	return c.around[len(c.around)-1].path, message
}

// keyText returns a map's key as in the file.
func keyText(key reflect.Value) string {
	if text, err := scalarString(key); err == nil {
		return text
	}
	return fmt.Sprint(key)
}
