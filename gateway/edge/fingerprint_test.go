package edge

import (
	"fmt"
	"net/netip"
	"testing"
)

func TestFingerprints_Of_TellsApart(t *testing.T) {
	t.Parallel()
	f := NewFingerprints()
	t.Cleanup(f.Close)
	seen := map[Fingerprint]string{}
	for _, route := range []string{"r", "rc"} {
		for _, channel := range []string{"c", "cc", ""} {
			for _, agent := range []string{"", "a", "ca"} {
				for _, address := range []string{"192.0.2.7", "192.0.2.8", "::192.0.2.7", "2001:db8::7"} {
					what := fmt.Sprint(route, "|", channel, "|", agent, "|", address)
					key := f.Of(route, channel, "", netip.MustParseAddr(address), agent, false)
					if other, taken := seen[key]; taken {
						t.Errorf("%s looks like %s", what, other)
					}
					seen[key] = what
				}
			}
		}
	}
}
