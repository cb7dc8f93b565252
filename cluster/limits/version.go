package limits

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// setVersion is the version of a user's streams. It tells what a set lacks that the store held before it lost its data. Its
// zero value is the version of a user of whom nothing was ever read.
type setVersion struct {
	// epoch is the name of the first version since the store last knew nothing of the user.
	epoch string
	// writes counts the writes of the set. It goes on in a new epoch if a node restores the set.
	writes uint64
	// restored is the number of writes up to which the set was restored.
	restored uint64
}

// next returns the version of the next write, whose name is new. isMissing: the store has no set.
func (v setVersion) next(name string, isMissing bool) setVersion {
	if isMissing || v.epoch == "" {
		v.epoch, v.restored = name, v.writes
	}
	v.writes++
	return v
}

// lacks reports whether the store has lost writes that a node knows of. A version without an epoch is another program's.
func (v setVersion) lacks(known setVersion) bool {
	if v.epoch == known.epoch {
		return known.writes > v.writes // a replica took over that had not received them
	}
	return v.epoch != "" && known.writes > v.restored
}

// restoredFrom returns the version of a set into which a node has put what it lacked.
func (v setVersion) restoredFrom(known setVersion) setVersion {
	v.writes, v.restored = max(v.writes, known.writes), max(v.restored, known.writes)
	return v
}

// encode returns the version as the store holds it. The name makes it unique, also where writes were lost.
func (v setVersion) encode(name string) string {
	return fmt.Sprintf("%s %d %d %s", v.epoch, v.writes, v.restored, name)
}

// parseVersion reads what encode wrote. Anything else is the zero version.
func parseVersion(s string) (v setVersion) {
	fields := strings.Split(s, " ")
	if len(fields) != 4 {
		return setVersion{}
	}
	var errs [2]error
	v.writes, errs[0] = strconv.ParseUint(fields[1], 10, 64)
	v.restored, errs[1] = strconv.ParseUint(fields[2], 10, 64)
	if cmp.Or(errs[:]...) != nil {
		return setVersion{}
	}
	v.epoch = fields[0]
	return v
}
