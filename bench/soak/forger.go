package soak

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// forge asks the nodes with tickets that nobody got, until ctx ends.
func (w *world) forge(ctx context.Context, pool *ticketPool, chance *rand.Rand) {
	const interval, most = 100 * time.Millisecond, 5 * time.Second
	for pause(ctx, interval) {
		path, ok := pool.draw(chance)
		if !ok {
			continue
		}
		forged := alter(path, chance)
		n := w.nodes[chance.IntN(len(w.nodes))]
		whole, cancel := context.WithTimeout(ctx, most)
		status, _, err := fetch(whole, n.client, publicURL+forged, nil)
		cancel()
		if err != nil {
			continue // the node is stopped or killed
		}
		w.ledger.checkRefused(forgedRefused, status, func() string {
			return fmt.Sprintf("%s: status %d for %s, made of %s", n.host.Name, status, forged, path)
		})
	}
}

const base64Characters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// alter makes a path with a ticket that was not issued for it of one with a good ticket: "/~a.XXXX/play/ch1/low.m3u8".
func alter(path string, chance *rand.Rand) string {
	ticket, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	route, file, _ := strings.Cut(rest, "/")
	name, file, _ := strings.Cut(file, "/")
	begin := strings.IndexByte(ticket, '.') + 1
	ways := []func(){
		func() { // one character
			at := begin + chance.IntN(len(ticket)-begin)
			if c := base64Characters[chance.IntN(len(base64Characters))]; c != ticket[at] {
				ticket = ticket[:at] + string(c) + ticket[at+1:]
			} else {
				ticket = ticket[:at] + "." + ticket[at+1:]
			}
		},
		func() { // all of them
			all := []byte(ticket)
			for i := begin; i < len(all); i++ {
				all[i] = base64Characters[chance.IntN(len(base64Characters))]
			}
			ticket = string(all)
		},
		func() { ticket = ticket[:len(ticket)-1-chance.IntN(len(ticket)-begin)] },
		func() { ticket += string(base64Characters[chance.IntN(len(base64Characters))]) },
		func() { ticket = "~b" + ticket[begin-1:] }, // of another key
		func() { name = otherChannel(name, chance) },
		func() { route = map[string]string{"play": "live", "live": "play"}[route] },
	}
	ways[chance.IntN(len(ways))]()
	return "/" + ticket + "/" + route + "/" + name + "/" + file
}

// otherChannel returns another channel that there is: its files would be served if the ticket were believed.
func otherChannel(name string, chance *rand.Rand) string {
	for {
		if other := channel(chance.IntN(channels)); other != name {
			return other
		}
	}
}
