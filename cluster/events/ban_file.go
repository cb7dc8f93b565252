package events

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"usher/actors/session"
	"usher/backends/setting"
	"usher/cluster/redisclient"
)

// fileLockTimeout bounds the wait for a file that another process uses.
const fileLockTimeout = time.Second

// The buckets of a [BanFile]. The values of the first two are when they end, in ms, and then the ban.
const (
	fileBans     = "bans"
	fileUnbanned = "unbanned"
	fileNode     = "node"   // "secret": the node's own
	fileForced   = "forced" // by backend, as in Redis but by this node's clock
)

// BanFile keeps the bans of a node and their tombstones, and orders on breakers, over a restart, so that they hold when Redis and
// all nodes have lost them. Its values are encrypted as in Redis. It has at most as many as [Bans] has, and those that it could not
// read: the key that these were written with may come back.
type BanFile struct {
	db  *bbolt.DB
	log *slog.Logger
	// written has the keys of what is in the file, by bucket; false: the value is to be replaced.
	written map[string]map[string]bool
	// unreadable has when the bans end that are in the file and that this node's keys or version cannot read, by id.
	unreadable map[string]time.Time
	forced     *Forced // nil: none are kept
	// unreadableForced has the orders that are in the file and that this node's keys or version cannot read, by backend.
	unreadableForced map[string][]byte
}

// CheckBanFile returns why no node could keep its bans in the file. It changes nothing, and accepts a file that a running
// node uses.
func CheckBanFile(path string) error {
	db, err := bbolt.Open(path, 0, &bbolt.Options{ReadOnly: true, Timeout: time.Nanosecond, OpenFile: openWritable})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout), errors.Is(err, errEmptyFile):
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return checkFolder(filepath.Dir(path))
	case err != nil:
		return fmt.Errorf("open %s: %w", path, err)
	}
	return db.Close()
}

// leastFileBytes is what bbolt writes at first, four pages. It would crash on a part of them.
const leastFileBytes = 4 * 4096

// errEmptyFile means that a full disk may have left the file of the first start. bbolt would write to it, though it only reads.
var errEmptyFile = errors.New("it is empty")

// openWritable opens a file that is only read, so that one that cannot be written is found too.
func openWritable(path string, _ int, _ os.FileMode) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err == nil && info.Size() < leastFileBytes {
		_ = f.Close()
		if info.Size() == 0 {
			return nil, errEmptyFile
		}
		return nil, fmt.Errorf("has %d bytes, fewer than any file of bans; delete it, if a full disk left it of the first start", info.Size())
	}
	return f, nil
}

// checkFolder returns why no file can be made in the folder.
func checkFolder(folder string) error {
	f, err := os.CreateTemp(folder, "usher-check-")
	if err != nil {
		return fmt.Errorf("%s is not writable: %w", folder, errors.Unwrap(err))
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// OpenBanFile opens the file, or makes it.
func OpenBanFile(path string, log *slog.Logger) (*BanFile, error) {
	if err := CheckBanFile(path); err != nil {
		return nil, err
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: fileLockTimeout})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("%s: another process uses it", path)
	case err != nil:
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	f := &BanFile{
		db: db, log: log, written: map[string]map[string]bool{fileBans: {}, fileUnbanned: {}},
		unreadable: make(map[string]time.Time), unreadableForced: make(map[string][]byte),
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range []string{fileBans, fileUnbanned, fileNode, fileForced} {
			if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("prepare %s: %w", path, err)
	}
	return f, nil
}

// Secret returns the secret of a node without others, which its bans are encrypted and hashed with.
func (f *BanFile) Secret() (secret setting.Secret, err error) {
	err = f.db.Update(func(tx *bbolt.Tx) error {
		b, key := tx.Bucket([]byte(fileNode)), []byte("secret")
		if b.Get(key) == nil {
			if err := b.Put(key, []byte(rand.Text())); err != nil {
				return err
			}
		}
		secret = setting.Secret(b.Get(key))
		return nil
	})
	return secret, err
}

// KeepForced adds the orders on breakers that the file has, and keeps in it what changes.
func (f *BanFile) KeepForced(cipher *redisclient.Cipher, forced *Forced, now time.Time) error {
	f.forced = forced
	err := f.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(fileForced)).ForEach(func(backend, value []byte) error {
			order, isCurrent, err := decodeForced(cipher, string(backend), string(value), now.UnixMilli(), now)
			switch {
			case isCurrent:
				forced.Add(now, order)
			case err != nil && !errors.Is(err, errVersionAhead): // no order could follow one of such a version
				f.unreadableForced[string(backend)] = bytes.Clone(value)
			}
			return nil
		})
	})
	if len(f.unreadableForced) > 0 {
		f.log.Warn("orders on breakers in cluster.state_dir unreadable, check that cluster.encryption_keys has the key that they were written with",
			slog.Any("backends", slices.Sorted(maps.Keys(f.unreadableForced))))
	}
	return err
}

// Load adds to the bans what the file has.
func (f *BanFile) Load(cipher *redisclient.Cipher, bans *Bans, now time.Time) error {
	unreadable := 0
	err := f.db.View(func(tx *bbolt.Tx) error {
		err := tx.Bucket([]byte(fileUnbanned)).ForEach(func(id, value []byte) error {
			f.written[fileUnbanned][string(id)] = true
			if until, _ := splitValue(value); until.After(now) {
				bans.Remove(string(id), until)
			}
			return nil
		})
		if err != nil {
			return err
		}
		return tx.Bucket([]byte(fileBans)).ForEach(func(id, value []byte) error {
			if err := f.loadBan(cipher, bans, string(id), value, now); err != nil {
				unreadable++
			}
			return nil
		})
	})
	if unreadable > 0 {
		f.log.Warn("bans in cluster.state_dir unreadable, check that cluster.encryption_keys has the key that they were written with",
			slog.Int("bans", unreadable))
	}
	return err
}

// loadBan adds to the bans a value of the file. The error says why it cannot be read. The next write then deletes it, unless another
// key or version may read it.
func (f *BanFile) loadBan(cipher *redisclient.Cipher, bans *Bans, id string, value []byte, now time.Time) error {
	until, encrypted := splitValue(value)
	b, err := decodeBan(cipher, id, encrypted)
	left := until.Sub(now)
	if isMalformed := len(encrypted) == 0 || left > maxBanDuration; err != nil && !isMalformed && left > 0 {
		f.unreadable[id] = until
		return err
	}
	f.written[fileBans][id] = err == nil && !isOutdated(cipher, b, encrypted)
	if err != nil {
		return err
	}
	b.Until = until
	bans.Add(now, b)
	return nil
}

// splitValue splits a value of the file.
func splitValue(value []byte) (until time.Time, rest []byte) {
	if len(value) < 8 {
		return time.Time{}, nil
	}
	return time.UnixMilli(int64(binary.BigEndian.Uint64(value))), value[8:]
}

// Run writes what changes until ctx ends, and closes the file.
func (f *BanFile) Run(ctx context.Context, cipher *redisclient.Cipher, bans *Bans) {
	defer func() { _ = f.db.Close() }()
	var forced chan struct{}
	if f.forced != nil {
		forced = f.forced.changed
	}
	for isEnding := false; !isEnding; {
		select {
		case <-bans.changed:
		case <-forced:
		case <-ctx.Done():
			isEnding = true
		}
		if err := f.write(cipher, bans); err != nil {
			f.log.Error("bans not written to cluster.state_dir, free some space or mend the disk", slog.Any("error", err))
		}
	}
}

// write makes the file hold what the bans hold now, in one transaction.
func (f *BanFile) write(cipher *redisclient.Cipher, bans *Bans) error {
	active, unbanned := bans.snapshot()
	f.forgetUnreadable(active, unbanned, time.Now())
	return f.db.Update(func(tx *bbolt.Tx) error {
		err := f.writeBucket(tx, fileBans, maps.Keys(active), func(id string) []byte {
			return append(millisOf(active[id].Until), encodeBan(cipher, active[id])...)
		})
		if err != nil {
			return err
		}
		err = f.writeBucket(tx, fileUnbanned, maps.Keys(unbanned), func(id string) []byte { return millisOf(unbanned[id]) })
		return errors.Join(err, f.writeForced(tx, cipher))
	})
}

// forgetUnreadable has the next write replace the unreadable bans that are known by now, and delete those that have ended or were
// removed.
func (f *BanFile) forgetUnreadable(active map[string]session.Ban, unbanned map[string]time.Time, now time.Time) {
	maps.DeleteFunc(f.unreadable, func(id string, until time.Time) bool {
		_, isKnown := active[id]
		_, isRemoved := unbanned[id]
		_, isCauseRemoved := unbanned[causeOf(id)]
		isForgotten := isKnown || isRemoved || isCauseRemoved || !until.After(now)
		if isForgotten {
			f.written[fileBans][id] = false
		}
		return isForgotten
	})
}

// writeForced makes the file hold the orders on breakers, which are few and change, unlike bans.
func (f *BanFile) writeForced(tx *bbolt.Tx, cipher *redisclient.Cipher) error {
	if f.forced == nil {
		return nil
	}
	if err := tx.DeleteBucket([]byte(fileForced)); err != nil {
		return err
	}
	bucket, err := tx.CreateBucket([]byte(fileForced))
	if err != nil {
		return err
	}
	now := time.Now()
	for _, o := range f.forced.All(now) {
		delete(f.unreadableForced, o.Backend)
		value := fmt.Sprintf("%d %d %s", o.Version, o.Until.UnixMilli(), encodeForced(cipher, o))
		if err := bucket.Put([]byte(o.Backend), []byte(value)); err != nil {
			return err
		}
	}
	for backend, value := range f.unreadableForced {
		if _, _, err := decodeForced(cipher, backend, string(value), now.UnixMilli(), now); err == nil {
			continue // it has ended
		}
		if err := bucket.Put([]byte(backend), value); err != nil {
			return err
		}
	}
	return nil
}

func millisOf(t time.Time) []byte { return binary.BigEndian.AppendUint64(nil, uint64(t.UnixMilli())) }

// writeBucket writes the values that the bucket lacks or has under an old key, and deletes the others. A ban does not change.
func (f *BanFile) writeBucket(tx *bbolt.Tx, name string, keys func(func(string) bool), value func(string) []byte) error {
	bucket, written, wanted := tx.Bucket([]byte(name)), f.written[name], make(map[string]bool)
	for key := range keys {
		if wanted[key] = true; written[key] {
			continue
		}
		if err := bucket.Put([]byte(key), value(key)); err != nil {
			return err
		}
	}
	for key := range written {
		if wanted[key] {
			continue
		}
		if err := bucket.Delete([]byte(key)); err != nil {
			return err
		}
	}
	tx.OnCommit(func() { f.written[name] = wanted })
	return nil
}

// snapshot returns the active bans and their tombstones by id, and the unbanned ids.
func (b *Bans) snapshot() (active map[string]session.Ban, unbanned map[string]time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	active, unbanned = maps.Clone(b.active), maps.Clone(b.unbanned)
	for _, t := range b.sessions.all() {
		active[t.ID] = t
	}
	return active, unbanned
}
