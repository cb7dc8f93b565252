package limits

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"usher/actors/session"
)

// TestDecode_Malformed reads no stream with a value that no version has, and none that is cut off.
func TestDecode_Malformed(t *testing.T) {
	t.Parallel()
	const state, flags, device = 6, 7, 8
	for name, test := range map[string]struct {
		field int
		value int64
		isOK  bool
	}{
		"as it was":               {field: state, value: 0, isOK: true},
		"superseded":              {field: state, value: int64(session.StreamSuperseded), isOK: true},
		"an unknown state":        {field: state, value: int64(session.StreamSuperseded) + 1},
		"a negative state":        {field: state, value: -1},
		"all flags":               {field: flags, value: flagPlaying | flagIPv6, isOK: true},
		"an unknown flag":         {field: flags, value: 1 << 7},
		"a device beyond the end": {field: device, value: 4},
		"a negative length":       {field: device, value: -1},
	} {
		numbers := [9]int64{1, 2, 3, 4, 5, 6, 0, 0, 3}
		numbers[test.field] = test.value
		data := append([]byte{layout}, make([]byte, 32)...)
		for _, n := range numbers {
			data = binary.AppendVarint(data, n)
		}
		data = append(data, "box"...)
		set, err := decode(data)
		if (err == nil) != test.isOK || err != nil && !errors.Is(err, errLayout) || test.isOK && len(set) != 1 {
			t.Errorf("%s: read %+v, error %v", name, set, err)
		}
		if test.isOK {
			for end := 1; end < len(data)-1; end++ {
				if set, err := decode(slices.Clone(data[:1+end])); err == nil {
					t.Errorf("%s, cut after %d bytes: read %+v", name, end, set)
				}
			}
		}
	}
}
