package records

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"usher/actors/session"
	"usher/backends"
)

// maxKeySize is that of bbolt.
const maxKeySize = 32768

// newTestSpool returns an empty spool that does not wait for the disk.
func newTestSpool(t testing.TB) *spool {
	t.Helper()
	s, err := openSpool(filepath.Join(t.TempDir(), "records.db"), 1<<30)
	must(t, err)
	s.db.NoSync = true
	t.Cleanup(func() { _ = s.close() })
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// damage stores a value under any key, as a damaged disk may have it. bbolt has no empty keys.
func damage(t testing.TB, s *spool, bucket string, key, value []byte) {
	t.Helper()
	tx, err := s.db.Begin(true)
	must(t, err)
	b := sizedBucket(tx, bucket)
	must(t, errors.Join(b.put(key, value), b.save(), tx.Commit()))
}

// isEmpty reports whether the bucket has nothing, and is known to.
func isEmpty(t testing.TB, s *spool, bucket string) bool {
	t.Helper()
	tx, err := s.db.Begin(false)
	must(t, err)
	b := sizedBucket(tx, bucket)
	key, _ := b.Cursor().First()
	must(t, tx.Rollback())
	return key == nil && b.count == 0 && b.size == 0
}

// openKey is the key of a stay of a session.
func openKey(c *session.ClosingRecord) []byte {
	return binary.BigEndian.AppendUint64(c.Record.ID[:], c.Sequence)
}

// TestDelivery_DamagedWaiting_OthersDelivered delivers what waits before, between and behind values that are no records.
func TestDelivery_DamagedWaiting_OthersDelivered(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	c := testConfig(t, r.address)
	var log bytes.Buffer
	d, stop := open(t, c, &log)
	stop() // the records are stored while nothing is sent
	s, err := openSpool(c.Spool.Path, int64(c.Spool.MaxSize))
	must(t, err)
	damaged := map[string]string{
		"\x00":                             `{}`,         // a short key
		"\x00\x00\x00\x00\x00\x00\x00\x02": `{"time":`,   // in place of a record
		"\x00\x00\x00\x00\x00\x00\x00\x03": ``,           // nothing
		"\x00\x00\x00\x00\x00\x00\x00\x04": `"a string"`, // no record
		"\xff":                             `{}`,
	}
	_, err = s.add(recordsOf(t, closing(0, 6)), nil)
	must(t, err)
	for key, value := range damaged {
		damage(t, s, waitingBucket, []byte(key), []byte(value))
	}
	must(t, s.close())
	r.start(t)
	d, stop = open(t, c, &log)
	defer stop()
	eventually(t, "nothing waits", func() bool { return d.Stats().Waiting == 0 })
	stop()
	if s := d.Stats(); r.taken() != 3 || s.Dropped != uint64(len(damaged)) || len(r.problems) > 0 {
		t.Errorf("%d arrived, %+v, %v; want 3, and %d dropped", r.taken(), s, r.problems, len(damaged))
	}
	if !strings.Contains(log.String(), "they cannot be read; look for damage at records.spool.path") {
		t.Errorf("want a warning in the log:\n%s", &log)
	}
}

// recordsOf returns the records of sessions as they wait.
func recordsOf(t testing.TB, all []session.ClosingRecord) (lines [][]byte) {
	t.Helper()
	for i := range all {
		r := newClosed("node1", &all[i])
		lines = append(lines, r.encode())
	}
	return lines
}

// TestOpen_DamagedOpenKeys_RecoveredOnce starts with more keys that name no session than are taken at once: each is taken once.
func TestOpen_DamagedOpenKeys_RecoveredOnce(t *testing.T) {
	t.Parallel()
	c := testConfig(t, "127.0.0.1:9")
	d, stop := open(t, c, io.Discard)
	all := closing(0, 2)
	d.KeepOpen(all)
	const damaged = 2*recoverBatch + 1
	tx, err := d.spool.db.Begin(true)
	must(t, err)
	b := sizedBucket(tx, openBucket)
	for i := range damaged {
		must(t, b.put(binary.BigEndian.AppendUint16([]byte("x"), uint16(i)), recordsOf(t, all[:1])[0]))
	}
	must(t, errors.Join(b.save(), tx.Commit()))
	stop()
	for range 2 {
		_, stop = open(t, c, io.Discard)
		stop()
	}
	s, err := openSpool(c.Spool.Path, int64(c.Spool.MaxSize))
	must(t, err)
	defer s.close() //nolint:errcheck // it was read
	if waiting, _, opened := s.sizes(); waiting != 2 || opened != 0 {
		t.Errorf("%d wait and %d are open, want 2 and none", waiting, opened)
	}
}

// TestOpenSpool_DamagedSizes_CountedAnew opens a spool whose sizes cannot be. The records are kept, and then removed.
func TestOpenSpool_DamagedSizes_CountedAnew(t *testing.T) {
	t.Parallel()
	number := binary.BigEndian.AppendUint64
	for name, sizes := range map[string][]byte{
		"missing":       nil,
		"too short":     []byte("x"),
		"zero":          make([]byte, 16),
		"no bytes":      number(number(nil, 3), 0),
		"negative":      bytes.Repeat([]byte{0xff}, 16),
		"more than fit": number(number(nil, 3), 1<<50),
	} {
		path := filepath.Join(t.TempDir(), "records.db")
		s, err := openSpool(path, 1<<20)
		must(t, err)
		lines := recordsOf(t, closing(0, 3))
		want := int64(len(bytes.Join(lines, nil)) + len(lines[0]))
		_, err = s.add(lines, nil)
		must(t, err)
		_, err = s.keepOpen([]openSession{{closing(0, 1)[0].Record.ID, 1, lines[0]}})
		must(t, err)
		tx, err := s.db.Begin(true)
		must(t, err)
		for _, bucket := range []string{waitingBucket, openBucket} {
			if err = tx.Bucket([]byte(sizesBucket)).Delete([]byte(bucket)); sizes != nil {
				err = tx.Bucket([]byte(sizesBucket)).Put([]byte(bucket), sizes)
			}
			must(t, err)
		}
		must(t, tx.Commit())
		must(t, s.close())
		s, err = openSpool(path, 1<<20)
		must(t, err)
		dropped, err := s.add(lines[:1], nil)
		if waiting, size, opened := s.sizes(); err != nil || dropped != 0 || waiting != 4 || size != want || opened != 1 {
			t.Errorf("%s: %d of %d bytes wait, %d are open, %d dropped, %v; want 4, of %d bytes, and 1", name, waiting, size, opened,
				dropped, err, want)
		}
		must(t, s.close())
	}
}

// TestReadOpen_ImpossibleNumbers refuses numbers whose sum no record can hold.
func TestReadOpen_ImpossibleNumbers(t *testing.T) {
	t.Parallel()
	one := closing(0, 1)[0]
	line := string(recordsOf(t, []session.ClosingRecord{one})[0])
	for change, isReadable := range map[[2]string]bool{
		{"", ""}: true, {`"seconds":90`, `"seconds":1e300`}: false, {`"unverified_seconds":5`, `"unverified_seconds":1.7e308`}: false,
		{`"requests":7`, `"requests":-1`}: false, {`"bytes":1000`, `"bytes":9223372036854775807`}: false,
		{one.Record.ID.String() + `"`, backends.SessionID{9}.String() + `"`}: false,
	} {
		changed := strings.Replace(line, change[0], change[1], 1)
		if _, got := readOpen(one.Record.ID, openKey(&one), []byte(changed)); got != isReadable || changed == line && change[0] != "" {
			t.Errorf("%s instead of %s: readable %t, want %t", change[1], change[0], got, isReadable)
		}
	}
}

// FuzzSpool_Recover starts with two values of open sessions as a damaged disk may have them. Each is taken once, as part of a
// record of its session or counted as unreadable.
func FuzzSpool_Recover(f *testing.F) {
	two := closing(0, 2)
	two[1].Counters.Unverified = 1 << 62
	lines := recordsOf(f, two)
	again := two[0]
	again.Sequence = 1
	f.Add(openKey(&two[0]), lines[0], openKey(&two[1]), lines[1])
	f.Add(openKey(&two[0]), lines[0], openKey(&again), lines[0])
	f.Add(openKey(&two[0]), lines[0][:40], openKey(&again), lines[0])
	f.Add(openKey(&two[0])[:15], lines[0], append(openKey(&two[1]), 'x'), lines[1])
	f.Add([]byte("x"), []byte("{}"), []byte("\xff"), []byte(nil))
	s := newTestSpool(f)
	f.Fuzz(func(t *testing.T, key1, value1, key2, value2 []byte) {
		if len(key1) == 0 || len(key2) == 0 || max(len(key1), len(key2)) > maxKeySize {
			return
		}
		damage(t, s, openBucket, key1, value1)
		damage(t, s, openBucket, key2, value2)
		stays := 2
		if bytes.Equal(key1, key2) {
			stays = 1
		}
		found, err := s.recover(func(all []Record) (lines [][]byte) {
			for i := range all {
				all[i].Time = time.Unix(1_700_000_000, 0).UTC()
				lines = append(lines, all[i].encode())
			}
			return lines
		})
		if err != nil || !found.isLast || found.dropped != 0 || !isEmpty(t, s, openBucket) {
			t.Fatalf("%+v, %v; want all taken at once", found, err)
		}
		if n := len(found.records) + found.unreadable; n > stays || n == 0 {
			t.Errorf("%d records and %d unreadable, of %d stays", len(found.records), found.unreadable, stays)
		}
		for _, r := range found.records {
			id, err := backends.ParseSessionID(r.Session)
			if err != nil || !bytes.HasPrefix(key1, id[:]) && !bytes.HasPrefix(key2, id[:]) || r.Requests < 0 || r.Bytes < 0 {
				t.Errorf("recovered %+v %+v, %v", r, r.Ending, err)
			}
		}
		batch, err := s.oldest(3)
		if err != nil || len(batch.records) != len(found.records) || batch.unreadable != 0 {
			t.Errorf("%d wait and %d are unreadable, %v; want the %d that were recovered", len(batch.records), batch.unreadable, err, len(found.records))
		}
		must(t, s.remove(batch.last))
	})
}

// FuzzSpool_Oldest reads a value between two records as a damaged disk may have it. The records are read, and what is read can be
// sent, and removed.
func FuzzSpool_Oldest(f *testing.F) {
	lines := recordsOf(f, closing(0, 2))
	number := func(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
	f.Add(number(2), lines[0])
	f.Add(number(2), lines[0][:40])
	f.Add(number(2), []byte(`{"time":"2026-11-27T12:00:00Z"}`))
	f.Add(number(1)[:7], []byte("{}"))
	f.Add([]byte("\xff"), []byte(nil))
	s := newTestSpool(f)
	f.Fuzz(func(t *testing.T, key, value []byte) {
		if len(key) == 0 || len(key) > maxKeySize || bytes.Equal(key, number(1)) || bytes.Equal(key, number(3)) {
			return
		}
		damage(t, s, waitingBucket, number(1), lines[0])
		damage(t, s, waitingBucket, key, value)
		damage(t, s, waitingBucket, number(3), lines[1])
		batch, err := s.oldest(maxBatch)
		if err != nil || len(batch.records)+batch.unreadable != 3 || batch.unreadable > 1 {
			t.Fatalf("%d read and %d unreadable, %v; want 3, of which one may be unreadable", len(batch.records), batch.unreadable, err)
		}
		sent := struct{ Records []json.RawMessage }{}
		for _, r := range batch.records {
			sent.Records = append(sent.Records, r)
		}
		if _, err := json.Marshal(sent); err != nil {
			t.Errorf("cannot be sent: %v", err)
		}
		must(t, s.remove(batch.last))
		if !isEmpty(t, s, waitingBucket) {
			t.Error("something waits after all were removed")
		}
	})
}

// FuzzRecordTime reads the time of any line. One that has a time is JSON.
func FuzzRecordTime(f *testing.F) {
	line := recordsOf(f, closing(0, 1))[0]
	f.Add(line)
	f.Add(append(bytes.Clone(line), '\n'))
	f.Add(line[:len(line)-1])
	f.Add([]byte(`{"time":5}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		at := recordTime(line)
		if at.IsZero() {
			return
		}
		r := Record{Time: at}
		if got := recordTime(r.encode()); !json.Valid(line) || !got.Equal(at) {
			t.Errorf("%q was made at %v, and encoded again at %v", line, at, got)
		}
	})
}

// numWrites returns how many writes the spool has had.
func numWrites(t testing.TB, s *spool) int {
	t.Helper()
	tx, err := s.db.Begin(true)
	must(t, err)
	defer tx.Rollback() //nolint:errcheck // it wrote nothing
	return tx.ID()
}

// fill adds that many records of sessions.
func fill(t testing.TB, s *spool, n int) (dropped int) {
	t.Helper()
	lines := recordsOf(t, closing(0, 1000))
	for left := n; left > 0; left -= len(lines) {
		d, err := s.add(lines[:min(left, len(lines))], nil)
		must(t, err)
		dropped += d
	}
	return dropped
}

// TestSpool_RemoveBefore_InBatches removes many records in writes between which others can write.
func TestSpool_RemoveBefore_InBatches(t *testing.T) {
	t.Parallel()
	const waiting = 4*removeBatch + 1
	s := newTestSpool(t)
	fill(t, s, waiting)
	before := numWrites(t, s)
	removed, err := s.removeBefore(time.Now().Add(time.Hour))
	if writes := numWrites(t, s) - before; removed != waiting || err != nil || writes < waiting/removeBatch {
		t.Errorf("%d of %d removed in %d writes, %v; want at least %d writes", removed, waiting, writes, err, waiting/removeBatch)
	}
	if !isEmpty(t, s, waitingBucket) {
		t.Error("something waits")
	}
}

// TestSpool_Add_SmallerMaxSize removes only so many records in one write, and the rest in later ones.
func TestSpool_Add_SmallerMaxSize(t *testing.T) {
	t.Parallel()
	const waiting = 3*removeBatch + 1
	s := newTestSpool(t)
	fill(t, s, waiting)
	s.max = 1
	for want := waiting; want > 0; want -= removeBatch + 1 {
		dropped, err := s.add(recordsOf(t, closing(0, 1)), nil)
		if most := min(want+1, removeBatch+1); dropped != most || err != nil {
			t.Fatalf("%d dropped, %v; want %d", dropped, err, most)
		}
		want++
	}
}

// TestSpool_Add_FileSize fills a spool twice. Its file is little larger than what waits, and what is free costs a later
// write nothing.
func TestSpool_Add_FileSize(t *testing.T) {
	t.Parallel()
	const maxSize = 16 << 20
	s := newTestSpool(t)
	s.max = maxSize
	lines := recordsOf(t, closing(0, 1000))
	fill(t, s, 1000)
	allocatedByOne := func() int64 {
		before := s.db.Stats().TxStats
		fill(t, s, 1)
		after := s.db.Stats().TxStats
		return after.GetPageAlloc() - before.GetPageAlloc()
	}
	allocated := allocatedByOne()
	fill(t, s, 2*maxSize/len(lines[0]))
	info, err := os.Stat(s.db.Path())
	must(t, err)
	if _, waiting, _ := s.sizes(); info.Size() > maxSize*13/10 || waiting < maxSize*9/10 {
		t.Errorf("the file has %d bytes, and %d wait; want at most 1.3 of %d", info.Size(), waiting, maxSize)
	}
	_, err = s.removeBefore(time.Now().Add(time.Hour))
	must(t, err)
	if after := allocatedByOne(); after > allocated {
		t.Errorf("a record took %d bytes of pages, and %d after many were removed", allocated, after)
	}
}

// TestSpool_Add_NotCommitted_NothingDropped has the disk refuse a write that makes room.
func TestSpool_Add_NotCommitted_NothingDropped(t *testing.T) {
	t.Parallel()
	lines := recordsOf(t, closing(0, 3))
	working := newTestSpool(t)
	path := working.db.Path()
	_, err := working.add(lines[:2], nil)
	must(t, errors.Join(err, working.close()))
	var file *os.File
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{OpenFile: func(name string, flag int, perm os.FileMode) (*os.File, error) {
		f, err := os.OpenFile(name, flag, perm)
		file = f
		return f, err
	}})
	must(t, err)
	must(t, file.Close())
	broken := &spool{db: db, max: 1}
	if dropped, err := broken.add(lines[2:], nil); err == nil || dropped != 0 {
		t.Errorf("%d dropped, %v; want none, and an error", dropped, err)
	}
}
