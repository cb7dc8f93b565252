package main

import (
	"crypto/md5"
	"encoding/base64"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"usher/gateway"
)

// The addresses of a viewer who moves from one to the other.
const (
	wifi   = "192.0.2.7"
	mobile = "198.51.100.9"
)

const linkPath = "/single/a001/index.m3u8"

// linkNode starts a node whose viewers show links that expire, and nothing else. Their times have ten digits, as a bubble's clock has
// from 2001 on.
func linkNode(t *testing.T, origin string) *node {
	t.Helper()
	time.Sleep(time.Until(time.Unix(1_000_000_000, 0)))
	return newBubbleNode(t, origin, `{ kind: signedlink, secret: "0123456789abcdef", md5_parameter: token }`, "ticket_in: path")
}

// signedLink returns a link that is valid for so long.
func signedLink(validFor time.Duration) string {
	expires := strconv.FormatInt(time.Now().Add(validFor).Unix(), 10)
	sum := md5.Sum([]byte("0123456789abcdef" + linkPath + expires))
	return linkPath + "?token=" + base64.RawURLEncoding.EncodeToString(sum[:]) + "&e=" + expires
}

// ask passes a request of a viewer at the address to the node's gateway.
func (n *node) ask(t *testing.T, address, uri string) (status int, body string) {
	t.Helper()
	u, err := url.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	var a gateway.Response
	defer a.Reset()
	r := gateway.Request{
		Method: http.MethodGet, Scheme: "http", Host: "tv.example.com", Path: u.EscapedPath(), Query: u.RawQuery,
		Peer: netip.MustParseAddr(address), Header: http.Header{"User-Agent": {"MAG200"}},
	}
	if err := n.current.Load().gateway.Serve(t.Context(), &r, &a); err != nil {
		t.Fatalf("GET %s: %v", uri, err)
	}
	if a.Stream != nil {
		_ = a.Stream.Close()
	}
	return a.Status, string(a.Body)
}

// wantStatus wants the request answered so.
func (n *node) wantStatus(t *testing.T, what, address, uri string, want int) {
	t.Helper()
	if status, why := n.ask(t, address, uri); status != want {
		t.Errorf("%s: %d %.100q, want %d", what, status, why, want)
	}
}

// openLink opens a session by a link that is valid for seconds, and returns the link and the folder of the ticket.
func (n *node) openLink(t *testing.T) (link, ticket string) {
	t.Helper()
	link = signedLink(5 * time.Second)
	status, playlist := n.ask(t, wifi, link)
	if status != http.StatusOK {
		t.Fatalf("opening: %d %s", status, playlist)
	}
	segment := lastURI(t, linkPath, playlist)
	return link, segment[:strings.Index(segment[1:], "/")+1]
}

// TestNode_ExpiredLink_MovesAndRestarts has a viewer play on whose link has expired: from another address, and on a node that has just
// started, whichever request comes first there.
func TestNode_ExpiredLink_MovesAndRestarts(t *testing.T) {
	t.Parallel()
	origin := startOrigin(t)
	synctest.Test(t, func(t *testing.T) {
		n := linkNode(t, origin)
		link, ticket := n.openLink(t)
		for range 3 {
			time.Sleep(10 * time.Second)
			n.wantStatus(t, "at home", wifi, ticket+linkPath, http.StatusOK)
		}
		n.wantStatus(t, "from another address", mobile, ticket+linkPath, http.StatusOK)

		restarted := linkNode(t, origin)
		restarted.wantStatus(t, "the dead link alone, on a new node", wifi, link, http.StatusForbidden)
		restarted.wantStatus(t, "the ticket after it", wifi, ticket+linkPath, http.StatusOK)
		restarted.wantStatus(t, "both", wifi, ticket+link, http.StatusOK)
	})
}

// TestNode_ExpiredLink_TooOld has a viewer come back when their ticket admits nobody any more: the link must be valid again.
func TestNode_ExpiredLink_TooOld(t *testing.T) {
	t.Parallel()
	origin := startOrigin(t)
	for name, isNew := range map[string]bool{"on the same node": false, "on a new node": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := linkNode(t, origin)
				link, ticket := n.openLink(t)
				time.Sleep(12 * time.Hour)
				if isNew {
					n = linkNode(t, origin)
				}
				n.wantStatus(t, "both", wifi, ticket+link, http.StatusForbidden)
				time.Sleep(time.Minute) // so that each is judged anew
				n.wantStatus(t, "the ticket", wifi, ticket+linkPath, http.StatusForbidden)
				time.Sleep(time.Minute)
				n.wantStatus(t, "the link", wifi, link, http.StatusForbidden)
				time.Sleep(time.Minute)
				n.wantStatus(t, "a new link", wifi, signedLink(time.Minute), http.StatusOK)
			})
		})
	}
}

// TestNode_ExpiredLink_Returns has a viewer come back whose session has ended, without a ticket. It does not matter when they were there,
// nor how often they try.
func TestNode_ExpiredLink_Returns(t *testing.T) {
	t.Parallel()
	origin := startOrigin(t)
	synctest.Test(t, func(t *testing.T) {
		n := linkNode(t, origin)
		link, ticket := n.openLink(t)
		time.Sleep(3 * time.Hour)
		for range 3 {
			n.wantStatus(t, "the link", wifi, link, http.StatusForbidden)
			time.Sleep(time.Minute) // so that each is judged anew
		}
		n.wantStatus(t, "the link once more", wifi, link, http.StatusForbidden)
		n.wantStatus(t, "the ticket, which holds", wifi, ticket+linkPath, http.StatusOK)
	})
}
