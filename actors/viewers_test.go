package actors

import (
	"context"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"usher/backends"
)

// constantUsers records the users that a node reports.
type constantUsers struct {
	mu   sync.Mutex
	seen []string
}

func (u *constantUsers) report(backend, user string, addresses int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.seen = append(u.seen, fmt.Sprint(backend, " ", user, " ", addresses))
}

func (u *constantUsers) take() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	seen := u.seen
	u.seen = nil
	return seen
}

func TestUserSpread_Reports(t *testing.T) {
	t.Parallel()
	const most = maxUserAddresses
	for name, test := range map[string]struct {
		count int
		user  func(i int) backends.Decision
		// divisor is how many viewers are at one address.
		divisor int
		want    []string
	}{
		"one id at too many addresses": {
			count: most + 1, user: func(i int) backends.Decision { return backends.Decision{UserID: "guest", User: fmt.Sprint(i)} },
			want: []string{"portal guest 200"},
		},
		"one name at too many addresses": {
			count: most + 1, user: func(int) backends.Decision { return backends.Decision{User: "Guest"} },
			want: []string{"portal Guest 200"},
		},
		"one id among as many others": {
			count: 2 * (most + 1), user: func(i int) backends.Decision {
				if i%2 == 0 {
					return backends.Decision{UserID: "guest"}
				}
				return backends.Decision{UserID: fmt.Sprint(i)}
			},
			want: []string{"portal guest 200"},
		},
		"as many as there may be": {count: most, user: func(int) backends.Decision { return backends.Decision{UserID: "hotel"} }},
		"one name and many ids": {
			count: 2 * most, user: func(i int) backends.Decision { return backends.Decision{UserID: fmt.Sprint(i), User: "Guest"} },
		},
		"many at one address": {count: 2 * most, divisor: 2, user: func(int) backends.Decision { return backends.Decision{UserID: "hotel"} }},
		"no user":             {count: 2 * most, user: func(int) backends.Decision { return backends.Decision{} }},
		"a user who is denied": {
			count: 2 * most, user: func(int) backends.Decision { return backends.Decision{Verdict: backends.Denied, UserID: "guest"} },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				users := new(constantUsers)
				b := newFakeBackend(backends.PolicyAllow, func(_ context.Context, r *backends.Request) (backends.Decision, error) {
					var i int
					_, _ = fmt.Sscanf(r.Query, "token=%d", &i)
					d := test.user(i)
					if d.Source = backends.FromBackend; d.Verdict == backends.Pending {
						d.Verdict = backends.Allowed
					}
					return d, nil
				})
				n := newNode(b, &fakeCluster{}, func(s *setup) { s.OnConstantUser = users.report })
				defer n.closeAndDrain()
				for i := range test.count {
					r := openRequest(i)
					r.Request.Query = fmt.Sprint("token=", i)
					r.Request.Address = openRequest(i / max(1, test.divisor)).Request.Address
					if _, err := n.Open(t.Context(), r); err != nil {
						t.Fatal(err)
					}
				}
				synctest.Wait()
				if got := users.take(); !slices.Equal(got, test.want) {
					t.Errorf("reported %q, want %q", got, test.want)
				}
			})
		})
	}
}

func TestUserSpread_ReportsWhileItHolds(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		users := new(constantUsers)
		n := newNode(newFakeBackend(backends.PolicyAllow, nil), &fakeCluster{}, func(s *setup) {
			s.OnConstantUser = users.report
			s.Config.IdleTimeout = 3 * userScanInterval / 2
		})
		defer n.closeAndDrain()
		for i := range 3 * maxUserAddresses {
			if _, err := n.Open(t.Context(), openRequest(i)); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if got := users.take(); len(got) != 1 {
			t.Errorf("reported %q, want it once", got)
		}
		time.Sleep(userScanInterval)
		synctest.Wait()
		if got := users.take(); len(got) != 1 {
			t.Errorf("after the interval reported %q, want it once", got)
		}
		time.Sleep(4 * userScanInterval) // all sessions are idle and close
		synctest.Wait()
		users.take()
		for i := range n.users.cells {
			if left := n.users.cells[i].Load(); left != 0 {
				t.Fatalf("%d sessions are still counted", left)
			}
		}
		time.Sleep(2 * userScanInterval)
		synctest.Wait()
		if got := users.take(); len(got) != 0 {
			t.Errorf("reported %q without sessions", got)
		}
	})
}

// TestUserSpread_Reports_OneTooMany looks when one address too many comes, however long after the others, and at most once in
// an interval.
func TestUserSpread_Reports_OneTooMany(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		users := new(constantUsers)
		n := newNode(newFakeBackend(backends.PolicyAllow, nil), &fakeCluster{}, func(s *setup) {
			s.OnConstantUser, s.Config.IdleTimeout, s.rules.Validity = users.report, time.Hour, time.Hour
		})
		defer n.closeAndDrain()
		open := func(from, to int, address func(i int) int) {
			for i := from; i < to; i++ {
				r := openRequest(i)
				r.Request.Address = openRequest(address(i)).Request.Address
				if _, err := n.Open(t.Context(), r); err != nil {
					t.Fatal(err)
				}
			}
		}
		want := func(when string, reports int) {
			t.Helper()
			synctest.Wait()
			if got := users.take(); len(got) != reports {
				t.Errorf("%s: reported %q, want %d", when, got, reports)
			}
		}
		own := func(i int) int { return i }
		open(0, maxUserAddresses, own)
		time.Sleep(3 * userScanInterval)
		want("as many as there may be", 0)
		open(maxUserAddresses, maxUserAddresses+1, func(int) int { return 0 }) // at an address that is counted, so a look finds nothing
		want("one more viewer", 0)
		time.Sleep(userScanInterval * 2 / 3)
		open(maxUserAddresses+1, maxUserAddresses+2, own)
		want("one address too many, soon after a look", 0)
		time.Sleep(userScanInterval / 3)
		want("an interval after that look", 1)
	})
}

// TestDecisionCache_Share keeps one of equal decisions, and never one that differs.
func TestDecisionCache_Share(t *testing.T) {
	t.Parallel()
	c := newDecisionCache()
	shared := allowedDecision()
	if first, second := c.share(&shared), c.share(new(allowedDecision())); first != second || *first != allowedDecision() {
		t.Errorf("two equal decisions are kept: %p and %p", first, second)
	}
	for i := range 10 * len(c.recent) { // more users than there is room for
		d := allowedDecision()
		d.User = strconv.Itoa(i)
		if got := c.share(&d); got.User != d.User || *got != d {
			t.Errorf("user %d has the decision %+v", i, got)
		}
	}
}

// TestUserStreams_AsSets does to a user's streams what it does to two sets: of all, and of those that are due.
func TestUserStreams_AsSets(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		us, all, due := new(userStreams), map[*userStream]bool{}, map[*userStream]bool{}
		toOne := func(do func(*userStream)) func(*rapid.T) {
			return func(t *rapid.T) {
				if streams := us.all(); len(streams) > 0 {
					do(rapid.SampledFrom(streams).Draw(t, "stream"))
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(*rapid.T) {
				u := &userStream{user: us, session: new(Session)}
				us.add(u)
				all[u] = true
			},
			"remove": toOne(func(u *userStream) {
				us.remove(u)
				delete(all, u)
				delete(due, u)
			}),
			"set due": toOne(func(u *userStream) {
				us.setDue(u)
				due[u] = true
			}),
			"take due": func(t *rapid.T) {
				batch := us.takeDue()
				if len(batch) != min(len(due), maxRenewed) {
					t.Fatalf("%d taken of %d", len(batch), len(due))
				}
				for _, u := range batch {
					if !due[u] {
						t.Fatal("one was taken that is not due, or twice")
					}
					delete(due, u)
				}
			},
			"": func(t *rapid.T) {
				streams := us.all()
				if len(streams) != len(all) || (us.first == nil) != (len(all) == 0) {
					t.Fatalf("%d streams, want %d", len(streams), len(all))
				}
				for i, u := range streams {
					if !all[u] || u.isDue != due[u] || u.isDue != (i < len(due)) {
						t.Fatalf("stream %d of %d with %d due: in the set %t, due %t", i, len(streams), len(due), all[u], u.isDue)
					}
				}
			},
		})
	})
}

// TestUserTable finds users by their hashes, as a map does.
func TestUserTable(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		table, model := newUserTable(), map[string]*userStreams{}
		hashes := rapid.StringMatching("[a-d]{1,2}")
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				hash := hashes.Draw(t, "hash")
				if model[hash] == nil {
					model[hash] = &userStreams{hash: hash}
					table.add(model[hash])
				}
			},
			"remove": func(t *rapid.T) {
				hash := hashes.Draw(t, "hash")
				if us := model[hash]; us != nil {
					table.remove(us)
					table.remove(us) // again changes nothing
					delete(model, hash)
				}
			},
			"": func(t *rapid.T) {
				found := map[string]*userStreams{}
				table.places.each(func(us *userStreams) bool { found[us.hash] = us; return true })
				if !maps.Equal(found, model) || len(table.numbers) != len(model) {
					t.Fatalf("%d users and %d numbers, want %d", len(found), len(table.numbers), len(model))
				}
				for hash, want := range model {
					if got := table.find(hash); got != want {
						t.Fatalf("found %p, want %p", got, want)
					}
				}
				if us := table.find("another"); us != nil {
					t.Fatalf("found %v", us)
				}
			},
		})
	})
}

// TestUserTable_SameNumber has two users' hashes collide: neither is found as the other, and both can leave.
func TestUserTable_SameNumber(t *testing.T) {
	t.Parallel()
	table := newUserTable()
	first, second := &userStreams{hash: "a"}, &userStreams{hash: "b"}
	table.add(first)
	table.add(second)
	table.numbers = map[uint64]uint32{maphash.String(table.seed, "a"): second.place, maphash.String(table.seed, "b"): second.place}
	if table.find("a") != nil || table.find("b") != second {
		t.Errorf("found %p and %p, want nil and %p", table.find("a"), table.find("b"), second)
	}
	table.remove(first)
	if table.find("b") != second {
		t.Error("the other user is lost")
	}
}
