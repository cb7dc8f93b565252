package iprules

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"

	"usher/backends"
)

// Backend decides by address. It is immutable and safe for concurrent use.
type Backend struct {
	decisions []backends.Decision // one per rule
	// byNetwork holds the index of each network's first rule.
	byNetwork map[netip.Prefix]int
	// lengths4 and lengths6 are the prefix lengths in use.
	lengths4 []int
	lengths6 []int
	// firstForAll is the index of the first rule for all, or the number of rules.
	firstForAll int
	fallback    backends.Decision
}

var _ backends.Backend = (*Backend)(nil)

// New makes the named backend. It fails if the config is invalid. It logs nothing.
func New(name string, cfg Config, _ *slog.Logger) (*Backend, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("make backend %q: %w", name, err)
	}
	b := &Backend{
		byNetwork: make(map[netip.Prefix]int, len(cfg.Rules)), firstForAll: len(cfg.Rules),
		fallback: decisionFor(cfg.Default, "no rule matches; default: "+cfg.Default.String()),
	}
	for i, text := range cfg.Rules {
		r, err := parseRule(text)
		if err != nil {
			return nil, fmt.Errorf("make backend %q: rules[%d]: %w", name, i, err)
		}
		b.decisions = append(b.decisions, decisionFor(r.action, fmt.Sprintf("rules[%d]: %s", i, text)))
		b.indexRule(r, i)
	}
	return b, nil
}

// indexRule adds a rule, unless an earlier one has the same network.
func (b *Backend) indexRule(r rule, i int) {
	if r.matchesAll {
		b.firstForAll = min(b.firstForAll, i)
		return
	}
	if _, earlier := b.byNetwork[r.network]; !earlier {
		b.byNetwork[r.network] = i
	}
	lengths := &b.lengths6
	if r.network.Addr().Is4() {
		lengths = &b.lengths4
	}
	if !slices.Contains(*lengths, r.network.Bits()) {
		*lengths = append(*lengths, r.network.Bits())
	}
}

func decisionFor(v Action, reason string) backends.Decision {
	verdict := [...]backends.Verdict{Pass: backends.Pending, Allow: backends.Allowed, Deny: backends.Denied}[v]
	return backends.LocalDecision(verdict, reason)
}

// Check looks up the viewer's address. It never fails, and does not allocate.
func (b *Backend) Check(_ context.Context, r *backends.Request) (backends.Decision, error) {
	first := b.firstForAll
	if address := r.Address.Unmap().WithZone(""); address.IsValid() {
		first = b.firstMatch(address)
	}
	if first == len(b.decisions) {
		return b.fallback, nil
	}
	return b.decisions[first], nil
}

// firstMatch returns the index of the first rule that matches the address, or the number of rules.
func (b *Backend) firstMatch(address netip.Addr) int {
	lengths := b.lengths6
	if address.Is4() {
		lengths = b.lengths4
	}
	first := b.firstForAll
	for _, bits := range lengths {
		network, _ := address.Prefix(bits) // cannot fail: bits is of the address's family
		if i, found := b.byNetwork[network]; found {
			first = min(first, i)
		}
	}
	return first
}
