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
	name    string
	cfg     Config
	log     *slog.Logger
	now     func() time.Time
	secret  []byte // of this process, for hashes that nobody else needs to understand
	hashing *hashing
	table   atomic.Pointer[table]

	// These are look's: the file, what is wrong with what it held last, and what was the trouble at the last look.
	file    file
	wrong   error
	trouble string
}

var _ backends.Backend = (*Backend)(nil)

// New makes the named backend. It fails if the config is wrong, or the file cannot be read or is wrong. log is told
// when the file changes; it may be nil.
func New(name string, cfg Config, log *slog.Logger) (*Backend, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("make backend %q: %w", name, err)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		return nil, fmt.Errorf("make backend %q: find a random key: %w", name, err)
	}
	b := &Backend{
		name: name, cfg: cfg, log: log, now: time.Now,
		secret: secret, hashing: newHashing(name, cfg, secret), file: file{path: cfg.File},
	}
	if _, err := b.read(); err != nil {
		return nil, fmt.Errorf("make backend %q: file: %w", name, err)
	}
	return b, nil
}

// Run looks at the file every `reload`, until ctx ends, and then returns nil. Call it once.
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
			b.look()
		}
	}
}

// Close waits for the hashes that are being computed, some hundred milliseconds at most.
func (b *Backend) Close() { b.hashing.close() }

// read takes the file's accounts if it changed. After an error those that were known stay.
func (b *Backend) read() (fresh bool, err error) {
	data, err := b.file.changed(b.now())
	if err != nil {
		return false, err
	}
	if data == nil {
		return false, b.wrong
	}
	t, err := parse(b.file.path, data)
	if b.wrong = err; err == nil {
		b.table.Store(t)
	}
	return true, err
}

// look reads the file if it changed, and logs what came of it: once a change, and not as long as nothing changes. One
// caller at a time.
func (b *Backend) look() {
	fresh, err := b.read()
	trouble := ""
	if err != nil {
		trouble = err.Error()
	}
	attributes := []any{slog.String("backend", b.name), slog.String("file", b.file.path)}
	switch {
	case !fresh && trouble == b.trouble:
	case err != nil:
		b.log.Error("the file of accounts is of no use; the accounts that were read before go on to hold",
			append(attributes, slog.Any("error", err))...)
	default:
		b.log.Info("the file of accounts was read", append(attributes, slog.Int("accounts", len(b.table.Load().accounts)))...)
	}
	b.trouble = trouble
}

// Check decides on one viewer. Its error is an overload, or that of a viewer who left; it never fails.
func (b *Backend) Check(ctx context.Context, r *backends.Request) (backends.Decision, error) {
	given, accounts := b.cfg.credentialsIn(r.Query), b.table.Load()
	if given.none() {
		return decision(backends.Pending, "neither token nor login"), nil
	}
	if a := accounts.byToken(given.token); a != nil {
		return a.admit(r, "the token is an account's", b.cfg.EndSessionOnExpiry, b.now()), nil
	}
	switch {
	case given.incomplete:
		return decision(backends.Denied, "login or password is missing"), nil
	case given.login == "":
		return decision(backends.Denied, "the token is no account's"), nil
	}
	a, err := b.byPassword(ctx, accounts, given)
	switch {
	case err != nil:
		return backends.Decision{}, err
	case a == nil:
		return decision(backends.Denied, "wrong login or password"), nil
	}
	return a.admit(r, "login and password are an account's", b.cfg.EndSessionOnExpiry, b.now()), nil
}

// byPassword is the account that the viewer proved to be his, or nil. It takes as long for a login that nobody has.
func (b *Backend) byPassword(ctx context.Context, accounts *table, given credentials) (*account, error) {
	if len(given.login) > maxLogin || len(given.password) > maxPassword {
		return nil, nil
	}
	stored, decoy := accounts.passwordOf(given.login, b.secret)
	right, err := b.hashing.matches(ctx, given.login, stored, decoy, given.password)
	if err != nil || !right {
		return nil, err
	}
	return accounts.accounts[given.login], nil
}
