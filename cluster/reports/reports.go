// Package reports keeps what nodes report about past events, such as outages, where all of them read it: in Redis or, for a
// single node, in memory. A report consists of parts, one of each process that saw the event. What a part says is not known
// here.
//
// In Redis the parts of a subject are one hash, and the times at which they were stored a sorted set. Each write deletes what is
// older than its retention; so does each read. Both keys expire when the newest part does.
//
// Invariants:
//   - A part is encrypted, as it may name viewers, and can be decrypted only as the part of that id.
//   - A call that Redis runs late does not replace a newer version of a part.
//
// Decided: a part that Redis could not store is the caller's to store again. In memory all parts are lost when the process ends.
package reports

import (
	"context"
	"embed"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"usher/cluster/redisclient"
)

//go:embed lua/*.lua
var scripts embed.FS

// Store keeps the parts of reports. It is safe for concurrent use.
type Store struct {
	client *redisclient.Client // nil: in memory
	cipher *redisclient.Cipher
	script *redisclient.Script

	mu sync.Mutex
	// version is that of the last part that was stored.
	version int64
	memory  map[string][]stored // by subject, the part that was stored last at the end
}

// stored is a part in memory.
type stored struct {
	id   string
	part []byte
	at   time.Time
}

// New returns a store in Redis or, without a client, in memory.
func New(client *redisclient.Client, cipher *redisclient.Cipher) *Store {
	return &Store{
		client: client, cipher: cipher, script: redisclient.LoadScript(scripts, "store_report"), memory: map[string][]stored{},
	}
}

// Save stores a part of the subject in place of the one that has the id. It keeps the newest parts, at most limit, for as long
// as the retention. The error says that Redis did not answer.
func (s *Store) Save(ctx context.Context, subject, id string, part []byte, limit int, retention time.Duration) error {
	if s.client == nil {
		s.saveInMemory(subject, id, part, limit, retention)
		return nil
	}
	encrypted := s.cipher.Encrypt(part, purpose(subject, id))
	_, err := s.run(ctx, subject, id, s.nextVersion(), encrypted, limit, retention)
	return err
}

// nextVersion returns a number that is greater than all before it, whatever the clock does.
func (s *Store) nextVersion() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version = max(s.version+1, time.Now().UnixMilli())
	return s.version
}

// List returns the parts of the subject by their ids. Parts that this node cannot decrypt are left out. The error says that
// Redis did not answer.
func (s *Store) List(ctx context.Context, subject string, retention time.Duration) (map[string][]byte, error) {
	all := map[string][]byte{}
	if s.client == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.memory[subject] = withoutOld(s.memory[subject], retention)
		for _, p := range s.memory[subject] {
			all[p.id] = p.part
		}
		return all, nil
	}
	fields, err := s.run(ctx, subject, "", 0, nil, 0, retention)
	for i := 0; i+1 < len(fields); i += 2 {
		id := redisclient.Text(fields[i])
		if part, err := s.cipher.Decrypt([]byte(redisclient.Text(fields[i+1])), purpose(subject, id)); err == nil {
			all[id] = part
		}
	}
	return all, err
}

func (s *Store) run(
	ctx context.Context, subject, id string, version int64, part []byte, limit int, retention time.Duration,
) ([]any, error) {
	if s.client.IsDown() {
		return nil, redisclient.ErrNotSent
	}
	keys := s.client.Keys()
	reply, err := s.client.RunDirect(ctx, s.script, []string{keys.Shared("reports:" + subject), keys.Shared("reported:" + subject)},
		id, version, part, limit, retention.Milliseconds())
	if err != nil {
		return nil, fmt.Errorf("reports of %s: %w", subject, err)
	}
	return redisclient.List(reply), nil
}

// purpose is what an encrypted part is.
func purpose(subject, id string) string { return "report " + subject + " " + id }

func (s *Store) saveInMemory(subject, id string, part []byte, limit int, retention time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := slices.DeleteFunc(withoutOld(s.memory[subject], retention), func(p stored) bool { return p.id == id })
	kept = append(kept, stored{strings.Clone(id), slices.Clone(part), time.Now()})
	s.memory[subject] = kept[max(0, len(kept)-limit):]
}

func withoutOld(parts []stored, retention time.Duration) []stored {
	return slices.DeleteFunc(parts, func(p stored) bool { return time.Since(p.at) >= retention })
}
