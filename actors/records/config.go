package records

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"time"

	"usher/backends/setting"
)

// Config says where records go. The default delivers none.
type Config struct {
	// File gets a line of JSON for each record; empty: none is written.
	File string `yaml:"file"`
	// MaxFileSize is the size at which the file is rotated.
	MaxFileSize setting.ByteSize `yaml:"max_file_size"`
	// MaxFiles is how many rotated files are kept.
	MaxFiles int           `yaml:"max_files"`
	Webhook  WebhookConfig `yaml:"webhook"`
}

// WebhookConfig names the receiver of records.
type WebhookConfig struct {
	// URL gets POST requests with records; empty: none is sent.
	URL string `yaml:"url"`
	// Secret signs the requests. What follows "whsec_" is base64, as the Standard Webhooks specification says.
	Secret setting.Secret `yaml:"secret"`
	// Timeout bounds one request.
	Timeout time.Duration `yaml:"timeout"`
	// Spool is the file in which records wait. Every node has its own.
	Spool string `yaml:"spool"`
	// MaxWaiting is how many records may wait, about 600 bytes each.
	MaxWaiting int `yaml:"max_waiting"`
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		MaxFileSize: 100 * setting.MiB, MaxFiles: 10,
		Webhook: WebhookConfig{Timeout: 5 * time.Second, MaxWaiting: 1_000_000},
	}
}

// Validate names every setting that cannot work.
func (c Config) Validate() error {
	errs := []error{wantAbsolute("file", c.File)}
	if c.MaxFileSize < setting.MiB || c.MaxFileSize%setting.MiB != 0 { // the rotation counts in these
		errs = append(errs, fmt.Errorf("max_file_size: %v: want whole MiB, at least 1MiB", c.MaxFileSize))
	}
	if c.MaxFiles < 1 {
		errs = append(errs, fmt.Errorf("max_files: %d is too small; want at least 1", c.MaxFiles))
	}
	return errors.Join(errs...)
}

// Validate names every setting that cannot work.
func (c WebhookConfig) Validate() error {
	errs := []error{wantAbsolute("spool", c.Spool)}
	if c.URL != "" {
		errs = append(errs, c.validateURL())
		if c.Spool == "" {
			errs = append(errs, errors.New("spool: missing; records wait there while the receiver is down, for example /var/lib/usher/records.db"))
		}
		if _, err := signingKey(c.Secret); err != nil {
			errs = append(errs, fmt.Errorf("secret: %w", err))
		}
	}
	if c.Timeout < time.Millisecond {
		errs = append(errs, fmt.Errorf("timeout: %v is too short; want at least 1ms", c.Timeout))
	}
	if c.MaxWaiting < 1 {
		errs = append(errs, fmt.Errorf("max_waiting: %d is too small; want at least 1", c.MaxWaiting))
	}
	return errors.Join(errs...)
}

// validateURL does not show the URL, which may hold a credential.
func (c WebhookConfig) validateURL() error {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return errors.New("url: want http://host/path or https://host/path")
	}
	if err := setting.ValidatePort(u.Port()); err != nil {
		return fmt.Errorf("url: %w", err)
	}
	return nil
}

func wantAbsolute(key, path string) error {
	if path == "" || filepath.IsAbs(path) {
		return nil
	}
	return fmt.Errorf("%s: %q: want an absolute path", key, path)
}

// Check returns why no node could write its records. It changes nothing, and accepts files that a running node uses. What it
// says begins with the setting.
func (c Config) Check() error {
	var errs []error
	if c.File != "" {
		if err := checkFile(c.File); err != nil {
			errs = append(errs, fmt.Errorf("records.file: %w", err))
		}
	}
	if c.Webhook.URL != "" {
		if err := checkSpool(c.Webhook.Spool); err != nil {
			errs = append(errs, fmt.Errorf("records.webhook.spool: %w", err))
		}
	}
	return errors.Join(errs...)
}
