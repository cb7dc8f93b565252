package actors

import "sync"

// audience counts the viewers who are watching, for backends that want to know. The zero value counts none.
type audience struct {
	mu       sync.Mutex
	channels map[string]int
	all      int
}

func (a *audience) change(channel string, watching bool) {
	by := -1
	if watching {
		by = 1
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.channels == nil {
		a.channels = make(map[string]int)
	}
	a.all += by
	if a.channels[channel] += by; a.channels[channel] == 0 {
		delete(a.channels, channel) // viewers name channels, also such as there are not
	}
}

func (a *audience) of(channel string) (ofChannel, all int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.channels[channel], a.all
}
