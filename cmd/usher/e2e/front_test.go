package e2e

import (
	"crypto/tls"
	"flag"
	"fmt"
	"hash/crc32"
	"net/http"
	"strings"
	"testing"
)

var frontFlag = flag.String("front", "mixed", `how nodes speak to viewers: "plain", "tls" or "mixed", which is TLS in half of the tests`)

// speaksTLS reports whether the nodes of a test speak TLS. Which half of the tests have such nodes follows from their names.
func speaksTLS(t *testing.T) bool {
	t.Helper()
	switch *frontFlag {
	case "plain":
		return false
	case "tls":
		return true
	case "mixed":
		name, _, _ := strings.Cut(t.Name(), "/")
		return crc32.ChecksumIEEE([]byte(name))%2 == 1
	}
	t.Fatalf("-front=%s: want plain, tls or mixed", *frontFlag)
	return false
}

// frontOf returns the beginning of the addresses of the test's nodes, and the line of their settings files for it.
func frontOf(t *testing.T) (scheme, setting string) {
	t.Helper()
	if !speaksTLS(t) {
		return "http://", ""
	}
	certFile, keyFile, _ := writeCertificate(t)
	return "https://", fmt.Sprintf("tls: { cert_file: %q, key_file: %q }", certFile, keyFile)
}

// trustAll lets a client take the certificate of any node, whose name is that of one address. That clients can check it is tested
// where the certificate is the subject.
func trustAll(transport *http.Transport) *http.Transport {
	transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	return transport
}
