package records

import (
	"bytes"

	"usher/backends"
)

// recoverBatch is how many open sessions are taken at once.
const recoverBatch = 1000

// recovered are sessions that were open when an earlier process ended.
type recovered struct {
	// records are of the sessions, the stays of each summed up.
	records []Record
	// dropped is how many old records made room for them, unreadable how many stays are lost because they cannot be read.
	dropped, unreadable int
	isLast              bool
}

// take takes the records of some sessions, and returns their keys, also those that name no session.
func (f *recovered) take(from *sized) (keys [][]byte) {
	f.isLast = true
	sessions, last, isNew := 0, backends.SessionID{}, true
	c := from.Cursor()
	for key, value := c.First(); key != nil; key, value = c.Next() {
		var id backends.SessionID
		copy(id[:], key)
		if sessions == 0 || id != last {
			if sessions == recoverBatch {
				f.isLast = false
				break
			}
			sessions, last, isNew = sessions+1, id, true
		}
		keys = append(keys, bytes.Clone(key))
		switch r, isReadable := readOpen(id, key, value); {
		case !isReadable:
			f.unreadable++
		case isNew:
			f.records, isNew = append(f.records, r), false
		default:
			f.records[len(f.records)-1].add(&r)
		}
	}
	return keys
}
