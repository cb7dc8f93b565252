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

// patience is how long nginx may take to start. It is only met by one that never will.
const patience = 30 * time.Second

// nginxConfig checks links in four ways, each a virtual host; whose address it is, the request says.
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

// checker is a way of checking links that nginx and a backend are both set up for.
type checker struct {
	host         string // nginx's virtual host
	md5, expires string // the parameters' names
	change       func(*Config)
	input        func(uri, expires, address string) string // what portals hash
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

// nginx is a real one with the same secret, on one connection.
type nginx struct {
	conn   net.Conn
	reader *bufio.Reader
}

// startNginx starts one that ends with the test.
func startNginx(t *testing.T) *nginx {
	t.Helper()
	path, err := exec.LookPath("nginx")
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/nginx") // where Debian has it, and few users look
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
		_ = wait() // it is killed
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
	giveUp := time.After(patience)
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

// ask sends a request as it is, and returns the status.
func (n *nginx) ask(t *testing.T, host, path, query, address string) int {
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
