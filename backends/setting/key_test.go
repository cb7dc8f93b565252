package setting_test

import (
	"testing"

	"usher/backends/setting"
)

func TestValidateKeys(t *testing.T) {
	t.Parallel()
	const secret = "sixteen bytes or more"
	tests := map[string]struct {
		keys []setting.Key
		want string
	}{
		"no keys":             {nil, ""},
		"two keys":            {[]setting.Key{{ID: "a", Secret: secret}, {ID: "Key16letters9999", Secret: secret}}, ""},
		"the shortest secret": {[]setting.Key{{ID: "a", Secret: "sixteen bytes ok"}}, ""},
		"a shorter one": {
			[]setting.Key{{ID: "a", Secret: "fifteen bytes o"}}, "tickets.keys[0].secret: has 15 bytes; want at least 16",
		},
		"no id": {
			[]setting.Key{{Secret: secret}},
			`tickets.keys[0].id: "": want 1 to 16 letters and digits, unlike any other key's`,
		},
		"an id twice": {
			[]setting.Key{{ID: "a", Secret: secret}, {ID: "a", Secret: secret}},
			`tickets.keys[1].id: "a": want 1 to 16 letters and digits, unlike any other key's`,
		},
		"a long id and a short secret": {
			[]setting.Key{{ID: "Key17letters99999", Secret: "short"}},
			`tickets.keys[0].id: "Key17letters99999": want 1 to 16 letters and digits, unlike any other key's` + "\n" +
				`tickets.keys[0].secret: has 5 bytes; want at least 16`,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := ""
			if err := setting.ValidateKeys("tickets.keys", test.keys); err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("ValidateKeys: %q; want %q", got, test.want)
			}
		})
	}
}
