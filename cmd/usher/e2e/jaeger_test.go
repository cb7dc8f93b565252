package e2e

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// jaeger is a running Jaeger v2 that stores in memory.
type jaeger struct {
	*process
	grpc, http, query string // URLs: of the OTLP receivers, and of the API
	client            *http.Client
}

// jaegerProgram returns the path of the program that deploy/jaeger.sh builds.
func jaegerProgram(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("../../../deploy/jaeger.sh", "path").Output()
	path := strings.TrimSpace(string(out))
	if err != nil {
		t.Fatalf("deploy/jaeger.sh path: %v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("jaeger is missing; build it, which takes minutes:\n  deploy/jaeger.sh\n%v", err)
	}
	return path
}

// startJaeger runs Jaeger, and waits until its API answers.
func startJaeger(t *testing.T) *jaeger {
	t.Helper()
	program, query, byGRPC, byHTTP := jaegerProgram(t), freePort(t), freePort(t), freePort(t)
	j := &jaeger{
		process: start(t, program, "--config", "../../../deploy/jaeger.yaml",
			"--set", "extensions.jaeger_query.http.endpoint="+query,
			"--set", "extensions.jaeger_query.grpc.endpoint="+freePort(t),
			"--set", "receivers.otlp.protocols.grpc.endpoint="+byGRPC,
			"--set", "receivers.otlp.protocols.http.endpoint="+byHTTP),
		client: newClient(t, ""),
		grpc:   "http://" + byGRPC, http: "http://" + byHTTP, query: "http://" + query,
	}
	eventually(t, waitTimeout, "Jaeger answers", func() error {
		if j.ended() {
			t.Fatalf("Jaeger ended by itself:\n%s", j.errs)
		}
		_, err := j.get("/api/services")
		return err
	})
	return j
}

func (j *jaeger) get(path string) (string, error) {
	status, body, err := fetch(j.client, j.query+path)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%s: %d %.200s", path, status, body)
	}
	return string(body), err
}

// tags are the attributes of a span or of a process, as Jaeger's API shows them.
type tags []struct {
	Key   string
	Value any
}

// get returns a value as text, or nothing.
func (l tags) get(key string) string {
	for _, tag := range l {
		if tag.Key == key {
			return fmt.Sprint(tag.Value)
		}
	}
	return ""
}

// jaegerSpan is a span as Jaeger's API shows it. Its times are microseconds.
type jaegerSpan struct {
	TraceID, SpanID, OperationName, ProcessID string
	StartTime, Duration                       int64
	References                                []struct{ RefType, TraceID, SpanID string }
	Tags                                      tags
	node                                      string
}

// refersTo reports whether the span is the other's child, or linked to it.
func (s jaegerSpan) refersTo(how string, other jaegerSpan) bool {
	return slices.ContainsFunc(s.References, func(r struct{ RefType, TraceID, SpanID string }) bool {
		return r.RefType == how && r.TraceID == other.TraceID && r.SpanID == other.SpanID
	})
}

// String returns what tells spans apart.
func (s jaegerSpan) String() string {
	return fmt.Sprintf("%s of trace %s on %s: %v, refers to %v", s.OperationName, s.TraceID, s.node, s.Tags, s.References)
}

// spans returns the spans of the traces that have one with all of these attributes, oldest first, and parents before children.
func (j *jaeger) spans(with map[string]string) ([]jaegerSpan, error) {
	text, err := json.Marshal(with)
	if err != nil {
		return nil, err
	}
	body, err := j.get("/api/traces?service=usher&limit=1000&tags=" + url.QueryEscape(string(text)))
	if err != nil {
		return nil, err
	}
	var found struct {
		Data []struct {
			Spans     []jaegerSpan
			Processes map[string]struct{ Tags tags }
		}
	}
	if err := json.Unmarshal([]byte(body), &found); err != nil {
		return nil, err
	}
	var all []jaegerSpan
	for _, trace := range found.Data {
		for _, s := range trace.Spans {
			s.node = trace.Processes[s.ProcessID].Tags.get("service.instance.id")
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b jaegerSpan) int {
		return cmp.Or(cmp.Compare(a.StartTime, b.StartTime), cmp.Compare(b.Duration, a.Duration))
	})
	return all, nil
}

// named returns the spans of that name on that node.
func named(all []jaegerSpan, name, node string) (list []jaegerSpan) {
	for _, s := range all {
		if s.OperationName == name && s.node == node {
			list = append(list, s)
		}
	}
	return list
}

// await waits until Jaeger has a span of that name and node among those with the attributes, and returns the first such span
// and all spans of its trace.
func (j *jaeger) await(t *testing.T, name, node string, with map[string]string) (first jaegerSpan, trace []jaegerSpan) {
	t.Helper()
	eventually(t, waitTimeout, fmt.Sprintf("Jaeger has %s of %s with %v", name, node, with), func() error {
		all, err := j.spans(with)
		if err != nil {
			return err
		}
		list := named(all, name, node)
		if len(list) == 0 {
			return fmt.Errorf("it has %v", all)
		}
		first, trace = list[0], slices.DeleteFunc(all, func(s jaegerSpan) bool { return s.TraceID != list[0].TraceID })
		return nil
	})
	return first, trace
}

// store returns all that Jaeger has of all services.
func (j *jaeger) store(t *testing.T) string {
	t.Helper()
	body, err := j.get("/api/services")
	if err != nil {
		t.Fatal(err)
	}
	var services struct{ Data []string }
	if err := json.Unmarshal([]byte(body), &services); err != nil {
		t.Fatal(err)
	}
	for _, service := range services.Data {
		traces, err := j.get("/api/traces?limit=100000&service=" + url.QueryEscape(service))
		if err != nil {
			t.Fatal(err)
		}
		body += traces
	}
	return body
}
