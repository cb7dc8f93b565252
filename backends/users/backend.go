package users

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"usher/backends"
)

// Backend decides by accounts in a file. Safe for concurrent use. Close it after use.
type Backend struct {
	name     string
	cfg      Config
	log      *slog.Logger
	now      func() time.Time
	secret   []byte // random per process; keys the password cache and the decoys
	verifier *passwordVerifier
	accounts atomic.Pointer[accountTable]

	// The following fields belong to the goroutine that reloads.
	file        file
	parseErr    error  // of the last content; nil: valid
	loggedError string // of the last reload; empty: none
}

var _ backends.Backend = (*Backend)(nil)

// New makes the named backend. It fails if the config is invalid, or the file is unreadable or invalid. Reloads are
// logged; log may be nil.
func New(name string, cfg Config, log *slog.Logger) (*Backend, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("make backend %q: %w", name, err)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		return nil, fmt.Errorf("make backend %q: read random bytes: %w", name, err)
	}
	b := &Backend{
		name: name, cfg: cfg, log: log, now: time.Now,
		secret: secret, verifier: newPasswordVerifier(name, cfg, secret), file: file{path: cfg.File},
	}
	if _, err := b.readFile(); err != nil {
		return nil, fmt.Errorf("make backend %q: file: %w", name, err)
	}
	return b, nil
}

// Run reloads the file every reload_interval if it changed, until ctx ends, and then returns nil. Call it once.
func (b *Backend) Run(ctx context.Context) error {
	if b.cfg.ReloadInterval == 0 {
		<-ctx.Done()
		return nil
	}
	ticker := time.NewTicker(b.cfg.ReloadInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			b.reload()
		}
	}
}

// Close waits for running hash computations, at most some hundred milliseconds.
func (b *Backend) Close() { b.verifier.close() }

// Overloads returns the settings whose bounds turn viewers away, as the errors of Check name them.
func (b *Backend) Overloads() []string {
	return []string{b.verifier.setting("max_waiting"), b.verifier.setting("max_concurrent_hashes")}
}

// readFile replaces the accounts if the file changed. After an error the previous accounts stay.
func (b *Backend) readFile() (isChanged bool, err error) {
	data, err := b.file.readIfChanged(b.now())
	if err != nil {
		return false, err
	}
	if data == nil {
		return false, b.parseErr
	}
	t, err := parse(b.file.path, data)
	if b.parseErr = err; err == nil {
		b.accounts.Store(t)
	}
	return true, err
}

// reload reads the file if it changed, and logs each change of the result once. One caller at a time.
func (b *Backend) reload() {
	isChanged, err := b.readFile()
	message := ""
	if err != nil {
		message = err.Error()
	}
	attributes := []any{slog.String("backend", b.name), slog.String("file", b.file.path)}
	switch {
	case !isChanged && message == b.loggedError:
	case err != nil:
		b.log.Error("users file invalid, keeping previous",
			append(attributes, slog.Any("error", err))...)
	default:
		b.log.Info("users file reloaded", append(attributes, slog.Int("accounts", len(b.accounts.Load().accounts)))...)
	}
	b.loggedError = message
}

// Check decides by the viewer's credentials. Its error is an overload or a cancellation, never a failure.
func (b *Backend) Check(ctx context.Context, r *backends.Request) (backends.Decision, error) {
	given, accounts := b.cfg.readCredentials(r), b.accounts.Load()
	if given.isEmpty() {
		return b.challenge(backends.Pending, "neither token nor login"), nil
	}
	if a := accounts.findByToken(given.token); a != nil {
		return a.decide(r, "valid token", b.cfg.EndSessionOnExpiry, b.now()), nil
	}
	switch {
	case given.isIncomplete:
		return b.challenge(backends.Denied, "login or password is missing"), nil
	case given.login == "":
		return b.challenge(backends.Denied, "unknown token"), nil
	}
	a, err := b.findByPassword(ctx, accounts, given)
	switch {
	case err != nil:
		return backends.Decision{}, err
	case a == nil:
		return b.challenge(backends.Denied, "wrong login or password"), nil
	}
	return a.decide(r, "valid login and password", b.cfg.EndSessionOnExpiry, b.now()), nil
}

// challenge returns the decision on a viewer who has shown no account. They are asked for one if the config names a realm.
func (b *Backend) challenge(v backends.Verdict, reason string) backends.Decision {
	d := backends.LocalDecision(v, reason)
	if b.cfg.Realm != "" {
		d.Challenge = `Basic realm="` + b.cfg.Realm + `", charset="UTF-8"`
	}
	return d
}

// findByPassword returns the account with that login and password, or nil. An unknown login takes as long as a wrong
// password.
func (b *Backend) findByPassword(ctx context.Context, accounts *accountTable, given credentials) (*account, error) {
	if len(given.login) > maxLoginBytes || len(given.password) > maxPasswordBytes {
		return nil, nil
	}
	stored, decoy := accounts.passwordFor(given.login, b.secret)
	isCorrect, err := b.verifier.verify(ctx, given.login, stored, decoy, given.password)
	if err != nil || !isCorrect {
		return nil, err
	}
	return accounts.accounts[given.login], nil
}
