package records

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// spool holds records on disk until they are delivered, the oldest first. Their keys have no gaps, and none is used again. It
// is safe for concurrent use.
type spool struct {
	db  *bbolt.DB
	max int
}

// spoolLockTimeout bounds the wait for a file that another process uses.
const spoolLockTimeout = time.Second

func openSpool(path string, max int) (*spool, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: spoolLockTimeout})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("%s: another process uses it; every node has its own", path)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists([]byte("records"))
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("prepare %s: %w", path, err), db.Close())
	}
	return &spool{db: db, max: max}, nil
}

func bucketOf(tx *bbolt.Tx) *bbolt.Bucket { return tx.Bucket([]byte("records")) }

// add stores records in one write, and returns how many old ones it dropped to make room.
func (s *spool) add(records [][]byte) (dropped int, err error) {
	err = s.db.Update(func(tx *bbolt.Tx) error {
		b := bucketOf(tx)
		for _, r := range records {
			n, err := b.NextSequence()
			if err != nil {
				return err
			}
			if err := b.Put(binary.BigEndian.AppendUint64(nil, n), r); err != nil {
				return err
			}
		}
		dropped = max(0, count(b)-s.max)
		for range dropped {
			key, _ := b.Cursor().First()
			if err := b.Delete(key); err != nil {
				return err
			}
		}
		return nil
	})
	return dropped, err
}

// count returns how many records there are.
func count(b *bbolt.Bucket) int {
	first, _ := b.Cursor().First()
	if first == nil {
		return 0
	}
	return int(b.Sequence()-binary.BigEndian.Uint64(first)) + 1
}

// oldest returns the oldest records, up to that many, and the key of the last of them.
func (s *spool) oldest(most int) (records [][]byte, last uint64, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		c := bucketOf(tx).Cursor()
		for key, value := c.First(); key != nil && len(records) < most; key, value = c.Next() {
			records = append(records, append([]byte(nil), value...))
			last = binary.BigEndian.Uint64(key)
		}
		return nil
	})
	return records, last, err
}

// remove deletes the records up to that key.
func (s *spool) remove(last uint64) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		b := bucketOf(tx)
		for {
			key, _ := b.Cursor().First()
			if key == nil || binary.BigEndian.Uint64(key) > last {
				return nil
			}
			if err := b.Delete(key); err != nil {
				return err
			}
		}
	})
}

// waiting counts the records.
func (s *spool) waiting() (n int) {
	_ = s.db.View(func(tx *bbolt.Tx) error {
		n = count(bucketOf(tx))
		return nil
	})
	return n
}

func (s *spool) close() error { return s.db.Close() }

// checkSpool returns why no spool could be kept in the file.
func checkSpool(path string) error {
	if err := checkFile(path); err != nil {
		return err
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

// checkFile returns why a file cannot be written or made. It changes nothing.
func checkFile(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if f, err = os.CreateTemp(filepath.Dir(path), "usher-check-"); err == nil {
			defer os.Remove(f.Name()) //nolint:errcheck // the next check tells
		} else {
			err = fmt.Errorf("%s is not writable: %w", filepath.Dir(path), errors.Unwrap(err))
		}
	}
	if err != nil {
		return err
	}
	return f.Close()
}
