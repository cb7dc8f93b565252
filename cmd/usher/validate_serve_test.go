package main

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestValidate_WhatServeRefuses_Refused checks that validate refuses what a node cannot start with, at the setting's own
// position, and that serve says the same.
func TestValidate_WhatServeRefuses_Refused(t *testing.T) {
	const local = "kind: iprules, rules: [ allow all ]"
	const redis = "cluster: { encryption_keys: [ { id: a, secret: 7f3a9c1e5b8d2046 } ], redis: { "
	folder := t.TempDir()
	noPEM := filepath.Join(folder, "no.pem")
	if err := os.WriteFile(noPEM, []byte("none"), 0o600); err != nil {
		t.Fatal(err)
	}
	stateDir := t.TempDir()
	noBans := filepath.Join(stateDir, "bans.db")
	if err := os.WriteFile(noBans, []byte("none"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ backend, more, says string }{
		"a file of accounts that is missing": {"kind: users, file: /nowhere.yaml", "", ":6:26: backends.portal.file: stat /nowhere.yaml: no such file"},
		"a file that holds no accounts":      {"kind: users, file: " + noPEM, "", ":6:26: backends.portal.file: "},
		"a key that is missing":              {"kind: jwt, algorithms: [ES256], public_key_file: /nowhere.pem", "", ":6:45: backends.portal.public_key_file: "},
		"a file that holds no key":           {"kind: jwt, algorithms: [ES256], public_key_file: " + noPEM, "", ":6:45: backends.portal.public_key_file: "},
		"a port of a key set": {
			"kind: jwt, algorithms: [ES256], jwks_url: 'https://a.example:70000/keys'", "", ":6:45: backends.portal.jwks_url: port 70000 does not exist",
		},
		"an authority of a middleware that is missing": {
			"kind: httprequest, address: 'https://a.example/', tls: { ca_file: /nowhere.pem }", "", ":6:70: backends.portal.tls.ca_file: open /nowhere.pem",
		},
		"an authority of a middleware without a certificate": {
			"kind: httprequest, address: 'https://a.example/', tls: { ca_file: " + noPEM + " }", "", ":6:70: backends.portal.tls.ca_file: no certificate in",
		},
		"a client certificate that is missing": {
			"kind: httprequest, address: 'https://a.example/', tls: { cert_file: /nowhere.pem, key_file: /nowhere.key }", "",
			":6:70: backends.portal.tls.cert_file: open /nowhere.pem",
		},
		"a port of a middleware": {
			"kind: httprequest, address: 'http://127.0.0.1:65536/check'", "", ":6:32: backends.portal.address: port 65536 does not exist; want 1 to 65535",
		},
		"a certificate that is missing": {local, "tls: { cert_file: /nowhere.pem, key_file: /nowhere.key }", ":9:8: tls.cert_file: "},
		"a certificate that is none":    {local, "tls: { cert_file: " + noPEM + ", key_file: " + noPEM + " }", ":9:8: tls.cert_file: "},
		"a certificate for Envoy that is missing": {
			local, "ext_authz: { listen: '127.0.0.1:0', tls: { cert_file: /nowhere.pem, key_file: /nowhere.key } }", ":9:44: ext_authz.tls.cert_file: ",
		},
		"an authority of Redis that is missing": {
			local, redis + "addresses: [ '10.0.0.9:6379' ], tls: { enabled: true, ca_file: /nowhere.pem } } }", ":9:133: cluster.redis.tls.ca_file: open /nowhere.pem",
		},
		"a port of Redis":            {local, redis + "addresses: [ '10.0.0.9:65536' ] } }", `:9:92: cluster.redis.addresses[0]: "10.0.0.9:65536" has no such port`},
		"a port of an origin":        {local, "x-none: 0\n", `:4:21: origins.stage.url: port 99999 does not exist`},
		"a port of traces":           {local, "tracing: { endpoint: 'http://127.0.0.1:99999' }", ":9:12: tracing.endpoint: port 99999 does not exist"},
		"a port that does not exist": {local, "listen: ':65536'", `:9:1: listen: ":65536" has no such port; want 0 to 65535`},
		"an admin port that does not exist": {
			local, "admin: { listen: '127.0.0.1:65536', token: 7f3a9c1e5b8d2046 }", `:9:10: admin.listen: "127.0.0.1:65536" has no such port`,
		},
		"an address of another machine": {
			local, "listen: '127.0.0.1:0'\nadmin: { listen: '192.0.2.1:8081', token: 7f3a9c1e5b8d2046 }", `:10:10: admin.listen: "192.0.2.1:8081": listen tcp`,
		},
		"an address of a name that nobody has": {
			local, "listen: '127.0.0.1:0'\nadmin: { listen: 'no-.host:0', token: 7f3a9c1e5b8d2046 }",
			`:10:10: admin.listen: "no-.host:0": listen tcp: lookup no-.host`,
		},
		"a host of traces that no exporter calls": {
			local, "listen: '127.0.0.1:0'\ntracing: { endpoint: 'http://a%25zz:1' }", `:10:12: tracing.endpoint: "http://a%25zz:1": `,
		},
		"a file of bans that is none":    {local, "cluster: { state_dir: " + stateDir + " }", ":9:12: cluster.state_dir: open " + noBans},
		"a file of records in no folder": {local, "records: { file: { path: /nowhere/x } }", ":9:20: records.file.path: /nowhere is not writable"},
		"an audit among records": {
			local, "admin: { audit: { file: " + stateDir + "/a } }\nrecords: { file: { path: " + stateDir + "/./a } }",
			`:10:20: records.file.path: "` + stateDir + `/./a" is taken by admin.audit.file: "` + stateDir + `/a"; want a file of its own`,
		},
		"a spool among records": {
			local, "records: { spool: { path: " + stateDir + "/a }, file: { path: " + stateDir + "/a } }",
			`:9:21: records.spool.path: "` + stateDir + `/a" is taken by records.file.path: "` + stateDir + `/a"; want a file of its own`,
		},
		"a spool that is none": {local, "records: { spool: { path: " + noPEM + " } }", ":9:21: records.spool.path: open " + noPEM},
		"a webhook of another scheme": {
			local, "records: { webhook: { url: 'ftp://x/', secret: 0123456789abcdef }, spool: { path: /x } }", ":9:23: records.webhook.url: want http://",
		},
		"the admin listener on the public port": {
			local, "listen: ':8081'\nadmin: { listen: ':8081', token: 7f3a9c1e5b8d2046 }", `:10:10: admin.listen: ":8081" is taken by listen: ":8081"`,
		},
		"the admin listener on the public port of one address": {
			local, "listen: ':8081'\nadmin: { listen: '127.0.0.1:8081', token: 7f3a9c1e5b8d2046 }", `:10:10: admin.listen: "127.0.0.1:8081" is taken by listen: ":8081"`,
		},
		"the public listener on the admin port by another name": {
			local, "listen: 'localhost:8081'\nadmin: { listen: '127.0.0.1:8081', token: 7f3a9c1e5b8d2046 }", `:10:10: admin.listen: "127.0.0.1:8081" is taken by listen`,
		},
		"Envoy on the public port": {
			local, "listen: '0.0.0.0:8081'\next_authz: { listen: ':8081' }", `:10:14: ext_authz.listen: ":8081" is taken by listen`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			text := regexp.MustCompile(`portal: \{ .*`).ReplaceAllLiteralString(settingsFor("http://127.0.0.1:9"), "portal: { "+test.backend+" }")
			if strings.Contains(test.says, "origins.") {
				text = strings.Replace(text, "127.0.0.1:9\"", "127.0.0.1:99999\"", 1)
			}
			path := writeFile(t, text+test.more+"\n")
			code, _, errs := usher("validate", "--config", path)
			if code != exitFailed || !strings.Contains(errs, path+test.says) {
				t.Errorf("validate: exit code %d, %s; want 2 and %s", code, errs, test.says)
			}
			if code, _, errs := usher("serve", "--config", path); code != exitFailed || !strings.Contains(errs, path+test.says) {
				t.Errorf("serve: exit code %d, %s; want 2 and %s", code, errs, test.says)
			}
		})
	}
}

// TestValidate_NodeRuns_LeavesItAlone checks that validate accepts the settings of a node that runs, whose port and files of
// bans and records are in use, and that it makes no file that the node's user could not open.
func TestValidate_NodeRuns_LeavesItAlone(t *testing.T) {
	stateDir := t.TempDir()
	settingsAt := func(address string) string {
		return writeFile(t, settingsFor("http://127.0.0.1:9")+"drain: { readiness_delay: 0s }\n"+
			"listen: '"+address+"'\ncluster: { state_dir: "+stateDir+" }\n"+
			"records: { spool: { path: "+stateDir+"/records.db }, file: { path: "+stateDir+"/records } }\n")
	}
	validate := func(path string) {
		if code, _, errs := usher("validate", "--config", path); code != exitOK || errs != "" {
			t.Errorf("exit code %d, %s; want 0", code, errs)
		}
	}
	path := settingsAt("127.0.0.1:0")
	validate(path)
	if made, err := os.ReadDir(stateDir); err != nil || len(made) > 0 {
		t.Errorf("the folder has %v, %v; want nothing", made, err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	err := serveCommand{fileFlag{Config: path}}.run(runtime{ctx, console{out: io.Discard, err: io.Discard}}, func(_ *node, at net.Addr) {
		validate(settingsAt(at.String()))
		stop()
	})
	if err != nil {
		t.Errorf("the node ended with: %v", err)
	}
}

// TestValidate_SeveralFilesMissing_AllNamed checks that what the machine says against a file is said at once.
func TestValidate_SeveralFilesMissing_AllNamed(t *testing.T) {
	text := regexp.MustCompile(`portal: \{ .*`).ReplaceAllLiteralString(settingsFor("http://127.0.0.1:9"),
		"portal: { kind: any, backends: [ a, b ] }\n  a: { kind: users, file: /a.yaml }\n  b: { kind: users, file: /b.yaml }")
	path := writeFile(t, text+"tls: { cert_file: /nowhere.pem, key_file: /nowhere.key }\n")
	_, _, errs := usher("validate", "--config", path)
	want := path + ":7:21: backends.a.file: stat /a.yaml: no such file or directory\n" +
		path + ":8:21: backends.b.file: stat /b.yaml: no such file or directory\n" +
		path + ":11:8: tls.cert_file: open /nowhere.pem: no such file or directory\n"
	if errs != want {
		t.Errorf("got\n%swant\n%s", errs, want)
	}
}

// TestValidate_UnknownName_NamesWhatExists checks that a name that does not exist is answered with those that do.
func TestValidate_UnknownName_NamesWhatExists(t *testing.T) {
	base := settingsFor("http://127.0.0.1:9")
	for name, test := range map[string]struct{ old, text, says string }{
		"an origin": {"origin: stage", "origin: stagge", `routes[0].origin: "stagge" is not among origins; did you mean "stage"? allowed: stage`},
		"a backend": {"backend: portal", "backend: legacy", `routes[0].backend: "legacy" is not among backends; allowed: portal`},
		"a member": {
			"backends:\n", "backends:\n  both: { kind: any, backends: [ portl ] }\n",
			`backends.both: member "portl" is not among backends; did you mean "portal"? allowed: portal`,
		},
		"a backend of publishers": {
			"routes:\n", "routes:\n  - { path: /auth, backend: portal, edge: { dialect: flussonic, networks: [ 10.0.0.7 ], publish_backend: potral } }\n",
			`routes[0].edge.publish_backend: "potral" is not among backends; did you mean "portal"? allowed: portal`,
		},
		"a backend with a no-break space": {
			"backend: portal", "backend: \u00a0portal",
			`"\u00a0portal" is not among backends; did you mean "portal"? allowed: portal; column 58 is a no-break space or one of another width, where a plain space is meant (U+00A0)`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			code, _, errs := usher("validate", "--config", writeFile(t, strings.Replace(base, test.old, test.text, 1)))
			if code != exitFailed || !strings.Contains(errs, test.says) {
				t.Errorf("exit code %d, %s; want 2 and %s", code, errs, test.says)
			}
		})
	}
}
