package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

var (
	mutations    = flag.Int("mutations", 200, "how many mutations of valid settings files are tried")
	mutationSeed = flag.Uint64("mutation-seed", 0, "the seed of the first of them; the next have the next seeds")
)

// mutationBases returns valid settings files with every key spelled, beside the files that they name. They listen at free
// ports, and name a Redis that refuses connections.
func mutationBases(t *testing.T, folder string) [][]byte {
	t.Helper()
	pages, err := filepath.Glob(filepath.Join(pagesFolder, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	accounts := filepath.Join(folder, "accounts.yaml")
	if err := os.WriteFile(accounts, []byte("users: { alice: { tokens: [ 0123456789abcdef0123456789 ] } }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var bases [][]byte
	for _, file := range append(pages, sampleFile) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`file:([a-z.]+)`).FindAllSubmatch(text, -1) {
			if err := os.WriteFile(filepath.Join(folder, string(m[1])), []byte(sampleKey+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		text = bytes.ReplaceAll(uncomment(text), []byte("/etc/usher/users.yaml"), []byte(accounts))
		bases = append(bases, regexp.MustCompile(`(?m)^( *listen:) "[^"].*`).ReplaceAll(text, []byte(`$1 "127.0.0.1:0"`)))
	}
	writeCertificate(t, filepath.Join(folder, "node.pem"))
	return append(bases, []byte(mutationBase), []byte(strings.ReplaceAll(mutationFilesBase, "FOLDER", folder)))
}

// writeCertificate writes a certificate for 127.0.0.1 with its key.
func writeCertificate(t *testing.T, path string) {
	t.Helper()
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	key, err := x509.MarshalPKCS8PrivateKey(server.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	pair := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
	if err := os.WriteFile(path, pair, 0o600); err != nil {
		t.Fatal(err)
	}
}

// mutationBase has a section of each kind that the sample and the pages leave empty.
const mutationBase = `
listen: "127.0.0.1:0"
admin: { listen: "127.0.0.1:0", token: 0123456789abcdef0123456789abcdef }
ext_authz: { listen: "127.0.0.1:0" }
identity: { secret: 0123456789abcdef0123456789abcdef }
tickets: { keys: [ { id: a, secret: 0123456789abcdef0123456789abcdef } ] }
trusted_proxies: [ 10.0.0.0/8, 192.0.2.7 ]
origins:
  one: { url: "http://127.0.0.1:9/live?a=b" }
  two: { url: "https://a.example", fallback: [ "http://127.0.0.1:9" ], fallback_on_404: true }
backends:
  portal: { kind: httprequest, address: "http://127.0.0.1:9/check", preset: flussonic, headers: { X-Key: "${USHER_MUTATION:-k}" } }
  lists: { kind: iprules, rules: [ "allow 10.0.0.0/8", "deny all" ] }
  first: { kind: any, backends: [ portal, lists ] }
  chosen: { kind: rules, rules: [ { addresses: [ 10.0.0.0/8 ], action: deny }, { channels: [ "a*" ], backend: first } ], default: deny }
routes:
  - { path: "/play/{channel}/*", origin: one, backend: chosen, required: [ token ] }
  - { path: "/live/{channel}/*", origin: two, backend: portal, device_fields: [ mac ] }
  - { backend: first, edge: { dialect: envoy, viewer_path: "/edge/{channel}/*", networks: [ 10.0.0.7 ] } }
cluster:
  redis: { addresses: [ "127.0.0.1:1" ] }
  encryption_keys: [ { id: a, secret: 0123456789abcdef0123456789abcdef } ]
tracing: { endpoint: "http://127.0.0.1:9", protocol: http, sample: 0.5 }
log: { level: error, format: text }
`

// mutationFilesBase has what the node reads and writes besides its settings, and lists that the sample leaves empty. Its
// middleware has TLS at both ends.
const mutationFilesBase = `
listen: "127.0.0.1:0"
tls: { cert_file: FOLDER/node.pem, key_file: FOLDER/node.pem }
proxy_protocol: { from: [ 10.0.0.0/8, 192.0.2.7 ] }
trusted_proxies: [ 10.0.0.0/8 ]
ext_authz: { listen: "127.0.0.1:0", tls: { cert_file: FOLDER/node.pem, key_file: FOLDER/node.pem } }
admin:
  listen: "127.0.0.1:0"
  token: 0123456789abcdef0123456789abcdef
  tokens: [ { name: support, token: 1123456789abcdef0123456789abcdef, role: read }, { name: night, token: 2123456789abcdef0123456789abcdef, role: write } ]
  audit: { file: FOLDER/audit.log }
identity: { secret: 0123456789abcdef0123456789abcdef }
tickets: { keys: [ { id: a, secret: 0123456789abcdef0123456789abcdef }, { id: b, secret: 1123456789abcdef0123456789abcdef } ] }
origins: { one: { url: "http://127.0.0.1:9" } }
backends:
  portal:
    kind: httprequest
    address: "https://127.0.0.1:9/check"
    tls: { ca_file: FOLDER/node.pem, cert_file: FOLDER/node.pem, key_file: FOLDER/node.pem, server_name: a.example }
    signature:
      keys: [ { id: a, secret: 0123456789abcdef0123456789abcdef } ]
      header: X-Sign
      timestamp_header: X-Time
      signed_headers: [ X-Session-ID, X-Channel-ID ]
  keys: { kind: jwt, algorithms: [ ES256 ], jwks_url: "https://127.0.0.1:9/keys", tls: { ca_file: FOLDER/node.pem } }
  flussonic: { kind: flussonic, address: "http://127.0.0.1:9/auth", redirects: follow, allowed_networks: [ 127.0.0.0/8 ] }
routes:
  - { path: "/play/{channel}/*", origin: one, backend: portal }
  - { path: "/live/{channel}/*", origin: one, backend: keys, hosts: [ tv.example.com ] }
  - { path: "/auth", backend: flussonic, edge: { dialect: flussonic, networks: [ 10.0.0.7 ] } }
cluster: { state_dir: FOLDER }
records:
  log: false
  open_events: true
  file: { path: FOLDER/records.jsonl, max_size: 1MiB, max_files: 2 }
  webhook: { url: "http://127.0.0.1:9/records", secret: 0123456789abcdef0123456789abcdef, timeout: 1s }
  spool: { path: FOLDER/records.db, max_size: 1MiB }
reload: { poll_interval: 10s }
retention: 2d
cors: { allowed_origins: [ "https://tv.example.com" ] }
limits: { max_connections: 100, max_connections_per_address: 10 }
log: { level: error, format: text }
`

// mutation is a settings file that is changed at random.
type mutation struct {
	*rand.Rand
	document yaml.Node
	all      []*yaml.Node
	keys     map[*yaml.Node]bool
	env      []string // variables that are set besides
}

// collect lists all nodes, and takes the comments away, which would name what is gone.
func (m *mutation) collect(n *yaml.Node) {
	n.HeadComment, n.LineComment, n.FootComment = "", "", ""
	m.all = append(m.all, n)
	for i, c := range n.Content {
		m.keys[c] = n.Kind == yaml.MappingNode && i%2 == 0
		m.collect(c)
	}
}

// nodes returns the nodes of the kind that are no keys.
func (m *mutation) nodes(kind yaml.Kind) (fit []*yaml.Node) {
	for _, n := range m.all {
		if n.Kind == kind && !m.keys[n] && (len(n.Content) > 0 || kind == yaml.ScalarNode) {
			fit = append(fit, n)
		}
	}
	return fit
}

// pick returns a node of the kind that is no key.
func (m *mutation) pick(kind yaml.Kind) *yaml.Node {
	fit := m.nodes(kind)
	return fit[m.IntN(len(fit))]
}

// pair returns a section, and where one of its keys stands.
func (m *mutation) pair() (section *yaml.Node, i int) {
	section = m.pick(yaml.MappingNode)
	return section, 2 * m.IntN(len(section.Content)/2)
}

func (m *mutation) one(values ...string) string { return values[m.IntN(len(values))] }

// value returns a text that is like the one of a node, or any other.
func (m *mutation) value(like string) string {
	byShape := map[string][]string{
		`^-?\d+(\.\d+)?$`: {"0", "-1", "1", "2", "7", "20", "300", "65536", "99999999999999999999", "1e3", "1.5", ".nan", "+5", "0x10", "1_000", "9223372036854775807"},
		`^\d+(ms|[smhd])`: {"0s", "1ns", "-1s", "10", "2s", "10s", "1m30s", "20m", "2d", "200000h", "106751d", "1h1d", "soon"},
		`://`: {
			"http://", "http://[", "https://a.example", "http://127.0.0.1:9/x", "https://a.example/b?c=d", "ftp://a", "http://a:99999", "http://a:0", "http://u:p@a/", "//a", "http://a/#b",
			"http://a b/", "http://é/", "http://a/%zz", "unix:/a",
		},
		`^\d+(\.\d+){3}(/\d+)?$`:  {"0.0.0.0/0", "10.1.0.0/16", "192.0.2.7", "10.0.0.1/8", "10.0.0.0/33", "::/0", "300.0.0.1", "::ffff:10.0.0.1", "fe80::1%eth0", ""},
		`^[a-z0-9.]*:\d+$`:        {":99999", "127.0.0.1:0", "[::1]:0", "::1:0", "127.0.0.1:http", "127.0.0.1", "127.0.0.1:-1", "192.0.2.1:0", "localhost:0", "no..host:0"},
		`^(true|false)$`:          {"true", "false", "yes", "0", ""},
		`(?i)^\d+(B|[KMGT]i?B?)$`: {"0B", "1B", "64KiB", "2MiB", "-1B", "1GiB", "9000000TiB", "1.5MiB", "1 GiB", "1"},
		`^(file:|/)`:              {"file:none", "file:", "/nowhere", "/", "/dev/null", "/{channel}/*", "/*/*", "/{channel}/{channel}", "a"},
	}
	for _, shape := range slices.Sorted(maps.Keys(byShape)) {
		if m.IntN(4) > 0 && regexp.MustCompile(shape).MatchString(like) {
			return m.one(byShape[shape]...)
		}
	}
	return m.one("", "0", "x", "true", "null", "deny", "allow", "keep", "grace", "${NONE}", "${NONE:-a}", "$$", "${", "*", "{channel}", "token",
		"redis", "rules", "any", "users", "jwt", "portal", "one", "first", "ES256", "HS256", "none", "astra", "flussonic", "envoy", "auth-proxy",
		"é\x00", "a\u00a0b", strings.Repeat("a", 300), "query.mac", "[a]", m.pick(yaml.ScalarNode).Value)
}

// change makes one change. It reports whether it could.
//
// Most changes are of one value, so that a part of them is accepted.
func (m *mutation) change() bool {
	for _, kind := range []yaml.Kind{yaml.ScalarNode, yaml.MappingNode, yaml.SequenceNode} {
		if len(m.nodes(kind)) == 0 { // an earlier change took the last one
			return false
		}
	}
	scalar := m.pick(yaml.ScalarNode)
	section, i := m.pair()
	list := m.pick(yaml.SequenceNode)
	other := *m.all[m.IntN(len(m.all))]
	switch m.IntN(28) {
	case 0: // a key is missing
		section.Content = slices.Delete(section.Content, i, i+2)
	case 1: // or given twice, with the same value or another
		twice := *section.Content[i+1]
		section.Content = append(section.Content, section.Content[i], &twice)
		if twice.Kind == yaml.ScalarNode {
			twice.Value = m.value(twice.Value)
		}
	case 2: // or misspelt
		section.Content[i].Value += "s"
	case 3: // two parts exchange their places
		a, b := m.pick(yaml.MappingNode), m.pick(yaml.MappingNode)
		*a, *b = *b, *a
	case 4: // a key moves into another section
		into := m.pick(yaml.MappingNode)
		into.Content = append(into.Content, section.Content[i], section.Content[i+1])
	case 5: // a scalar becomes a list, a section or nothing
		*scalar = *[]*yaml.Node{
			{Kind: yaml.SequenceNode, Content: []*yaml.Node{{Kind: yaml.ScalarNode, Value: scalar.Value}}},
			{Kind: yaml.MappingNode, Content: []*yaml.Node{{Kind: yaml.ScalarNode, Value: "a"}, {Kind: yaml.ScalarNode, Value: scalar.Value}}},
			{Kind: yaml.ScalarNode, Tag: "!!null"},
		}[m.IntN(3)]
	case 6: // a value is nothing, whatever it was
		section.Content[i+1] = &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null"}
	case 7: // or a text
		section.Content[i+1] = &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: m.value("")}
	case 8: // an item is missing, or listed twice
		at := m.IntN(len(list.Content))
		if m.IntN(2) == 0 {
			list.Content = slices.Delete(list.Content, at, at+1)
		} else {
			list.Content = append(list.Content, list.Content[at])
		}
	case 9: // an alias stands for what it names
		target := m.pick(yaml.MappingNode)
		target.Anchor = "a"
		section.Content[i+1] = &yaml.Node{Kind: yaml.AliasNode, Value: "a", Alias: target}
	case 10: // or is merged
		target := m.pick(yaml.MappingNode)
		target.Anchor = "a"
		section.Content = append(section.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: "<<", Tag: "!!merge"},
			&yaml.Node{Kind: yaml.AliasNode, Value: "a", Alias: target})
	case 11: // a part becomes another one
		*m.all[m.IntN(len(m.all))] = other
	case 12: // a variable lies over a setting
		return m.override()
	case 13: // two listeners want one port
		m.listen(m.one("127.0.0.1:18093", ":18093", "localhost:18093"), m.one("127.0.0.1:18093", "[::]:18093", "0.0.0.0:18093"))
	default:
		*scalar = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: m.value(scalar.Value)}
	}
	return true
}

// override sets a variable of a setting that the file has.
func (m *mutation) override() bool {
	var names, like []string
	var walk func(n *yaml.Node, name string)
	walk = func(n *yaml.Node, name string) {
		for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
			walk(n.Content[i+1], name+"_"+strings.ToUpper(n.Content[i].Value))
		}
		if n.Kind != yaml.MappingNode && regexp.MustCompile(`^[A-Z0-9_]+$`).MatchString(name) {
			names, like = append(names, "USHER"+name), append(like, n.Value)
		}
	}
	walk(m.document.Content[0], "")
	if len(names) == 0 {
		return false
	}
	i := m.IntN(len(names))
	value := m.value(like[i])
	m.env = append(m.env, names[i], value)
	return !strings.Contains(value, "\x00")
}

// listen gives listeners their addresses in turn.
func (m *mutation) listen(addresses ...string) {
	next := 0
	for i, n := range m.all {
		if n.Value == "listen" && i+1 < len(m.all) && m.all[i+1].Kind == yaml.ScalarNode {
			m.all[i+1].Value, m.all[i+1].Tag = addresses[next%len(addresses)], "!!str"
			next++
		}
	}
}

// mutate changes a settings file at random, at one to three places. It draws again until the result can be written.
func mutate(t *testing.T, text []byte, random *rand.Rand) (mutated []byte, env []string) {
	t.Helper()
	for {
		m := &mutation{Rand: random, keys: map[*yaml.Node]bool{}}
		if err := yaml.Load(text, &m.document); err != nil {
			t.Fatal(err)
		}
		m.collect(m.document.Content[0])
		ok := true
		for range 1 + random.IntN(3)*random.IntN(2) {
			ok = ok && m.change()
		}
		if !ok || isInside(&m.document, map[*yaml.Node]bool{}) {
			continue
		}
		mutated, err := yaml.Dump(&m.document)
		if err != nil {
			continue
		}
		if random.IntN(10) == 0 { // a slip of the keyboard
			at := random.IntN(len(mutated))
			slip := []string{"\t", " ", ":", "\n", "“", "#", "- ", "'", "\u00a0", "{", "&a ", "*a", "\n---\n", "!!str "}[random.IntN(14)]
			if utf8.RuneStart(mutated[at]) {
				mutated = slices.Insert(mutated, at, []byte(slip)...)
			}
		}
		return mutated, m.env
	}
}

// isInside reports whether a node is inside itself, which cannot be written.
func isInside(n *yaml.Node, around map[*yaml.Node]bool) bool {
	if around[n] {
		return true
	}
	around[n] = true
	defer delete(around, n)
	return slices.ContainsFunc(n.Content, func(c *yaml.Node) bool { return isInside(c, around) })
}

// start runs serve until the node listens, and returns what it writes besides its log.
func start(path string) (code int, errs string, isStarted bool) {
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	var written bytes.Buffer
	c := console{out: &written, err: &written, now: time.Now}
	err := serveCommand{fileFlag{Config: path}}.run(runtime{ctx, c}, func(*node, net.Addr) {
		isStarted = true
		stop()
	})
	code = c.exit(err)
	return code, withoutLog(written.String()), isStarted
}

// useFreePorts lays free ports of the same addresses over those that valid settings listen at, which another process may use.
func useFreePorts(t *testing.T, path string) {
	t.Helper()
	s, _, err := fileFlag{Config: path}.load()
	if err != nil {
		return
	}
	for _, l := range s.listeners(&listeners{}) {
		host, _, err := net.SplitHostPort(l.address)
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv("USHER_"+strings.ToUpper(strings.ReplaceAll(l.key, ".", "_")), net.JoinHostPort(host, "0"))
	}
}

// withoutLog drops the lines of the log, and of the warnings that validate prints.
func withoutLog(text string) string {
	return regexp.MustCompile(`(?m)^(\{"time"|time=|warning: ).*\n`).ReplaceAllString(text, "")
}

// TestSettings_RandomMutations_ValidateAndServeAgree tries mutations of valid files: a node starts with whatever validate
// accepts, both refuse anything else in the same words, and nothing panics.
func TestSettings_RandomMutations_ValidateAndServeAgree(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "usher.yaml")
	bases := mutationBases(t, folder)
	for i, text := range bases {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if code, _, errs := usher("validate", "--config", path); code != exitOK {
			t.Fatalf("base %d is refused:\n%s", i, errs)
		}
	}
	t.Setenv("USHER_DRAIN_READINESS_DELAY", "0s") // else each node that starts takes seconds to end
	accepted := 0
	for seed := range uint64(*mutations) {
		t.Run(fmt.Sprintf("seed %d", *mutationSeed+seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(*mutationSeed+seed, 1))
			base := random.IntN(len(bases))
			if random.IntN(2) == 0 { // one of the last three, most of whose settings have several values that work
				base = len(bases) - 1 - random.IntN(3)
			}
			text, env := mutate(t, bases[base], random)
			for i := 0; i < len(env); i += 2 {
				t.Setenv(env[i], env[i+1])
			}
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
			useFreePorts(t, path)
			validated, _, says := usher("validate", "--config", path)
			served, serveSays, isStarted := start(path)
			says = withoutLog(says)
			if validated != served || says != serveSays || isStarted != (validated == exitOK) {
				t.Fatalf("validate: %d\n%s\nserve: %d, started: %t\n%s\nwith %q and\n%s", validated, says, served, isStarted, serveSays, env, text)
			}
			if isStarted {
				accepted++
			}
		})
	}
	if *mutationSeed == 0 && (accepted < *mutations/10 || accepted > *mutations/2) {
		t.Errorf("%d mutations are accepted, want at least a tenth, and at most half", accepted)
	}
}
