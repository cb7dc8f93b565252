package records

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"usher/backends/setting"
)

// Config says where records go.
type Config struct {
	// Log writes a line of log for each record.
	Log     bool          `yaml:"log"`
	File    FileConfig    `yaml:"file"`
	Webhook WebhookConfig `yaml:"webhook"`
	Spool   SpoolConfig   `yaml:"spool"`
	// OpenEvents records also that a session has opened on a node.
	OpenEvents bool `yaml:"open_events"`
}

// FileConfig names a file of records.
type FileConfig struct {
	// Path is the file that gets a line of JSON for each record; empty: none is written.
	Path string `yaml:"path"`
	// MaxSize is the size at which the file is rotated.
	MaxSize setting.ByteSize `yaml:"max_size"`
	// MaxFiles is how many rotated files are kept.
	MaxFiles int `yaml:"max_files"`
}

// WebhookConfig names the receiver of records.
type WebhookConfig struct {
	// URL gets POST requests with records; empty: none is sent.
	URL string `yaml:"url"`
	// Secret signs the requests. What follows "whsec_" is base64, as the Standard Webhooks specification says. One without "whsec_" is the
	// key as it is, which suits receivers of one's own only.
	Secret setting.Secret `yaml:"secret"`
	// Timeout bounds one request.
	Timeout time.Duration `yaml:"timeout"`
}

// SecretAdvice says how to create the secret.
func (c WebhookConfig) SecretAdvice() string { return secretAdvice }

// SpoolConfig names the file in which records wait for the webhook, and open sessions are noted.
type SpoolConfig struct {
	// Path is the file. Every node has its own.
	Path string `yaml:"path"`
	// MaxSize bounds the records that wait, and as much again of open sessions. The file is larger: 1.3 times the one, and 1.7
	// times the other.
	MaxSize setting.ByteSize `yaml:"max_size"`
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		Log:     true,
		File:    FileConfig{MaxSize: 100 * setting.MiB, MaxFiles: 50},
		Webhook: WebhookConfig{Timeout: 5 * time.Second},
		Spool:   SpoolConfig{MaxSize: 512 * setting.MiB},
	}
}

// Validate finds a webhook without a spool.
func (c Config) Validate() error {
	if c.Webhook.URL != "" && c.Spool.Path == "" {
		return errors.New("spool.path: missing; records wait there while the receiver of records.webhook.url is down, for example /var/lib/usher/records.db")
	}
	return nil
}

// Validate names every setting that cannot work.
func (c FileConfig) Validate() error {
	errs := []error{wantAbsolute(c.Path)}
	if c.MaxSize < setting.MiB || c.MaxSize%setting.MiB != 0 { // the rotation counts in these
		errs = append(errs, fmt.Errorf("max_size: %v: want whole MiB, at least 1MiB", c.MaxSize))
	}
	if c.MaxFiles < 1 {
		errs = append(errs, fmt.Errorf("max_files: %d is too small; want at least 1", c.MaxFiles))
	}
	return errors.Join(errs...)
}

// Validate names every setting that cannot work.
func (c WebhookConfig) Validate() error {
	var errs []error
	if c.URL != "" {
		errs = append(errs, c.validateURL())
		if _, err := signingKey(c.Secret); err != nil {
			errs = append(errs, fmt.Errorf("secret: %w", err))
		}
	}
	if c.Timeout < time.Millisecond {
		errs = append(errs, fmt.Errorf("timeout: %v is too short; want at least 1ms", c.Timeout))
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

// minSpoolSize has room for a few requests.
const minSpoolSize = setting.MiB

// Validate names every setting that cannot work.
func (c SpoolConfig) Validate() error {
	errs := []error{wantAbsolute(c.Path)}
	if c.MaxSize < minSpoolSize {
		errs = append(errs, fmt.Errorf("max_size: %v is too small; want at least %v", c.MaxSize, minSpoolSize))
	}
	return errors.Join(errs...)
}

func wantAbsolute(path string) error {
	if path == "" || filepath.IsAbs(path) {
		return nil
	}
	return fmt.Errorf("path: %q: want an absolute path", path)
}

// Check returns why no node could write its records. It changes nothing, and accepts files that a running node uses. What it
// says begins with the setting.
func (c Config) Check() error {
	var errs []error
	if c.File.Path != "" {
		if err := checkRotated(c.File.Path); err != nil {
			errs = append(errs, fmt.Errorf("records.file.path: %w", err))
		}
	}
	if c.Spool.Path != "" {
		if err := checkSpool(c.Spool.Path); err != nil {
			errs = append(errs, fmt.Errorf("records.spool.path: %w", err))
		}
	}
	return errors.Join(errs...)
}

// checkRotated returns why a file cannot be written, made or, when it is full, renamed. It changes nothing.
func checkRotated(path string) error {
	if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() { // a device has no size
		if err := checkFolder(filepath.Dir(path)); err != nil {
			return fmt.Errorf("%w, so that %s cannot be rotated", err, path)
		}
	}
	return checkFile(path)
}

// checkFile returns why a file cannot be written or made. It changes nothing.
func checkFile(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return checkFolder(filepath.Dir(path))
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// checkFolder returns why no file can be made in a folder.
func checkFolder(folder string) error {
	f, err := os.CreateTemp(folder, "usher-check-")
	if err != nil {
		return fmt.Errorf("%s is not writable: %w", folder, errors.Unwrap(err))
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}
