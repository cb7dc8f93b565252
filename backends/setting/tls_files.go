package setting

import (
	"crypto/tls"
	"log/slog"
	"os"
	"sync"
	"time"
)

// TLSReloadInterval is how often the files of a [TLSConfig] are looked at while connections are made.
const TLSReloadInterval = 10 * time.Second

// TLSFiles are the files of a [TLSConfig], read again when they change. Safe for concurrent use.
type TLSFiles struct {
	config TLSConfig
	log    *slog.Logger

	mu        sync.Mutex
	checkedAt time.Time
	versions  [3]fileVersion
	loaded    *tls.Config
	// reported is what the last look found, so that it is logged once.
	reported string
}

// fileVersion tells a file from one that replaced it.
type fileVersion struct {
	modified time.Time
	size     int64
}

// Open reads the files. Its errors begin with the setting, "tls.". The logger may be nil.
func (c TLSConfig) Open(log *slog.Logger) (*TLSFiles, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	f := &TLSFiles{config: c, log: log}
	if err := f.reload(time.Now()); err != nil {
		return nil, err
	}
	return f, nil
}

// Config returns what the files say now, which the caller must not change. While they cannot be read, what they said before
// stays in use.
func (f *TLSFiles) Config() *tls.Config {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if now.Sub(f.checkedAt) < TLSReloadInterval {
		return f.loaded
	}
	if err := f.reload(now); err != nil {
		if f.isNews(err) {
			f.log.Error("certificate invalid, keeping previous", slog.Any("error", err))
		}
	} else if err := f.config.Expiry(now); f.isNews(err) {
		f.log.Error("certificate expired or expires soon, renew it", slog.Any("error", err))
	}
	return f.loaded
}

// isNews reports whether there is an error that the last look did not find. The caller holds mu.
func (f *TLSFiles) isNews(err error) bool {
	text := ""
	if err != nil {
		text = err.Error()
	}
	before := f.reported
	f.reported = text
	return text != "" && text != before
}

// reload reads the files if one of them has changed. A key may arrive after its certificate, so that what cannot be loaded
// is tried again. The caller holds mu.
func (f *TLSFiles) reload(now time.Time) error {
	f.checkedAt = now
	versions := f.config.versions()
	if f.loaded != nil && versions == f.versions {
		return nil
	}
	loaded, err := f.config.Load()
	if err != nil {
		return err
	}
	f.loaded, f.versions = loaded, versions
	return nil
}

// versions returns the versions of the files. That of a missing one is zero.
func (c TLSConfig) versions() (versions [3]fileVersion) {
	for i, name := range []string{c.CAFile, c.CertFile, c.KeyFile} {
		if name == "" {
			continue
		}
		if info, err := os.Stat(name); err == nil {
			versions[i] = fileVersion{info.ModTime(), info.Size()}
		}
	}
	return versions
}
