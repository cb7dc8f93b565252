package edge

import "testing"

func TestDialect_Text(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]Dialect{
		"astra": Astra, "alta": Alta, "flussonic": Flussonic, "nginx": Nginx, "forward-auth": ForwardAuth, "envoy": Envoy,
	} {
		var d Dialect
		if err := d.UnmarshalText([]byte(word)); err != nil || d != want {
			t.Errorf("UnmarshalText(%q): got %v, %v", word, d, err)
		}
		if text, err := d.MarshalText(); err != nil || string(text) != word {
			t.Errorf("MarshalText of %q: got %q, %v", word, text, err)
		}
		if keeps := want <= Flussonic; d.KeepsSessions() != keeps {
			t.Errorf("%s: KeepsSessions is %v", word, !keeps)
		}
	}
	if NoDialect.String() != "" || NoDialect.KeepsSessions() {
		t.Errorf("the zero value: got %q, keeps sessions %v", NoDialect, NoDialect.KeepsSessions())
	}
}

func TestDialect_UnmarshalText_Unknown(t *testing.T) {
	t.Parallel()
	for _, word := range []string{"", "Astra", "traefik"} {
		d := Alta
		err := d.UnmarshalText([]byte(word))
		want := `dialect "` + word + `": want one of astra, alta, flussonic, nginx, forward-auth, envoy`
		if err == nil || err.Error() != want || d != Alta {
			t.Errorf("UnmarshalText(%q): got %v, %v, want %s", word, d, err, want)
		}
	}
}

func TestMatchMode_Text(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]MatchMode{
		"": MatchByDefault, "address+user_agent": MatchByAddressAgent, "cookie": MatchByCookie,
		"playlists-only": MatchByPlaylistsOnly, "none": MatchByNone,
	} {
		r := MatchMode(99)
		if err := r.UnmarshalText([]byte(word)); err != nil || r != want {
			t.Errorf("UnmarshalText(%q): got %d, %v", word, r, err)
		}
		if text, err := r.MarshalText(); err != nil || string(text) != word {
			t.Errorf("MarshalText of %q: got %q, %v", word, text, err)
		}
	}
	var r MatchMode
	want := `match_by "address": want address+user_agent, cookie, playlists-only or none`
	if err := r.UnmarshalText([]byte("address")); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestMatchMode_OrDefault(t *testing.T) {
	t.Parallel()
	for d := Astra; d < numDialects; d++ {
		want := MatchByAddressAgent
		if d == Astra || d == Alta || d == Flussonic {
			want = MatchByNone
		}
		if got := MatchByDefault.OrDefault(d); got != want {
			t.Errorf("%s: the default is %s, want %s", d, got, want)
		}
		for r := MatchByAddressAgent; r < numMatchModes; r++ {
			if got := r.OrDefault(d); got != r {
				t.Errorf("%s: %s became %s", d, r, got)
			}
		}
	}
}
