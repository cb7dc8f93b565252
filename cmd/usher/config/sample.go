package config

import "regexp"

// Uncomment activates the settings that a sample shows commented out: a '#' directly before a key ("#listen: …") or
// an item ("#- …") is dropped, whatever indentation stands before it. Prose, which has a space after its '#', stays a
// comment. A test can then compare a sample with the defaults as it is, and with every setting.
func Uncomment(sample []byte) []byte {
	setting := regexp.MustCompile(`(?m)^([ ]*)#([A-Za-z_"][A-Za-z0-9_."-]*:(?:[ ].*)?|- .*)$`)
	return setting.ReplaceAll(sample, []byte("$1$2"))
}
