package soak

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"usher/bench/viewer/playlist"
)

// banners is how many bans and unbans go on at once.
const banners = 3

// banner bans one viewer after the other on a node, and looks whether the nodes hold to it.
type banner struct {
	*world
	number int
	turn   int
	chance *rand.Rand
}

// ban is a ban that a node accepted.
type ban struct {
	id      string
	viewer  bannedViewer
	placer  int // the node
	process int // the placer's
	since   time.Time
}

// bannedViewer is who is banned.
type bannedViewer struct{ token, address, entry, media string }

func (b *banner) run(ctx context.Context) {
	for ctx.Err() == nil {
		b.turn++
		placer := b.chance.IntN(len(b.nodes))
		if viewer, ok := b.open(ctx, b.nodes[placer]); ok {
			if placed, ok := b.place(ctx, placer, viewer); ok {
				b.hold(ctx, &placed)
				b.lift(ctx, &placed)
			}
		}
		pause(ctx, time.Second)
	}
}

// open has a viewer begin to play at a node.
func (b *banner) open(ctx context.Context, n *node) (v bannedViewer, ok bool) {
	v.token = fmt.Sprintf("good-banned-%d-%d", b.number, b.turn)
	v.address = fmt.Sprintf("10.%d.%d.%d", 30+b.number, b.turn>>8, b.turn&0xff)
	v.entry = "/" + routes()[b.chance.IntN(len(routes()))] + "/" + channel(b.turn) + "/index.m3u8?token=" + v.token
	status, body, err := b.ask(ctx, n, &v, v.entry)
	var list playlist.Playlist
	if err != nil || status != http.StatusOK || list.Read(body) != nil || len(list.Variants) == 0 {
		return v, false
	}
	v.media = string(list.Lowest().URI)
	return v, true
}

func (b *banner) ask(ctx context.Context, n *node, v *bannedViewer, path string) (status int, body []byte, err error) {
	const most = 3 * time.Second
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	return fetch(ctx, n.client, publicURL+path, map[string]string{"X-Forwarded-For": v.address})
}

// place bans the viewer, in one of the ways that an operator has.
func (b *banner) place(ctx context.Context, placer int, v bannedViewer) (placed ban, ok bool) {
	n := b.nodes[placer]
	var found struct {
		Sessions []struct {
			ID   string `json:"id"`
			User string `json:"user_id"`
		} `json:"sessions"`
	}
	process := n.number()
	status, err := n.api(ctx, http.MethodGet, "sessions?address="+url.QueryEscape(v.address), nil, &found)
	if err != nil || status != http.StatusOK || len(found.Sessions) == 0 {
		return placed, false
	}
	ways := []map[string]any{
		{"session": found.Sessions[0].ID}, {"credentials_of": found.Sessions[0].ID}, {"address": v.address},
	}
	if user := found.Sessions[0].User; user != "" { // else the middleware has not said who it is
		ways = append(ways, map[string]any{"user": user})
	}
	request := ways[b.chance.IntN(len(ways))]
	request["duration"], request["reason"] = "10m", "soak"
	var answer struct {
		ID string `json:"id"`
	}
	status, err = n.api(ctx, http.MethodPost, "bans", request, &answer)
	if err != nil || status >= http.StatusMultipleChoices || answer.ID == "" {
		return placed, false
	}
	return ban{answer.ID, v, placer, process, time.Now()}, true
}

// hold looks for some time whether all nodes refuse the viewer.
func (b *banner) hold(ctx context.Context, placed *ban) {
	const interval, least, most = 250 * time.Millisecond, 8 * time.Second, 25 * time.Second
	until := time.Now().Add(min(between(b.chance, least, most), b.config.For/2))
	for time.Now().Before(until) && pause(ctx, interval) {
		for i := range b.nodes {
			b.try(ctx, i, placed)
		}
	}
}

// grace is how long after a node and the placer have reached Redis a ban may be unknown to the node.
const grace = time.Second

// try asks a node as the banned viewer.
func (b *banner) try(ctx context.Context, at int, placed *ban) {
	n := b.nodes[at]
	process, sent := n.number(), time.Now()
	path := placed.viewer.media
	if b.chance.IntN(2) == 0 {
		path = placed.viewer.entry
	}
	why := b.mustRefuse(at, placed, sent)
	if why == "" {
		return
	}
	status, _, err := b.ask(ctx, n, &placed.viewer, path)
	if err != nil || b.mustRefuse(at, placed, sent) == "" || n.number() != process {
		return
	}
	b.ledger.checkRefused(bansHeld, status, func() string {
		what, _, _ := strings.Cut(path, "?")
		return fmt.Sprintf("%s: status %d for %s of %s, banned on %s %v before; %s", n.host.Name, status, what, placed.viewer.token,
			b.nodes[placed.placer].host.Name, sent.Sub(placed.since).Round(time.Millisecond), why)
	})
}

// mustRefuse returns why a node must refuse a banned viewer who asks at a time; empty: it need not.
func (b *banner) mustRefuse(at int, placed *ban, sent time.Time) (why string) {
	if why := b.knows(at, placed, sent); why != "" {
		return why
	}
	placer := b.nodes[placed.placer]
	if placer.number() != placed.process && b.watched[placed.placer].wasDistrustedSince(placed.since) {
		return "" // the ban may be lost with the placer
	}
	since := placed.since
	for _, w := range []*watched{b.watched[placed.placer], b.watched[at]} {
		reaches, ok := w.reachesSince()
		if !ok {
			return ""
		}
		if reaches.After(since) {
			since = reaches
		}
	}
	if sent.Sub(since) < grace {
		return ""
	}
	return fmt.Sprintf("it and %s reach redis for %v", placer.host.Name, sent.Sub(since).Round(time.Millisecond))
}

// knows returns how a node has heard of a ban; empty: it is not known to have.
func (b *banner) knows(at int, placed *ban, sent time.Time) string {
	n, w := b.nodes[at], b.watched[at]
	if at == placed.placer && n.number() == placed.process {
		return "it placed the ban"
	}
	heard, isHeard := w.hearing(placed.id)
	switch {
	case !isHeard:
		return ""
	case heard.process == n.number() && sent.After(heard.at):
		return fmt.Sprintf("it listed the ban %v before", sent.Sub(heard.at).Round(time.Millisecond))
	case heard.process < n.number() && n.killed().Sub(heard.at) > grace && !w.wasDistrustedSince(heard.at):
		return "it listed the ban before it was killed, and its disk was never full, nor its clock set"
	}
	return ""
}

// lift ends the ban through any node. One that cannot is asked again later: the ban ends by itself at last.
func (b *banner) lift(ctx context.Context, placed *ban) {
	const attempts = 5
	for range attempts {
		n := b.nodes[b.chance.IntN(len(b.nodes))]
		if status, err := n.api(ctx, http.MethodDelete, "bans/"+placed.id, nil, nil); err == nil && status < http.StatusMultipleChoices {
			return
		}
		if !pause(ctx, time.Second) {
			return
		}
	}
}
