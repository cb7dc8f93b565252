package origin

import (
	"strings"
	"testing"

	"usher/backends/setting"
)

func TestConfigValidate_LargestObject(t *testing.T) {
	t.Parallel()
	for size, want := range map[setting.ByteSize]string{
		setting.GiB: "", setting.GiB + 1: "cache.max_object_size: ", 1: "", 0: "cache.max_object_size: 0: must be more than 0",
	} {
		c := DefaultConfig()
		c.Cache.MaxSize, c.Cache.MaxObjectSize = 2*setting.GiB, size
		if err := c.Validate(); (err != nil) != (want != "") || err != nil && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v: got %v, want %q", size, err, want)
		}
	}
}
