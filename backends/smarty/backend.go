package smarty

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"usher/backends"
	"usher/backends/httpbackend"
)

// Backend asks one middleware. Safe for concurrent use.
type Backend struct {
	*httpbackend.Client

	send []string
}

var _ backends.Backend = (*Backend)(nil)

// New makes the named backend. It fails if the config is wrong or a file that it names cannot be read.
func New(name string, cfg Config, parts httpbackend.Deps) (*Backend, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("make backend %q: %w", name, err)
	}
	client, err := httpbackend.NewClient(name, cfg.complete(), parts)
	if err != nil {
		return nil, fmt.Errorf("make backend %q: %w", name, err)
	}
	return &Backend{Client: client, send: cfg.SendFields}, nil
}

// Check asks about one viewer.
func (b *Backend) Check(ctx context.Context, r *backends.Request) (backends.Decision, error) {
	a, err := b.Do(ctx, httpbackend.Call{
		Query:       r.Query,
		Parameters:  b.ours(r),
		Header:      httpbackend.AstraHeaders(r),
		Credentials: r.Headers,
		NeedsBody:   true,
	})
	if err != nil {
		return backends.Decision{}, err
	}
	return b.decide(a)
}

// ours is what the config says to send besides. What is not known is sent empty, so that the viewer's own word for it
// does not get through instead.
func (b *Backend) ours(r *backends.Request) []httpbackend.Parameter {
	if len(b.send) == 0 {
		return nil
	}
	ours := make([]httpbackend.Parameter, 0, len(b.send))
	for _, what := range b.send {
		value := r.Channel
		if what == sendIP {
			value = ""
			if r.Address.IsValid() {
				value = r.Address.Unmap().WithZone("").String()
			}
		}
		ours = append(ours, httpbackend.Parameter{Name: what, Value: value})
	}
	return ours
}

// decide says what an answer means.
func (b *Backend) decide(a httpbackend.Response) (backends.Decision, error) {
	c, err := parse(a.Body)
	switch {
	case err != nil:
		return b.unreadable(a, err)
	case c == valid:
		return b.yes(a)
	default:
		b.ContractAlarms().Record(time.Now(), 0, "") // an answer within its contract, whatever it says
		return backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend, Reason: c.String()}, nil
	}
}

// yes reads the rest of a yes as that of a 200, whatever its status was: its headers, and what the config requires.
func (b *Backend) yes(a httpbackend.Response) (backends.Decision, error) {
	a.Status = http.StatusOK
	d, err := b.Interpret(a)
	if err == nil && d.Verdict == backends.Allowed {
		d.Reason = valid.String()
	}
	return d, err
}

// unreadable sorts an answer without a code. Its status may be a failure of a kind of its own, or send the viewer
// elsewhere; a yes or no it never is.
func (b *Backend) unreadable(a httpbackend.Response, cause error) (backends.Decision, error) {
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
