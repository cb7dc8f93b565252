package users

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// maxConnections is beyond any sense, as for every backend.
const maxConnections = 1_000_000

// accountKeys are what an account may have, as an error lists them.
const accountKeys = "password, tokens, enable, expires, connections, addresses or channels"

// parse reads a file of accounts. Its error has a line "<name>:<line>:<column>: <key>: …" for everything wrong, and
// holds nothing of a password or a token.
func parse(name string, data []byte) (*accountTable, error) {
	p := &parser{
		problems: problems{file: name},
		table:    &accountTable{accounts: map[string]*account{}, tokens: map[fingerprint]*account{}},
	}
	if root := parseYAML(data, &p.problems); root != nil {
		p.root(root)
	}
	if err := p.problems.err(); err != nil {
		return nil, err
	}
	return p.table, nil
}

// parser fills a table.
type parser struct {
	problems
	table *accountTable
}

func (p *parser) root(n *yaml.Node) {
	found := false
	p.eachKey(n, "", func(key string, at position, value *yaml.Node) {
		if key != "users" {
			p.report(at, "", "unknown key; want users")
			return
		}
		found = true
		p.eachKey(value, "users", p.account)
	})
	if !found && !p.hasProblems() {
		p.report(positionOf(n), "", "no accounts; want users: { … }")
	}
}

func (p *parser) account(login string, at position, n *yaml.Node) {
	if err := validateLogin(login); err != nil { // which is not shown: it may be login:password
		p.report(at, "users", "a login %w", err)
		return
	}
	where := "users." + displayLogin(login)
	a := &account{login: login, enabled: true}
	proofs := 0
	read := p.eachKey(n, where, func(key string, at position, value *yaml.Node) {
		p.field(a, key, at, where, value, &proofs)
	})
	if read && proofs == 0 {
		p.report(at, where, "has neither password nor tokens, so nobody can use it")
	}
	p.table.accounts[login] = a
	if a.password.isSet() {
		p.table.passwords = append(p.table.passwords, a.password)
	}
}

// field reads one key of an account, and counts what a viewer could prove it by.
func (p *parser) field(a *account, key string, at position, where string, value *yaml.Node, proofs *int) {
	account := where
	where += "." + key
	switch key {
	case "password":
		*proofs++
		p.eachScalar(value, where, func(text string) (err error) {
			a.password, err = parsePassword(text, a.login)
			return err
		})
	case "tokens":
		if value.Kind != yaml.SequenceNode || len(value.Content) > 0 {
			*proofs++
		}
		p.eachItem(value, where, func(text string) error { return p.token(a, text) })
	case "enable":
		p.eachScalar(value, where, func(text string) (err error) {
			a.enabled, err = parseBool(text)
			return err
		})
	case "expires":
		p.eachScalar(value, where, func(text string) (err error) {
			a.expires, err = parseTime(text)
			return err
		})
	case "connections":
		p.eachScalar(value, where, func(text string) (err error) {
			a.connections, err = parseCount(text)
			return err
		})
	case "addresses":
		p.eachItem(value, where, func(text string) error {
			network, err := parseNetwork(text)
			a.addresses = append(a.addresses, network)
			return err
		})
	case "channels":
		p.eachItem(value, where, func(text string) error {
			a.channels = append(a.channels, text)
			return validatePattern(text)
		})
	default: // its text may be a secret that stands where none should
		p.report(at, account, "unknown key; want %s", accountKeys)
	}
}

func (p *parser) token(a *account, text string) error {
	f, err := parseToken(text)
	if err != nil {
		return err
	}
	if other := p.table.tokens[f]; other != nil {
		return fmt.Errorf("is one of %s already", displayLogin(other.login))
	}
	p.table.tokens[f] = a
	return nil
}

// validateLogin refuses what could not be given as login:password, and what is not fit to be shown.
func validateLogin(login string) error {
	switch {
	case login == "":
		return errors.New("is empty")
	case len(login) > maxLoginBytes:
		return fmt.Errorf("is longer than %d bytes", maxLoginBytes)
	case strings.Contains(login, ":"):
		return errors.New("has a colon, which ends it in login:password")
	case !utf8.ValidString(login) || strings.ContainsFunc(login, func(r rune) bool { return !unicode.IsGraphic(r) }):
		return errors.New("has characters that cannot be shown")
	}
	return nil
}

func parseBool(text string) (bool, error) {
	switch text {
	case "true", "false":
		return text == "true", nil
	default:
		return false, errors.New("want true or false")
	}
}

// parseTime reads RFC 3339, or the seconds of a Unix time. A date alone is refused, because it does not say whether its
// day counts.
func parseTime(text string) (time.Time, error) {
	wrong := errors.New("want a time such as 2026-12-31T00:00:00Z, or seconds since 1970 such as 1798675200")
	if seconds, err := strconv.ParseInt(text, 10, 64); err == nil {
		if seconds <= 0 || seconds > 253402300799 { // the year 9999; milliseconds are beyond
			return time.Time{}, wrong
		}
		return time.Unix(seconds, 0), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, wrong
	}
	return at, nil
}

func parseCount(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > maxConnections {
		return 0, fmt.Errorf("want a number from 0 (no bound) to %d", maxConnections)
	}
	return n, nil
}

// parseNetwork reads an address or a CIDR, as the kind iprules does. Bits beyond the prefix length are an error,
// because 192.0.2.7/24 may mean either of two things.
func parseNetwork(text string) (netip.Prefix, error) {
	wrong := errors.New("want an address such as 192.0.2.7, or a CIDR such as 192.0.2.0/24 or 2001:db8::/32")
	if !strings.Contains(text, "/") {
		address, err := netip.ParseAddr(text)
		if err != nil || address.Zone() != "" {
			return netip.Prefix{}, wrong
		}
		address = address.Unmap()
		return netip.PrefixFrom(address, address.BitLen()), nil
	}
	network, err := netip.ParsePrefix(text)
	if err != nil || network.Addr().Is4In6() && network.Bits() < 96 {
		return netip.Prefix{}, wrong
	}
	if network.Addr().Is4In6() {
		network = netip.PrefixFrom(network.Addr().Unmap(), network.Bits()-96)
	}
	if network != network.Masked() {
		return netip.Prefix{}, fmt.Errorf("has bits beyond its prefix length; want %s", network.Masked())
	}
	return network, nil
}

func validatePattern(text string) error {
	if text == "" {
		return errors.New("is empty")
	}
	if _, err := path.Match(text, ""); err != nil {
		return errors.New(`is no pattern; want a channel, with * and ? for any text and character, such as "sport-*"`)
	}
	return nil
}
