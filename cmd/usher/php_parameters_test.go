package main

import (
	"net/http"
	"strings"
	"testing"
)

// TestNode_PHP_ParametersNotReplaced has a viewer at another address spell the contract's parameters in every way that PHP
// reads as their names.
func TestNode_PHP_ParametersNotReplaced(t *testing.T) {
	t.Parallel()
	spellings := []string{
		"NAME=VALUE", "NAME[]=VALUE", "NAME[0]=VALUE", "+NAME=VALUE", "%20NAME=VALUE", "NAME%00=VALUE", "NAME%5B%5D=VALUE", "%4eAME=VALUE",
	}
	var forged []string
	for name, value := range map[string]string{"name": "a001", "ip": "192.0.2.7"} {
		for _, s := range spellings {
			s = strings.Replace(s, "%4eAME", "%"+hexOf(name[0])+name[1:], 1)
			forged = append(forged, strings.NewReplacer("NAME", name, "VALUE", value).Replace(s))
		}
	}
	php, _ := startPHP(t)
	for name, settings := range map[string][3]string{
		"smarty":                  {"smarty", "/token/check/", ", send: [ name, ip ]"},
		"flussonic":               {"flussonic", "", ""},
		"iptvportal as Flussonic": {"iptvportal", "/auth/flussonic/arescrypt/", ""},
	} {
		n := newPHPNode(t, settings[0], php+"/parameters.php"+settings[1], settings[2])
		if status, _ := n.play(t, "192.0.2.7", "token=1&"+strings.Join(forged, "&")); status != http.StatusOK {
			t.Errorf("%s: the viewer whom the script allows gets %d, want 200", name, status)
		}
		for _, one := range append(forged, strings.Join(forged, "&"), strings.Join(forged, ";")) {
			if status, _ := n.play(t, "198.51.100.9", "token=1&"+one); status != http.StatusForbidden {
				t.Errorf("%s: a viewer at another address with %s gets %d, want 403", name, one, status)
			}
		}
	}
}

func hexOf(c byte) string {
	const digits = "0123456789abcdef"
	return string([]byte{digits[c>>4], digits[c&15]})
}
