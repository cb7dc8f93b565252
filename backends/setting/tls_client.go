package setting

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
)

// Handshake completes TLS on a connection to a server at an address, "host:port", and closes the connection if that fails. The
// server's certificate must have the name of server_name, or else the address's host. edit may change what the files say; nil
// changes nothing.
func (f *TLSFiles) Handshake(ctx context.Context, conn net.Conn, address string, edit func(*tls.Config)) (*tls.Conn, error) {
	cfg := f.Config().Clone()
	if edit != nil {
		edit(cfg)
	}
	if cfg.ServerName == "" {
		cfg.ServerName, _, _ = net.SplitHostPort(address)
	}
	secured := tls.Client(conn, cfg)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	return secured, nil
}

// TLSAdvice returns what to do about an error of TLS with a server. at is the path of the client's [TLSConfig]. For any other
// error it returns "".
func TLSAdvice(err error, at string) string {
	if _, isUntrusted := errors.AsType[x509.UnknownAuthorityError](err); isUntrusted {
		return "set " + at + ".ca_file to the authority that signed the server's certificate"
	}
	if _, isOther := errors.AsType[x509.HostnameError](err); isOther {
		return "set " + at + ".server_name to a name that the server's certificate has"
	}
	if invalid, isInvalid := errors.AsType[x509.CertificateInvalidError](err); isInvalid && invalid.Reason == x509.Expired {
		return "renew the server's certificate, and those in " + at + ".ca_file, and check this machine's clock"
	}
	if _, isPlain := errors.AsType[tls.RecordHeaderError](err); isPlain {
		return "the server speaks no TLS at this port: check the port, or http:// against https:// in its address"
	}
	// What a server says in an alert is an unexported type of crypto/tls.
	if remote, isRemote := errors.AsType[*net.OpError](err); isRemote && remote.Op == "remote error" {
		return "the server refused TLS: if it wants a client certificate, set " + at + ".cert_file and key_file to one that it accepts"
	}
	return ""
}
