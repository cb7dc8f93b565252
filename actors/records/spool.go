package records

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"usher/backends"
)

// spool holds on disk the records that wait for the webhook, the oldest first, and what would be recorded of open sessions. It
// is safe for concurrent use.
//
//	bucket   key                       value
//	waiting  number                    record. No number is used again
//	open     session, sequence number  record as it would be now
//	sizes    name of a bucket          how many values it has, and their bytes
type spool struct {
	db  *bbolt.DB
	max int64

	mu   sync.Mutex // held while records wait anew, or are held
	held []byte     // the key up to which what waits is being sent, and is not dropped; nil: none
}

// spoolLockTimeout bounds the wait for a file that another process uses.
const spoolLockTimeout = time.Second

// spoolGrowth is by how much the file grows at once. bbolt's own 16 MiB is more than the smallest spool.
const spoolGrowth = 1 << 20

// removeBatch is how many records are removed in one write. Sessions that close and heartbeats wait for a write to end.
const removeBatch = 2000

// The buckets.
const (
	waitingBucket = "waiting"
	openBucket    = "open"
	sizesBucket   = "sizes"
)

func openSpool(path string, maxSize int64) (*spool, error) {
	// After an outage most of the file is free, and a list of that would be written with each record.
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout: spoolLockTimeout, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType,
	})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("%s: another process uses it; every node has its own", path)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	db.AllocSize = spoolGrowth
	err = db.Update(func(tx *bbolt.Tx) error {
		var errs []error
		for _, name := range []string{waitingBucket, openBucket, sizesBucket} {
			_, err := tx.CreateBucketIfNotExists([]byte(name))
			errs = append(errs, err)
		}
		if err := errors.Join(errs...); err != nil {
			return err
		}
		return errors.Join(sizedBucket(tx, waitingBucket).mendSize(), sizedBucket(tx, openBucket).mendSize())
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("prepare %s: %w", path, err), db.Close())
	}
	return &spool{db: db, max: maxSize}, nil
}

func (s *spool) close() error { return s.db.Close() }

// sized is a bucket whose size is known. Its changes are kept by save.
type sized struct {
	*bbolt.Bucket

	tx   *bbolt.Tx
	name string

	count, size int64
}

func sizedBucket(tx *bbolt.Tx, name string) *sized {
	b := &sized{Bucket: tx.Bucket([]byte(name)), tx: tx, name: name}
	if raw := tx.Bucket([]byte(sizesBucket)).Get([]byte(name)); len(raw) == 16 {
		b.count, b.size = int64(binary.BigEndian.Uint64(raw)), int64(binary.BigEndian.Uint64(raw[8:]))
	}
	return b
}

func (b *sized) save() error {
	raw := binary.BigEndian.AppendUint64(nil, uint64(b.count))
	return b.tx.Bucket([]byte(sizesBucket)).Put([]byte(b.name), binary.BigEndian.AppendUint64(raw, uint64(b.size)))
}

// mendSize counts anew what the bucket has if its size cannot be: a damaged one would have all records dropped, or none removed.
func (b *sized) mendSize() error {
	c := b.Cursor()
	key, value := c.First()
	isEmpty := key == nil
	if b.count >= 0 && b.size >= 0 && b.size <= b.tx.Size() && (b.count == 0) == isEmpty && (b.size == 0) == isEmpty {
		return nil
	}
	for b.count, b.size = 0, 0; key != nil; key, value = c.Next() {
		b.count, b.size = b.count+1, b.size+int64(len(value))
	}
	return b.save()
}

// put stores a value in place of an earlier one.
func (b *sized) put(key, value []byte) error {
	before := b.Get(key)
	if before == nil {
		b.count++
	}
	b.size += int64(len(value) - len(before))
	return b.Put(key, value)
}

func (b *sized) remove(key []byte) error {
	b.count--
	b.size -= int64(len(b.Get(key)))
	return b.Delete(key)
}

// removeAfter removes the first values after a key while they are to be, up to that many, and returns how many. It looks at them before
// it removes any: a cursor walks over every page that was emptied in the same write.
func (b *sized) removeAfter(after []byte, most int, isToBe func(key, value []byte) bool) (removed int, err error) {
	var keys [][]byte
	c := b.Cursor()
	key, value := c.Seek(after)
	if key != nil && bytes.Equal(key, after) {
		key, value = c.Next()
	}
	for ; key != nil && len(keys) < most && isToBe(key, value); key, value = c.Next() {
		keys = append(keys, bytes.Clone(key))
	}
	for _, key := range keys {
		if err := b.remove(key); err != nil {
			return 0, err
		}
	}
	return len(keys), nil
}

// add stores records that wait, and forgets that the sessions were open, in one write. It returns how many old ones it dropped
// to make room.
func (s *spool) add(records [][]byte, closed []backends.SessionID) (dropped int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err = s.db.Update(func(tx *bbolt.Tx) error {
		if err := forget(sizedBucket(tx, openBucket), closed); err != nil {
			return err
		}
		dropped, err = s.append(tx, records)
		return err
	})
	if err != nil {
		dropped = 0 // nothing was written
	}
	return dropped, err
}

// append stores records that wait. The mutex must be held.
func (s *spool) append(tx *bbolt.Tx, records [][]byte) (dropped int, err error) {
	if len(records) == 0 {
		return 0, nil
	}
	b := sizedBucket(tx, waitingBucket)
	b.FillPercent = 1 // its keys only grow: nothing comes into a page that was filled
	for _, r := range records {
		n, err := b.NextSequence()
		if err != nil {
			return 0, err
		}
		if err := b.put(binary.BigEndian.AppendUint64(nil, n), r); err != nil {
			return 0, err
		}
	}
	// With a smaller max_size than before there is more to remove than one write should: each later one removes some.
	excess := b.size - s.max
	dropped, err = b.removeAfter(s.held, len(records)+removeBatch, func(_, value []byte) bool {
		isOver := excess > 0
		excess -= int64(len(value))
		return isOver
	})
	if err != nil {
		return 0, err
	}
	return dropped, b.save()
}

// forget removes sessions from those that are open.
func forget(b *sized, closed []backends.SessionID) error {
	if b.count == 0 {
		return nil
	}
	for _, id := range closed {
		c := b.Cursor()
		for key, _ := c.Seek(id[:]); bytes.HasPrefix(key, id[:]); key, _ = c.Seek(id[:]) {
			if err := b.remove(key); err != nil {
				return err
			}
		}
	}
	return b.save()
}

// openSession is what would be recorded of a stay of a session on this node.
type openSession struct {
	id       backends.SessionID
	sequence uint64
	record   []byte
}

// keepOpen notes open sessions in one write, and returns for how many there was no room.
func (s *spool) keepOpen(all []openSession) (dropped int, err error) {
	err = s.db.Update(func(tx *bbolt.Tx) error {
		b := sizedBucket(tx, openBucket)
		for i := range all {
			key := binary.BigEndian.AppendUint64(all[i].id[:], all[i].sequence)
			if b.size > s.max && b.Get(key) == nil {
				dropped++
				continue
			}
			if err := b.put(key, all[i].record); err != nil {
				return err
			}
		}
		return b.save()
	})
	return dropped, err
}

// recover takes some of the sessions that were open when an earlier process ended. Those that wait for the webhook are what wait
// returns of them. What cannot be read is dropped: a damaged record must not keep a node from starting.
func (s *spool) recover(wait func([]Record) [][]byte) (found recovered, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err = s.db.Update(func(tx *bbolt.Tx) error {
		b := sizedBucket(tx, openBucket)
		for _, key := range found.take(b) {
			if err := b.remove(key); err != nil {
				return err
			}
		}
		if err := b.save(); err != nil {
			return err
		}
		found.dropped, err = s.append(tx, wait(found.records))
		return err
	})
	return found, err
}

// waitingBatch are the oldest records that wait.
type waitingBatch struct {
	records [][]byte
	// last is the key up to which they are; nil: nothing waits.
	last []byte
	// unreadable is how many values up to there are no records. One of them would have the receiver get none.
	unreadable int
}

// oldest returns the oldest records that wait, up to that many.
func (s *spool) oldest(most int) (b waitingBatch, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		c := tx.Bucket([]byte(waitingBucket)).Cursor()
		for key, value := c.First(); key != nil && len(b.records) < most; key, value = c.Next() {
			b.last = append(b.last[:0], key...)
			if len(key) != 8 || recordTime(value).IsZero() {
				b.unreadable++
				continue
			}
			b.records = append(b.records, bytes.Clone(value))
		}
		return nil
	})
	return b, err
}

// hold returns the oldest records that wait, up to that many. None of them makes room for others until release.
func (s *spool) hold(most int) (b waitingBatch, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err = s.oldest(most)
	s.held = b.last
	return b, err
}

// release ends hold.
func (s *spool) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = nil
}

// remove removes what waits, up to that key.
func (s *spool) remove(last []byte) error {
	_, err := s.removeWaiting(func(key, _ []byte) bool { return bytes.Compare(key, last) <= 0 })
	return err
}

// removeBefore removes the records that were made before that time, and returns how many.
func (s *spool) removeBefore(limit time.Time) (removed int, err error) {
	oldest, err := s.oldest(1)
	if err != nil || oldest.last == nil || len(oldest.records) > 0 && !recordTime(oldest.records[0]).Before(limit) {
		return 0, err // mostly, without a write
	}
	return s.removeWaiting(func(_, value []byte) bool { return recordTime(value).Before(limit) })
}

// removeWaiting removes the first records while they are to be, in writes between which others may write.
func (s *spool) removeWaiting(isToBe func(key, value []byte) bool) (removed int, err error) {
	for isLast := false; !isLast; {
		n := 0
		err = s.db.Update(func(tx *bbolt.Tx) error {
			b := sizedBucket(tx, waitingBucket)
			if n, err = b.removeAfter(nil, removeBatch, isToBe); err != nil {
				return err
			}
			return b.save()
		})
		if err != nil {
			return removed, err
		}
		removed, isLast = removed+n, n < removeBatch
	}
	return removed, nil
}

// sizes returns how many records wait and their bytes, and how many stays of open sessions are noted.
func (s *spool) sizes() (waiting, bytes, open int64) {
	_ = s.db.View(func(tx *bbolt.Tx) error {
		b := sizedBucket(tx, waitingBucket)
		waiting, bytes, open = b.count, b.size, sizedBucket(tx, openBucket).count
		return nil
	})
	return waiting, bytes, open
}

// leastSpoolBytes is what bbolt writes at first, four pages. It would crash on a part of them.
const leastSpoolBytes = 4 * 4096

// checkSpool returns why no spool could be kept in the file.
func checkSpool(path string) error {
	if err := checkFile(path); err != nil {
		return err
	}
	switch info, err := os.Stat(path); {
	case err != nil: // it is told below
	case info.Size() == 0: // a full disk left it of the first start
		return nil
	case info.Size() < leastSpoolBytes:
		return fmt.Errorf("open %s: has %d bytes, fewer than any spool; delete it, if a full disk left it of the first start", path, info.Size())
	}
	db, err := bbolt.Open(path, 0, &bbolt.Options{ReadOnly: true, Timeout: time.Nanosecond})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout), errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("open %s: %w", path, err)
	}
	return db.Close()
}
