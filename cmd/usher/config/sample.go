package config

import "regexp"

// Uncomment makes the settings live that a sample shows commented out: a '#' directly before a key ("#listen: …") or
// an item ("#- …") is dropped, whatever indentation stands before it. Prose, which has a space after its '#', stays a
// comment. So one test can hold a sample to the defaults both as it is and with every setting spelt out.
func Uncomment(sample []byte) []byte {
	setting := regexp.MustCompile(`(?m)^([ ]*)#([A-Za-z_"][A-Za-z0-9_."-]*:(?:[ ].*)?|- .*)$`)
	return setting.ReplaceAll(sample, []byte("$1$2"))
}
