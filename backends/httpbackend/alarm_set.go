package httpbackend

import "usher/backends"

// AlarmSet is a set of alarms; the zero value is empty.
type AlarmSet uint8

// With is the set with a in it.
func (s AlarmSet) With(a backends.Alarm) AlarmSet { return s | 1<<a }

// Has reports whether a is in the set.
func (s AlarmSet) Has(a backends.Alarm) bool { return s&(1<<a) != 0 }
