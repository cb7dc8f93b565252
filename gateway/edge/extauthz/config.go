package extauthz

import (
	"errors"
	"fmt"

	"usher/backends/setting"
	"usher/gateway"
)

// Config is the listener for Envoy. The zero value disables it.
type Config struct {
	// Listen is the listener's address, "host:port"; empty: none.
	Listen string `yaml:"listen"`
	// TLS serves it over TLS; empty: plain HTTP/2.
	TLS gateway.TLSConfig `yaml:"tls"`
}

// Validate names every setting that cannot work.
func (c Config) Validate() error {
	var errs []error
	if err := setting.ValidateListen(c.Listen); c.Listen != "" && err != nil {
		errs = append(errs, fmt.Errorf("listen: %w", err))
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		errs = append(errs, errors.New("tls: certificate and key go together; one of them is missing"))
	}
	return errors.Join(errs...)
}
