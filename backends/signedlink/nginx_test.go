package signedlink

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"usher/backends/backendtest/testproc"
)

// startTimeout bounds the start of nginx. Only an nginx that never starts reaches it.
const startTimeout = 30 * time.Second

// nginxConfig checks links in four ways, one per virtual host. The request names the viewer's address.
const nginxConfig = `
daemon off;
master_process off;
pid %[1]s/pid;
error_log stderr crit;
events { worker_connections 64; }
http {
	access_log off;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	keepalive_requests 1000000;
	set_real_ip_from unix:;
	real_ip_header X-Real-IP;
	map $uri $trimmed {
		default $uri;
		~^(?<stem>.+)/playlist\.m3u8$ $stem;
	}
	server {
		listen unix:%[1]s/socket default_server;
		server_name plain;
		secure_link $arg_st,$arg_e;
		secure_link_md5 "supersecret$uri$secure_link_expires";
		if ($secure_link = "") { return 403; }
		if ($secure_link = "0") { return 410; }
		return 204;
	}
	server {
		listen unix:%[1]s/socket;
		server_name ministra;
		secure_link $arg_st,$arg_e;
		secure_link_md5 "supersecret$trimmed$secure_link_expires";
		if ($secure_link = "") { return 403; }
		if ($secure_link = "0") { return 410; }
		return 204;
	}
	server {
		listen unix:%[1]s/socket;
		server_name manual;
		secure_link $arg_md5,$arg_expires;
		secure_link_md5 "$secure_link_expires$uri$remote_addr supersecret";
		if ($secure_link = "") { return 403; }
		if ($secure_link = "0") { return 410; }
		return 204;
	}
	server {
		listen unix:%[1]s/socket;
		server_name braces;
		secure_link $arg_st,$arg_e;
		secure_link_md5 "v1:${remote_addr}:${secure_link_expires}:supersecret:${uri}";
		if ($secure_link = "") { return 403; }
		if ($secure_link = "0") { return 410; }
		return 204;
	}
}
`

// checker is one way of checking links, configured in nginx and in a backend.
type checker struct {
	host         string // nginx's virtual host
	md5, expires string // the parameters' names
	change       func(*Config)
	input        func(uri, expires, address string) string // the value that portals hash
}

func checkers() []checker {
	return []checker{
		{
			"plain", "st", "e", func(c *Config) { c.TrimSuffixes = nil },
			func(uri, expires, _ string) string { return "supersecret" + uri + expires },
		},
		{
			"ministra", "st", "e", nil,
			func(uri, expires, _ string) string { return "supersecret" + uri + expires },
		},
		{
			"manual", "md5", "expires",
			func(c *Config) {
				c.MD5Parameter, c.ExpiresParameter, c.TrimSuffixes = "md5", "expires", nil
				c.Expression = "$secure_link_expires$uri$remote_addr $secret"
			},
			func(uri, expires, address string) string { return expires + uri + address + " supersecret" },
		},
		{
			"braces", "st", "e",
			func(c *Config) { c.TrimSuffixes, c.Expression = nil, "v1:${remote_addr}:${expires}:$secret:${uri}" },
			func(uri, expires, address string) string {
				return "v1:" + address + ":" + expires + ":supersecret:" + uri
			},
		},
	}
}

// nginx is a running nginx with the same secret, on one connection.
type nginx struct {
	conn   net.Conn
	reader *bufio.Reader
}

// startNginx starts an nginx that ends with the test.
func startNginx(t *testing.T) *nginx {
	t.Helper()
	path, err := exec.LookPath("nginx")
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/nginx") // Debian's path, which is not in every user's PATH
	}
	if err != nil {
		t.Fatal("nginx is missing: apt-get install -y --no-install-recommends nginx")
	}
	folder, err := os.MkdirTemp("", "nginx") // t.TempDir's names are too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	config := filepath.Join(folder, "conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, nginxConfig, folder), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := exec.Command(path, "-p", folder, "-c", config, "-e", "stderr")
	cmd.Stderr = &log
	wait, err := testproc.Start(cmd)
	if err != nil {
		t.Fatalf("start nginx: %v", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = wait() // killed, so the error is expected
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
		if t.Failed() {
			t.Logf("nginx wrote: %s", log.String())
		}
	})
	conn := dial(t, filepath.Join(folder, "socket"), done)
	return &nginx{conn, bufio.NewReader(conn)}
}

// dial connects as soon as nginx listens.
func dial(t *testing.T, socket string, ended <-chan struct{}) net.Conn {
	t.Helper()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	giveUp := time.After(startTimeout)
	for {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			t.Cleanup(func() { _ = conn.Close() })
			return conn
		}
		select {
		case <-again.C:
		case <-ended:
			t.Fatal("nginx ended at once; it needs http_secure_link_module and http_realip_module")
		case <-giveUp:
			t.Fatalf("nginx does not listen: %v", err)
		}
	}
}

// request sends a request unchanged, and returns the status.
func (n *nginx) request(t *testing.T, host, path, query, address string) int {
	t.Helper()
	_, err := fmt.Fprintf(n.conn, "GET %s?%s HTTP/1.1\r\nHost: %s\r\nX-Real-IP: %s\r\n\r\n", path, query, host, address)
	if err != nil {
		t.Fatalf("ask nginx for %s?%s: %v", path, query, err)
	}
	answer, err := http.ReadResponse(n.reader, nil)
	if err != nil {
		t.Fatalf("ask nginx for %s?%s: %v", path, query, err)
	}
	_ = answer.Body.Close()
	return answer.StatusCode
}
