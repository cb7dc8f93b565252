package origin

import (
	"errors"
	"fmt"
	"time"

	"usher/backends/setting"
)

// Config bounds the fetches from origins and the cache of their responses.
type Config struct {
	Cache CacheConfig `yaml:"cache"`
	Fetch FetchConfig `yaml:"fetch"`
}

// CacheConfig bounds the memory that all origins share. Zero values are not defaults; see [DefaultConfig].
type CacheConfig struct {
	// MaxSize bounds the stored bodies. Bodies in flight may take a quarter of it more, or one max_object_size if that is
	// larger.
	MaxSize setting.ByteSize `yaml:"max_size"`
	// MaxObjectSize is the largest body that is stored. A larger body passes through.
	MaxObjectSize setting.ByteSize `yaml:"max_object_size"`
	// MediaTTL is how long a segment, part, key or init section is fresh, at most, if the origin does not state it.
	MediaTTL time.Duration `yaml:"media_ttl"`
	// NegativeTTL is how long a 404 or 410 is cached, and that a listed playlist is media; 0 means not at all. While the origin fails, the
	// latter is cached for MediaTTL.
	NegativeTTL time.Duration `yaml:"negative_ttl"`
	// MaxWaitForFresh is how long a viewer waits for a refresh before they get the stale copy.
	MaxWaitForFresh time.Duration `yaml:"max_wait_for_fresh"`
}

// FetchConfig bounds the fetches from one origin. Zero values are not defaults; see [DefaultConfig].
type FetchConfig struct {
	// ConnectTimeout bounds dialling one address, and its TLS handshake.
	ConnectTimeout time.Duration `yaml:"connect_timeout"`
	// ResponseTimeout bounds the time to the headers of media, and to the end of an ordinary playlist.
	ResponseTimeout time.Duration `yaml:"response_timeout"`
	// BlockingTimeout bounds a blocking playlist reload, which the origin holds on purpose.
	BlockingTimeout time.Duration `yaml:"blocking_timeout"`
	// IdleTimeout is how long the body of a media object may make no progress.
	IdleTimeout time.Duration `yaml:"idle_timeout"`
	// EjectFor is how long an address that did not respond is ejected.
	EjectFor time.Duration `yaml:"eject_for"`
	// MaxPlaylistSize bounds the body of a playlist, decoded.
	MaxPlaylistSize setting.ByteSize `yaml:"max_playlist_size"`
	// MaxConns is how many requests one address receives at once, counted apart for ordinary playlists, blocking reloads,
	// media, and media that are too large to be stored, so that none of them starves another.
	MaxConns int `yaml:"max_conns"`
	// MaxWaiting is how many fetches of one origin may wait for a connection.
	MaxWaiting int `yaml:"max_waiting"`
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		Cache: CacheConfig{
			MaxSize:         512 * setting.MiB,
			MaxObjectSize:   64 * setting.MiB, // ten seconds of 50 Mbit/s
			MediaTTL:        time.Minute,
			NegativeTTL:     time.Second,
			MaxWaitForFresh: time.Second,
		},
		Fetch: FetchConfig{
			ConnectTimeout:  2 * time.Second,
			ResponseTimeout: 10 * time.Second, // an origin may have to start the channel first
			BlockingTimeout: 20 * time.Second, // a reload may be held for three target durations
			IdleTimeout:     10 * time.Second,
			EjectFor:        3 * time.Second,
			MaxPlaylistSize: 4 * setting.MiB, // a day of two-second segments
			MaxConns:        256,
			MaxWaiting:      1024,
		},
	}
}

// maxStorable keeps the weight of a stored object within the 32 bits that the cache counts it in.
const maxStorable = setting.GiB

// Validate reports every problem, each beginning with the key.
func (c Config) Validate() error {
	var errs []error
	refuse := func(bad bool, key string, value any, want string) {
		if bad {
			errs = append(errs, fmt.Errorf("%s: %v: %s", key, value, want))
		}
	}
	positive := func(key string, d time.Duration) { refuse(d <= 0, key, d, "must be more than 0") }

	refuse(c.Cache.MaxSize < setting.MiB, "cache.max_size", c.Cache.MaxSize, "must be at least 1MiB")
	refuse(c.Cache.MaxObjectSize <= 0, "cache.max_object_size", c.Cache.MaxObjectSize, "must be more than 0")
	refuse(c.Cache.MaxObjectSize > c.Cache.MaxSize, "cache.max_object_size", c.Cache.MaxObjectSize,
		fmt.Sprintf("must not exceed cache.max_size (%v)", c.Cache.MaxSize))
	refuse(c.Cache.MaxObjectSize > maxStorable, "cache.max_object_size", c.Cache.MaxObjectSize,
		fmt.Sprintf("must not exceed %v", maxStorable))
	positive("cache.media_ttl", c.Cache.MediaTTL)
	refuse(c.Cache.NegativeTTL < 0, "cache.negative_ttl", c.Cache.NegativeTTL, "must not be negative")
	positive("cache.max_wait_for_fresh", c.Cache.MaxWaitForFresh)
	positive("fetch.connect_timeout", c.Fetch.ConnectTimeout)
	positive("fetch.response_timeout", c.Fetch.ResponseTimeout)
	positive("fetch.blocking_timeout", c.Fetch.BlockingTimeout)
	positive("fetch.idle_timeout", c.Fetch.IdleTimeout)
	positive("fetch.eject_for", c.Fetch.EjectFor)
	refuse(c.Fetch.MaxPlaylistSize < 64*setting.KiB, "fetch.max_playlist_size", c.Fetch.MaxPlaylistSize, "must be at least 64KiB")
	refuse(c.Fetch.MaxPlaylistSize > 64*setting.MiB, "fetch.max_playlist_size", c.Fetch.MaxPlaylistSize, "must not exceed 64MiB")
	refuse(c.Fetch.MaxConns < 1, "fetch.max_conns", c.Fetch.MaxConns, "must be at least 1")
	refuse(c.Fetch.MaxWaiting < 0, "fetch.max_waiting", c.Fetch.MaxWaiting, "must not be negative")
	return errors.Join(errs...)
}
