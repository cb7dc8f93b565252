package gateway

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/actors/session"
	"usher/backends"
	"usher/gateway/hls"
	"usher/gateway/ticket"
)

const (
	home   = "203.0.113.7"
	mobile = "198.51.100.9"
	homeV6 = "2001:db8:1:2::7"
)

// onNewAddress sets the policy of the first route.
func onNewAddress(p NewAddressPolicy) func(*Config) {
	return func(c *Config) { c.Routes[0].OnNewAddress = p }
}

// underTicket opens the playlist at an address, and returns the path of one of its segments.
func (g *testGateway) underTicket(t testing.TB, address string) string {
	t.Helper()
	return uris(g.want(t, 200, "/play/a001/index.m3u8?token=1", forwardedFor(address)).body)[0]
}

func TestServe_TicketFromNewAddress_OpensSibling(t *testing.T) {
	t.Parallel()
	for name, isKnown := range map[string]bool{"the root lives on this node": true, "the root is unknown to this node": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newTestGateway(t, nil)
			media := g.underTicket(t, home)
			root := g.table.openRequests()[0]
			if !isKnown {
				g.table.reset()
			}
			for range 2 {
				g.want(t, 200, media, forwardedFor(mobile))
				g.want(t, 200, media, forwardedFor(home))
				g.want(t, 200, media, forwardedFor("::ffff:"+home))
			}
			var sibling session.OpenRequest
			for _, o := range g.table.openRequests() {
				if !o.Root.IsZero() {
					sibling = o
				} else if o.Request.Session != root.Request.Session {
					t.Errorf("the root's own address opens %v", o.Request.Session)
				}
			}
			tagOf := func(address string) ticket.Tag { return g.hasher.tag(netip.MustParsePrefix(address + "/32")) }
			wantID := g.hasher.sibling(root.Request.Session, tagOf(home), tagOf(mobile))
			if n := len(g.table.openRequests()); n != 2 {
				t.Errorf("%d open requests, want one for each address", n)
			}
			got := *sibling.Request
			if got.Session != wantID || sibling.Root != root.Request.Session || sibling.HasCredentials || got.Query != "" ||
				got.Address.String() != mobile || sibling.Ticket.IsZero() || !sibling.AddressID.IsZero() || sibling.MaxAddresses != 0 {
				t.Errorf("the sibling is opened by %+v of %+v", sibling, got)
			}
		})
	}
}

// TestServe_TicketFromNewAddress_SecondOfOtherFamilyRefused has the sessions refuse a viewer's second address by IPv6.
func TestServe_TicketFromNewAddress_SecondOfOtherFamilyRefused(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, onNewAddress(RefuseNewAddress))
	media := g.underTicket(t, home)
	g.table.decideFunc = func(session.OpenRequest) (backends.Decision, error) {
		return backends.LocalDecision(backends.Denied, backends.ReasonNewAddress), nil
	}
	if got := g.want(t, 403, media, forwardedFor(homeV6)); !strings.Contains(got.body, "on_new_address") {
		t.Errorf("refused by %q, want the setting's name", got.body)
	}
}

// TestServe_TicketFromNewAddress_SessionOfItsCredentials has a viewer reload the playlist by their token, and its segments by
// the ticket of another address.
func TestServe_TicketFromNewAddress_SessionOfItsCredentials(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, nil)
	atHome, away := g.underTicket(t, home), g.underTicket(t, mobile)
	g.want(t, 200, atHome, forwardedFor(mobile))
	g.want(t, 200, away, forwardedFor(home))
	if n := len(g.table.openRequests()); n != 2 || atHome == away {
		t.Errorf("%d sessions for two addresses", n)
	}
}

func TestServe_TicketFromNewAddress_DecidedForItself(t *testing.T) {
	t.Parallel()
	for allowed, refused := range map[string]string{home: mobile, mobile: home} {
		g := newTestGateway(t, nil)
		g.table.decideFunc = func(o session.OpenRequest) (backends.Decision, error) {
			d := backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend}
			if o.Request.Address.String() == allowed {
				d.Verdict = backends.Allowed
			}
			return d, nil
		}
		g.want(t, 403, "/play/a001/index.m3u8?token=1", forwardedFor(refused))
		media := g.underTicket(t, allowed)
		for range 2 {
			g.want(t, 403, "/play/a001/index.m3u8?token=1", forwardedFor(refused))
			g.want(t, 200, "/play/a001/index.m3u8?token=1", forwardedFor(allowed))
			g.want(t, 403, media, forwardedFor(refused))
			g.want(t, 200, media, forwardedFor(allowed))
		}
	}
}

// TestServe_TicketFromNewAddress_KeepsURIs has a viewer reload the playlist at two addresses.
func TestServe_TicketFromNewAddress_KeepsURIs(t *testing.T) {
	t.Parallel()
	for _, in := range []hls.TicketTransport{hls.TicketInPath, hls.TicketInQuery} {
		g := newTestGateway(t, func(c *Config) { c.Routes[0].TicketIn = in })
		first := g.underTicket(t, home)
		_, text, _ := strings.Cut(first, "ticket=")
		reload := "/play/a001/index.m3u8?ticket=" + text
		if in == hls.TicketInPath {
			reload = first[:strings.LastIndex(first, "/")] + "/index.m3u8"
		} else {
			first = "/play/a001/" + first
		}
		want := g.want(t, 200, reload, forwardedFor(home)).body
		if got := g.want(t, 200, reload, forwardedFor(mobile)).body; got != want {
			t.Errorf("ticket in %v: the playlist changed with the address (-home +mobile):\n%s", in, cmp.Diff(want, got))
		}
		g.want(t, 200, first, forwardedFor(mobile))
	}
}

func TestServe_TicketFromNewAddress_Refused(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, onNewAddress(RefuseNewAddress))
	media := g.underTicket(t, home)
	for range 2 {
		g.want(t, 200, media, forwardedFor(home))
		if got := g.want(t, 403, media, forwardedFor(mobile)); !strings.Contains(got.body, "on_new_address") {
			t.Errorf("refused by %q, want the setting's name", got.body)
		}
		g.want(t, 200, media, forwardedFor(homeV6))
	}
	g.table.reset() // another node
	g.want(t, 403, media, forwardedFor(mobile))
	g.want(t, 200, media, forwardedFor(home))
	g.want(t, 200, media, forwardedFor(homeV6))
	for _, o := range g.table.openRequests() {
		if o.MaxAddresses != 1 {
			t.Errorf("opened by %+v, want one address of each family", o)
		}
	}
}

func TestServe_TicketFromNewAddress_SharedSession(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, onNewAddress(ShareSession))
	media := g.underTicket(t, home)
	seen := map[backends.SessionID]bool{}
	for i := range 5 {
		address := forwardedFor(fmt.Sprintf("198.51.100.%d", i))
		for range 2 {
			g.want(t, 200, media, address)
			g.want(t, 200, "/play/a001/index.m3u8?token=1", address)
		}
	}
	for _, o := range g.table.openRequests() {
		if o.Request.Session != g.table.openRequests()[0].Request.Session || !o.Root.IsZero() || o.AddressID.IsZero() || seen[o.AddressID] {
			t.Errorf("opened by %+v, want each address to use the one session", o)
		}
		seen[o.AddressID] = true
	}
	if len(seen) != 6 {
		t.Errorf("%d addresses are opened, want 6", len(seen))
	}
}

func TestServe_TooManyAddresses_RetryLater(t *testing.T) {
	t.Parallel()
	for _, policy := range []NewAddressPolicy{CheckNewAddress, ShareSession} {
		g := newTestGateway(t, onNewAddress(policy))
		media := g.underTicket(t, home)
		g.table.decideFunc = func(session.OpenRequest) (backends.Decision, error) {
			return backends.Decision{}, backends.NewOverload("sessions.max_addresses", 6)
		}
		got := g.want(t, 503, media, forwardedFor(mobile))
		if got.header.Get("Retry-After") == "" || !strings.Contains(got.body, "sessions.max_addresses=6") {
			t.Errorf("%v: got Retry-After %q, %q", policy, got.header.Get("Retry-After"), got.body)
		}
		g.want(t, 200, media, forwardedFor(home))
	}
}

func TestServe_SharedCredentials_OneSessionForEachAddress(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, nil)
	ids, groups := map[backends.SessionID]bool{}, map[backends.SessionID]bool{}
	for i := range 20 {
		g.want(t, 200, "/play/a001/index.m3u8?token=1", forwardedFor(fmt.Sprintf("198.51.%d.7", i)))
	}
	g.want(t, 200, "/play/a001/index.m3u8?token=1", forwardedFor(homeV6))
	for _, o := range g.table.openRequests() {
		ids[o.Request.Session], groups[o.Request.Group] = true, true
	}
	if len(ids) != 21 || len(groups) != 1 || groups[backends.SessionID{}] {
		t.Errorf("%d sessions in groups %v, want 21 of one group", len(ids), groups)
	}
}

func TestServe_NoCredentials_NoGroup(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, nil)
	g.want(t, 200, "/play/a001/index.m3u8", forwardedFor(home))
	if got := g.table.openRequests()[0].Request.Group; !got.IsZero() {
		t.Errorf("viewers of one player are one group, %v", got)
	}
}

func TestServe_ForwardedForOfViewer_Ignored(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, func(c *Config) { c.TrustedProxies = nil })
	uri := "/~" + g.ticket(t, "a001") + "/play/a001/seg-17.ts"
	for i := range 50 {
		g.want(t, 200, uri, forwardedFor(fmt.Sprintf("198.51.%d.7", i)))
	}
	if n := len(g.table.openRequests()); n != 0 {
		t.Errorf("%d sessions are opened by what the viewer says of their address", n)
	}
}

func TestNewAddressPolicy_UnmarshalText(t *testing.T) {
	t.Parallel()
	for p := range numNewAddressPolicies {
		var got NewAddressPolicy
		text, _ := p.MarshalText()
		if err := got.UnmarshalText(text); err != nil || got != p {
			t.Errorf("%s: got %v, %v", text, got, err)
		}
	}
	var p NewAddressPolicy
	if err := p.UnmarshalText([]byte("ask")); err == nil || !strings.Contains(err.Error(), "check, share or refuse") {
		t.Errorf("got %v, want what is allowed", err)
	}
}

func TestRoute_SessionPrefix(t *testing.T) {
	t.Parallel()
	address := netip.MustParseAddr("192.0.2.7")
	own, all := netip.MustParsePrefix("192.0.2.7/32"), netip.Prefix{}
	for _, tc := range []struct {
		policy NewAddressPolicy
		query  string
		want   netip.Prefix
	}{
		{CheckNewAddress, "token=1", own},
		{RefuseNewAddress, "token=1", own},
		{ShareSession, "token=1", all},
		{ShareSession, "", own},
		{CheckNewAddress, "", own},
	} {
		r := &route{config: RouteConfig{OnNewAddress: tc.policy}}
		if got := r.sessionPrefix(&backends.Credentials{Query: tc.query}, address); got != tc.want {
			t.Errorf("%v with %q: got %v, want %v", tc.policy, tc.query, got, tc.want)
		}
	}
}

func TestRequestContext_IsAdmitted(t *testing.T) {
	t.Parallel()
	s := &fakeSession{}
	s.admit(netip.MustParsePrefix("192.0.2.7/32"))
	for _, tc := range []struct {
		policy  NewAddressPolicy
		address string
		want    bool
	}{
		{ShareSession, "192.0.2.7", true},
		{ShareSession, "192.0.2.8", false},
		{CheckNewAddress, "192.0.2.8", true},
		{RefuseNewAddress, "192.0.2.8", true},
	} {
		rc := &requestContext{
			target:  target{route: &route{config: RouteConfig{OnNewAddress: tc.policy}}},
			viewer:  client{address: netip.MustParseAddr(tc.address)},
			session: s,
		}
		if got := rc.isAdmitted(); got != tc.want {
			t.Errorf("%v from %s: got %v", tc.policy, tc.address, got)
		}
	}
}
