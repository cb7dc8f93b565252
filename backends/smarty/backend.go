package smarty

import (
	"context"
	"fmt"
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
	return b.decide(a)
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

// decide turns a response into a decision or a failure. Its status decides first; the code counts where that allows.
func (b *Backend) decide(a httpbackend.Response) (backends.Decision, error) {
	if byStatus := b.Classify(a); byStatus.Failure != nil || byStatus.Decision.Verdict != backends.Allowed {
		return b.Interpret(a)
	}
	c, err := parseCode(a.Body)
	switch {
	case err != nil:
		return b.malformed(a, err)
	case c == codeValid:
		return b.allowed(a)
	default:
		b.ContractAlarms().Record(time.Now(), 0, "") // a response within the contract, whatever its code
		return backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend, Reason: c.String()}, nil
	}
}

// allowed reads an allowed response: its headers, and the configured requirements.
func (b *Backend) allowed(a httpbackend.Response) (backends.Decision, error) {
	d, err := b.Interpret(a)
	if err == nil && d.Verdict == backends.Allowed {
		d.Reason = codeValid.String()
	}
	return d, err
}

// malformed returns the failure of a response that allows by its status, but has no code.
func (b *Backend) malformed(a httpbackend.Response, cause error) (backends.Decision, error) {
	if a.IsWebPage() {
		cause = fmt.Errorf("%w; it is a web page", cause)
	}
	b.ContractAlarms().Record(time.Now(), httpbackend.AlarmSet(0).With(backends.AlarmUnexpectedAnswer), cause.Error())
	return backends.Decision{}, b.Malformed(cause)
}
