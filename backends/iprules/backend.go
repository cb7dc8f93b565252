package iprules

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"

	"usher/backends"
)

// Backend decides by address. It is not changed after it was made, so it is safe for concurrent use.
type Backend struct {
	decisions []backends.Decision // what each says
	// byNetwork finds a network's first rule, and lengths are the prefix lengths that there are, of each family.
	byNetwork map[netip.Prefix]int
	lengths4  []int
	lengths6  []int
	// firstForAll is the first rule that fits everybody.
	firstForAll      int
	fallback backends.Decision
}

var _ backends.Backend = (*Backend)(nil)

// New makes the named backend. It fails if the config is wrong. Nothing is logged.
func New(name string, cfg Config, _ *slog.Logger) (*Backend, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("make backend %q: %w", name, err)
	}
	b := &Backend{
		byNetwork: make(map[netip.Prefix]int, len(cfg.Rules)), firstForAll: len(cfg.Rules),
		fallback: decisionFor(cfg.Default, "no rule fits; default: "+cfg.Default.String()),
	}
	for i, text := range cfg.Rules {
		r, err := parseRule(text)
		if err != nil {
			return nil, fmt.Errorf("make backend %q: rules[%d]: %w", name, i, err)
		}
		b.decisions = append(b.decisions, decisionFor(r.action, fmt.Sprintf("rules[%d]: %s", i, text)))
		b.indexRule(r, i)
	}
	slices.Sort(b.lengths4)
	slices.Sort(b.lengths6)
	return b, nil
}

// indexRule notes a rule, unless an earlier one fits all that it fits.
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
	return backends.Decision{Verdict: verdict, Source: backends.FromLocal, Reason: reason}
}

// Check looks the viewer's address up. It never fails, and does not allocate.
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

// firstMatch is the first rule that fits the address, or the number of rules.
func (b *Backend) firstMatch(address netip.Addr) int {
	lengths := b.lengths6
	if address.Is4() {
		lengths = b.lengths4
	}
	first := b.firstForAll
	for _, bits := range lengths {
		network, _ := address.Prefix(bits) // the length is of the address's family
		if i, found := b.byNetwork[network]; found {
			first = min(first, i)
		}
	}
	return first
}
