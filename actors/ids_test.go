package actors

import (
	"crypto/sha256"
	"encoding/binary"

	"usher/backends"
)

// idOf returns the id of the test's viewer of that number: as random as a keyed hash, and the same each time.
func idOf(i int) backends.SessionID {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
	return backends.SessionID(sum[:16])
}
