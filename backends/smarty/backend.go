package smarty

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"usher/backends"
	"usher/backends/httpbackend"
)

// Backend checks viewers with one middleware. Safe for concurrent use.
type Backend struct {
	*httpbackend.Client

	send []string // names of our own parameters
}

var _ backends.Backend = (*Backend)(nil)

// New makes the named backend. It fails if the config is invalid or a file named in it cannot be read.
func New(name string, cfg Config, deps httpbackend.Deps) (*Backend, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("make backend %q: %w", name, err)
	}
	client, err := httpbackend.NewClient(name, cfg.withEndpoint(), deps)
	if err != nil {
		return nil, fmt.Errorf("make backend %q: %w", name, err)
	}
	return &Backend{Client: client, send: cfg.Send}, nil
}

// Check checks one viewer.
func (b *Backend) Check(ctx context.Context, r *backends.Request) (backends.Decision, error) {
	a, err := b.Do(ctx, httpbackend.Call{
		Query:       r.Query,
		Parameters:  b.ownParameters(r),
		Header:      httpbackend.AstraHeaders(r),
		Credentials: r.Headers,
		NeedsBody:   true,
	})
	if err != nil {
		return backends.Decision{}, err
	}
	return b.decideByCode(a)
}

// ownParameters returns the configured parameters. An unknown value is sent empty, so that the viewer's parameter of that
// name does not get through.
func (b *Backend) ownParameters(r *backends.Request) []httpbackend.Parameter {
	if len(b.send) == 0 {
		return nil
	}
	parameters := make([]httpbackend.Parameter, 0, len(b.send))
	for _, name := range b.send {
		value := r.Channel
		if name == sendIP {
			value = ""
			if r.Address.IsValid() {
				value = r.Address.Unmap().WithZone("").String()
			}
		}
		parameters = append(parameters, httpbackend.Parameter{Name: name, Value: value})
	}
	return parameters
}

// decideByCode turns a response into a decision or a failure.
func (b *Backend) decideByCode(a httpbackend.Response) (backends.Decision, error) {
	c, err := parseCode(a.Body)
	switch {
	case err != nil:
		return b.readMalformed(a, err)
	case c == codeValid:
		return b.readAllowed(a)
	default:
		b.ContractAlarms().Record(time.Now(), 0, "") // a response within the contract, whatever its code
		return backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend, Reason: c.String()}, nil
	}
}

// readAllowed reads an allowed response as a 200, whatever its status: its headers, and the configured requirements.
func (b *Backend) readAllowed(a httpbackend.Response) (backends.Decision, error) {
	a.Status = http.StatusOK
	d, err := b.Interpret(a)
	if err == nil && d.Verdict == backends.Allowed {
		d.Reason = codeValid.String()
	}
	return d, err
}

// readMalformed classifies a response without a code. Its status may be a failure of another kind or a redirect, but
// never allows or denies by itself.
func (b *Backend) readMalformed(a httpbackend.Response, cause error) (backends.Decision, error) {
	status := b.Classify(a)
	redirect := a.Status/100 == 3 && status.Decision.Verdict != backends.Allowed
	if status.Failure != nil || redirect {
		return b.Interpret(a)
	}
	if a.IsWebPage() {
		cause = fmt.Errorf("%w; it is a web page", cause)
	}
	b.ContractAlarms().Record(time.Now(), status.Raised.With(backends.AlarmUnexpectedAnswer), cause.Error())
	return backends.Decision{}, b.Malformed(cause)
}
