package users

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"usher/backends/setting"
)

// maxConnections bounds connections, as for every backend.
const maxConnections = 1_000_000

// accountKeys lists the keys of an account for errors.
const accountKeys = "password, tokens, enable, expires, connections, addresses or channels"

// parse parses a file of accounts. Its error has a line "<name>:<line>:<column>: <key>: …" for each problem, and shows
// nothing of a password or token.
func parse(name string, data []byte) (*accountTable, error) {
	p := &parser{
		problems: problems{file: name},
		accounts: &accountTable{accounts: map[string]*account{}, tokens: map[fingerprint]*account{}},
	}
	if root := parseYAML(data, &p.problems); root != nil {
		p.parseRoot(root)
	}
	if err := p.problems.err(); err != nil {
		return nil, err
	}
	return p.accounts, nil
}

// parser parses a file into accounts.
type parser struct {
	problems
	accounts *accountTable
}

func (p *parser) parseRoot(n *yaml.Node) {
	found := false
	p.eachKey(n, "", func(key string, at position, value *yaml.Node) {
		if key != "users" {
			p.report(at, "", "unknown key; want users")
			return
		}
		found = true
		p.eachKey(value, "users", p.parseAccount)
	})
	if !found && !p.hasProblems() {
		p.report(positionOf(n), "", "no accounts; want users: { … }")
	}
}

func (p *parser) parseAccount(login string, at position, n *yaml.Node) {
	if err := validateLogin(login); err != nil { // does not show the login: it may be login:password
		p.report(at, "users", "a login %w", err)
		return
	}
	where := "users." + displayLogin(login)
	a := &account{login: login, enabled: true}
	credentialCount := 0
	isSection := p.eachKey(n, where, func(key string, at position, value *yaml.Node) {
		p.parseField(a, key, at, where, value, &credentialCount)
	})
	if isSection && credentialCount == 0 {
		p.report(at, where, "has neither password nor tokens, so no viewer can use it")
	}
	p.accounts.accounts[login] = a
	if a.password.isSet() {
		p.accounts.passwords = append(p.accounts.passwords, a.password)
	}
}

// parseField parses one key of an account, and counts its credentials.
func (p *parser) parseField(a *account, key string, at position, where string, value *yaml.Node, credentialCount *int) {
	account := where
	where += "." + key
	switch key {
	case "password":
		*credentialCount++
		p.eachScalar(value, where, func(text string) (err error) {
			a.password, err = parsePassword(text, a.login)
			return err
		})
	case "tokens":
		if value.Kind != yaml.SequenceNode || len(value.Content) > 0 {
			*credentialCount++
		}
		p.eachItem(value, where, func(text string) error { return p.addToken(a, text) })
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
		p.eachLimit(value, where, func(text string) error {
			network, err := setting.ParseNetwork(text, errNetwork)
			a.addresses = append(a.addresses, network)
			return err
		})
	case "channels":
		p.eachLimit(value, where, func(text string) error {
			a.channels = append(a.channels, text)
			return setting.ValidateChannelPattern(text)
		})
	default: // the key is not shown: it may be a misplaced secret
		p.report(at, account, "unknown key; want %s", accountKeys)
	}
}

// eachLimit calls do for each item of a list that limits an account. It reports an empty one, which would not limit it: a program
// that writes the file may mean that nothing is allowed.
func (p *parser) eachLimit(value *yaml.Node, where string, do func(text string) error) {
	if value.Kind == yaml.SequenceNode && len(value.Content) == 0 {
		p.report(positionOf(value), where, "is empty; leave the key out for all, or set enable: false for none")
	}
	p.eachItem(value, where, do)
}

func (p *parser) addToken(a *account, text string) error {
	f, err := parseToken(text)
	if err != nil {
		return err
	}
	if other := p.accounts.tokens[f]; other != nil {
		return fmt.Errorf("is already a token of %s", displayLogin(other.login))
	}
	p.accounts.tokens[f] = a
	return nil
}

// validateLogin rejects a login that cannot be sent as login:password or cannot be displayed.
func validateLogin(login string) error {
	switch {
	case login == "":
		return errors.New("is empty")
	case len(login) > maxLoginBytes:
		return fmt.Errorf("is longer than %d bytes", maxLoginBytes)
	case strings.Contains(login, ":"):
		return errors.New("has a colon, which separates login and password")
	case !utf8.ValidString(login) || strings.ContainsFunc(login, func(r rune) bool { return !unicode.IsGraphic(r) }):
		return errors.New("has unprintable characters")
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

// parseTime parses RFC 3339, or a Unix time in seconds. It rejects a date alone, because it is unclear whether that day
// is included.
func parseTime(text string) (time.Time, error) {
	invalid := errors.New("want a time such as 2026-12-31T00:00:00Z, or seconds since 1970 such as 1798675200")
	if seconds, err := strconv.ParseInt(text, 10, 64); err == nil {
		if seconds <= 0 || seconds > 253402300799 { // the year 9999; a time in milliseconds is beyond
			return time.Time{}, invalid
		}
		return time.Unix(seconds, 0), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, invalid
	}
	return at, nil
}

func parseCount(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > maxConnections {
		return 0, fmt.Errorf("want a number from 0 (unlimited) to %d", maxConnections)
	}
	return n, nil
}

// errNetwork reports text that is neither an address nor a CIDR.
var errNetwork = errors.New("want an address such as 192.0.2.7, or a CIDR such as 192.0.2.0/24 or 2001:db8::/32")
