package actors

import "sync"

// viewerCount counts the viewers who are watching, for backends that want to know. The zero value counts none.
type viewerCount struct {
	mu        sync.Mutex
	byChannel map[string]int
	total     int
}

func (a *viewerCount) change(channel string, watching bool) {
	by := -1
	if watching {
		by = 1
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.byChannel == nil {
		a.byChannel = make(map[string]int)
	}
	a.total += by
	if a.byChannel[channel] += by; a.byChannel[channel] == 0 {
		delete(a.byChannel, channel) // viewers name channels, also such as there are not
	}
}

func (a *viewerCount) count(channel string) (ofChannel, all int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.byChannel[channel], a.total
}
