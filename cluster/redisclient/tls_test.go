package redisclient

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"usher/backends/backendtest/testtls"
	"usher/backends/setting"
	"usher/bench/process"
	"usher/cluster/redistest"
)

// command sends a command on a connection and returns the first line of the reply.
func command(conn net.Conn, text string) string {
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, text+"\r\n")
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(line)
}

// TestTLSConfig_Dialer_CertificatesRotate moves a Redis and its client to another authority: first the server, which the client
// then trusts no more, then the client's files.
func TestTLSConfig_Dialer_CertificatesRotate(t *testing.T) {
	t.Parallel()
	port, err := process.ReservePort()
	must(t, err)
	t.Cleanup(port.Release)
	_, number, err := net.SplitHostPort(port.Address)
	must(t, err)
	before, after := testtls.NewAuthority(t), testtls.NewAuthority(t)
	server := before.Issue(t, "redis", nil)
	redis := redistest.Start(t, "--tls-port", number, "--tls-cert-file", server.CertFile, "--tls-key-file", server.KeyFile,
		"--tls-ca-cert-file", before.File, "--tls-auth-clients", "yes")

	synctest.Test(t, func(t *testing.T) { // the server is outside
		folder := t.TempDir()
		c := TLSConfig{Enabled: true, TLSConfig: setting.TLSConfig{
			CAFile: filepath.Join(folder, "ca.pem"), CertFile: filepath.Join(folder, "cert.pem"), KeyFile: filepath.Join(folder, "key.pem"),
		}}
		install := func(ca *testtls.Authority, generation int64) {
			ours, at := ca.Issue(t, "usher", nil), time.Unix(generation, 0)
			testtls.Replace(t, c.CAFile, ca.File, at)
			testtls.Replace(t, c.CertFile, ours.CertFile, at)
			testtls.Replace(t, c.KeyFile, ours.KeyFile, at)
		}
		install(before, 1)
		dial, err := c.dialer(time.Minute, slog.New(slog.DiscardHandler))
		must(t, err)
		ping := func() string {
			conn, err := dial(t.Context(), "tcp", port.Address)
			if err != nil {
				return adviceOn(err)
			}
			return command(conn, "PING")
		}
		if got := ping(); got != "+PONG" {
			t.Fatalf("before: got %q", got)
		}
		next := after.Issue(t, "redis", nil)
		admin, err := new(net.Dialer).DialContext(t.Context(), "unix", redis.Socket)
		must(t, err)
		if got := command(admin, fmt.Sprintf("CONFIG SET tls-cert-file %s tls-key-file %s tls-ca-cert-file %s", next.CertFile, next.KeyFile, after.File)); got != "+OK" {
			t.Fatal(got)
		}
		if got := ping(); !strings.Contains(got, "cluster.redis.tls.ca_file") {
			t.Errorf("the server has moved: got %q, want advice on ca_file", got)
		}
		install(after, 2)
		<-time.After(setting.TLSReloadInterval)
		if got := ping(); got != "+PONG" {
			t.Errorf("both have moved: got %q", got)
		}
	})
}
