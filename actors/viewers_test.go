package actors

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

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
