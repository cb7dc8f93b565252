package origin

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/backends/setting"
	"usher/cmd/usher/config"
)

func TestDefaultConfig_ValidAndYAMLRoundTrip(t *testing.T) {
	t.Parallel()
	if err := DefaultConfig().Validate(); err != nil {
		t.Errorf("Validate: %v", err)
	}
	var printed bytes.Buffer
	if err := config.Print(&printed, DefaultConfig()); err != nil {
		t.Fatalf("Print: %v", err)
	}
	text := printed.Bytes()
	var got Config
	if err := config.Decode(text, &got); err != nil {
		t.Fatalf("Unmarshal: %v\n%s", err, text)
	}
	if diff := cmp.Diff(DefaultConfig(), got); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
}

func TestConfig_YAML_SizesAndDurations(t *testing.T) {
	t.Parallel()
	got := DefaultConfig()
	text := "cache:\n  max_size: 2GiB\n  max_object_size: 1048576\n  media_ttl: 90s\nfetch:\n  max_playlist_size: 64kB\n"
	if err := config.Decode([]byte(text), &got); err != nil {
		t.Fatalf("Unmarshal: %v", err)
	}
	if got.Cache.MaxSize != 2*setting.GiB || got.Cache.MaxObjectSize != setting.MiB || got.Fetch.MaxPlaylistSize != 64000 || got.Cache.MediaTTL.Seconds() != 90 {
		t.Errorf("got %+v", got)
	}
}

func TestConfigValidate_ReportsEveryProblem(t *testing.T) {
	t.Parallel()
	err := Config{}.Validate()
	if err == nil {
		t.Fatal("the zero config is taken for valid")
	}
	lines := strings.Split(err.Error(), "\n")
	for _, k := range []string{
		"cache.max_size: 0: must be at least 1MiB", "cache.max_object_size: 0: ", "cache.media_ttl: 0s: ", "cache.max_wait_for_fresh: ",
		"fetch.connect_timeout: ", "fetch.response_timeout: ", "fetch.blocking_timeout: ", "fetch.idle_timeout: ",
		"fetch.eject_for: ", "fetch.max_playlist_size: ", "fetch.max_conns: ",
	} {
		found := false
		for _, line := range lines {
			found = found || strings.HasPrefix(line, k)
		}
		if !found {
			t.Errorf("no message begins with %q:\n%v", k, err)
		}
	}
	c := DefaultConfig()
	c.Cache = CacheConfig{MaxSize: setting.MiB, MaxObjectSize: setting.MiB, MediaTTL: 1, NegativeTTL: 0, MaxWaitForFresh: 1}
	c.Fetch.ConnectTimeout, c.Fetch.ResponseTimeout, c.Fetch.BlockingTimeout, c.Fetch.IdleTimeout, c.Fetch.EjectFor = 1, 1, 1, 1, 1
	c.Fetch.MaxConns, c.Fetch.MaxWaiting = 1, 0
	for _, size := range []setting.ByteSize{64 * setting.KiB, 64 * setting.MiB} {
		c.Fetch.MaxPlaylistSize = size
		if err := c.Validate(); err != nil {
			t.Errorf("the outermost values are invalid: %v", err)
		}
	}
	for _, size := range []setting.ByteSize{64*setting.KiB - 1, 64*setting.MiB + 1} {
		c.Fetch.MaxPlaylistSize = size
		if err := c.Validate(); err == nil {
			t.Errorf("fetch.max_playlist_size: %v is taken for valid", size)
		}
	}
	c = DefaultConfig()
	c.Cache.MaxObjectSize = c.Cache.MaxSize + 1
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "must not exceed cache.max_size (512MiB)") {
		t.Errorf("an object larger than the cache: got %v", err)
	}
}
