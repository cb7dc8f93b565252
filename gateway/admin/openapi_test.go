package admin

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/google/go-cmp/cmp"

	"usher/actors/session"
	"usher/gateway/admin/breakers"
	"usher/gateway/admin/freerides"
	"usher/gateway/admin/openapi"
	"usher/gateway/admin/overview"
)

// apiDocument is the parsed document of the API.
var apiDocument = sync.OnceValues(func() (*openapi3.T, error) { return parseDocument(openapi.Document()) })

func parseDocument(text []byte) (*openapi3.T, error) {
	loader := openapi3.NewLoader()
	doc, err := loader.LoadFromData(text)
	if err != nil {
		return nil, err
	}
	return doc, doc.Validate(loader.Context)
}

// newHandler returns a Handler that fails the test if a response is not as the document says, or if a request succeeds that the
// document does not describe.
func newHandler(t testing.TB, c Config, o Options) http.Handler {
	t.Helper()
	doc, err := apiDocument()
	if err != nil {
		t.Fatal(err)
	}
	h := Handler(c, o)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		response := httptest.NewRecorder()
		h.ServeHTTP(response, r)
		if r.Pattern != "" { // else no route of the listener matches
			if err := checkExchange(doc, r, body, response); err != nil {
				t.Errorf("%s %s: %v", r.Method, r.URL, err)
			}
		}
		maps.Copy(w.Header(), response.Header())
		w.WriteHeader(response.Code)
		_, _ = w.Write(response.Body.Bytes())
	})
}

// checkExchange returns where a request or its response differs from the document.
func checkExchange(doc *openapi3.T, r *http.Request, body []byte, response *httptest.ResponseRecorder) error {
	_, path, _ := strings.Cut(r.Pattern, " ")
	item := doc.Paths.Value(path)
	if item == nil || item.GetOperation(r.Method) == nil {
		return fmt.Errorf("the document has no %s", r.Pattern)
	}
	parameters := map[string]string{}
	for name := range doc.Components.Parameters {
		parameters[name] = r.PathValue(name)
	}
	r = r.Clone(r.Context())
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	request := &openapi3filter.RequestValidationInput{
		Request: r, PathParams: parameters,
		Route:   &routers.Route{Spec: doc, Path: path, PathItem: item, Method: r.Method, Operation: item.GetOperation(r.Method)},
		Options: &openapi3filter.Options{IncludeResponseStatus: true, AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
	}
	var errs []error
	if response.Code < http.StatusBadRequest {
		errs = append(errs, openapi3filter.ValidateRequest(r.Context(), request), unknownParameters(request.Route, r))
	}
	errs = append(errs, openapi3filter.ValidateResponse(r.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: request, Status: response.Code, Header: response.Header(),
		Body: io.NopCloser(bytes.NewReader(response.Body.Bytes())), Options: request.Options,
	}))
	return errors.Join(errs...)
}

// unknownParameters returns which parameters of the query the document does not have.
func unknownParameters(route *routers.Route, r *http.Request) error {
	for name := range r.URL.Query() {
		if route.Operation.Parameters.GetByInAndName("query", name) == nil {
			return fmt.Errorf("the document has no parameter %q", name)
		}
	}
	return nil
}

// operations returns the patterns of all operations of a document, sorted.
func operations(doc *openapi3.T) (patterns []string) {
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			patterns = append(patterns, method+" "+path)
		}
	}
	slices.Sort(patterns)
	return patterns
}

func TestHandler_Document_HasEveryRoute(t *testing.T) {
	t.Parallel()
	doc, err := apiDocument()
	if err != nil {
		t.Fatal(err)
	}
	h := &handler{}
	served := append(slices.Collect(maps.Keys(h.endpoints())), slices.Collect(maps.Keys(h.openEndpoints()))...)
	slices.Sort(served)
	if diff := cmp.Diff(served, operations(doc)); diff != "" {
		t.Errorf("the document differs from the routes (-routes +document):\n%s", diff)
	}
}

// TestHandler_Document_Responses checks of each operation that the document has the errors which authorize responds with, and
// parameters if authorize lets some through.
func TestHandler_Document_Responses(t *testing.T) {
	t.Parallel()
	doc, err := apiDocument()
	if err != nil {
		t.Fatal(err)
	}
	for pattern, e := range (&handler{}).endpoints() {
		method, path, _ := strings.Cut(pattern, " ")
		operation := doc.Paths.Value(path).GetOperation(method)
		inQuery := func(p *openapi3.ParameterRef) bool { return p.Value.In == "query" }
		if hasQuery := slices.ContainsFunc(operation.Parameters, inQuery); hasQuery != e.hasQuery {
			t.Errorf("%s has parameters %t, and the document says %t", pattern, e.hasQuery, hasQuery)
		}
		responses := operation.Responses
		for _, status := range []int{http.StatusBadRequest, http.StatusTooManyRequests} {
			if responses.Status(status) == nil {
				t.Errorf("%s needs the status %d", pattern, status)
			}
		}
		if responses.Status(http.StatusUnauthorized) == nil || (responses.Status(http.StatusForbidden) != nil) != (e.change != "") {
			t.Errorf("%s needs the status 401, and 403 if it changes something", pattern)
		}
	}
}

func TestHandler_Document_Served(t *testing.T) {
	t.Parallel()
	got := get(t, newFakeNode(), "/api/v1/openapi.json")
	if got.status != http.StatusOK || got.body != string(openapi.Document()) || got.header.Get("Content-Type") != "application/json" {
		t.Errorf("got %d %v, %d bytes", got.status, got.header, len(got.body))
	}
}

// TestCheckExchange_FindsDifferences checks that the check of all other tests finds what it is for.
func TestCheckExchange_FindsDifferences(t *testing.T) {
	t.Parallel()
	doc, err := apiDocument()
	if err != nil {
		t.Fatal(err)
	}
	const ok = "application/json"
	for name, test := range map[string]struct {
		pattern, target, body, contentType string
		status                             int
		response, want                     string
	}{
		"nothing": {"GET /api/v1/bans", "/api/v1/bans", "", ok, 200, `{"bans":[]}`, ""},
		"a field that the schema does not have": {
			"GET /api/v1/bans", "/api/v1/bans", "", ok, 200, `{"bans":[{"id":"a","until":"2026-01-01T00:00:00Z","colour":"red"}]}`, "colour",
		},
		"a field that is missing": {"GET /api/v1/bans", "/api/v1/bans", "", ok, 200, `{"bans":[{"id":"a"}]}`, "until"},
		"a field of another type": {"GET /api/v1/bans", "/api/v1/bans", "", ok, 200, `{"bans":[{"id":1,"until":"2026-01-01T00:00:00Z"}]}`, "string"},
		"another verdict": {
			"GET /api/v1/sessions/{id}", "/api/v1/sessions/x", "", ok, 200,
			strings.Replace(sessionBody, "allowed", "maybe", 1), "verdict",
		},
		"a session":           {"GET /api/v1/sessions/{id}", "/api/v1/sessions/x", "", ok, 200, sessionBody, ""},
		"another status":      {"GET /api/v1/bans", "/api/v1/bans", "", "text/plain", 418, "a teapot", "status is not supported"},
		"another type":        {"GET /api/v1/bans", "/api/v1/bans", "", "text/html", 200, "<p>", "text/html"},
		"a header is missing": {"GET /api/v1/bans", "/api/v1/bans", "", "text/plain", 401, "no token", "Www-Authenticate"},
		"another route":       {"GET /api/v1/beans", "/api/v1/beans", "", ok, 200, "{}", "the document has no GET /api/v1/beans"},
		"another method":      {"POST /api/v1/nodes", "/api/v1/nodes", "", ok, 200, "{}", "the document has no POST /api/v1/nodes"},
		"another parameter":   {"GET /api/v1/bans", "/api/v1/bans?user=a", "", ok, 200, `{"bans":[]}`, `no parameter "user"`},
		"a parameter out of its bounds": {
			"GET /api/v1/sessions", "/api/v1/sessions?limit=0", "", ok, 200, `{"total":0,"matched":0,"sessions":[]}`, "limit",
		},
		"a request that succeeds with another field": {
			"DELETE /api/v1/sessions/{id}", "/api/v1/sessions/x", `{"four":"5m"}`, ok, 200, `{"matched":0,"addresses":0,"kicked":0}`, "four",
		},
		"such a request that is refused": {"DELETE /api/v1/sessions/{id}", "/api/v1/sessions/x", `{"four":"5m"}`, "text/plain", 400, "four", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			method, _, _ := strings.Cut(test.pattern, " ")
			r := httptest.NewRequestWithContext(t.Context(), method, test.target, nil)
			r.Pattern = test.pattern
			r.SetPathValue("id", "x")
			w := httptest.NewRecorder()
			w.Header().Set("Content-Type", test.contentType)
			w.WriteHeader(test.status)
			_, _ = w.WriteString(test.response)
			err := checkExchange(doc, r, []byte(test.body), w)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// sessionBody is a session as the API shows it.
const sessionBody = `{"id":"s1","route":"r","channel":"c","backend":"b","address":"192.0.2.7","verdict":"allowed","source":"backend",` +
	`"started":"2026-01-01T00:00:00Z","last_seen":"2026-01-01T00:00:00Z","requests":1,"bytes":2}`

// schemaTypes are the types that the schemas of the document describe; nil for a schema that only responses of tests are checked
// against.
func schemaTypes() map[string]reflect.Type {
	return map[string]reflect.Type{
		"Session": reflect.TypeFor[Session](), "SessionList": reflect.TypeFor[SessionList](),
		"SessionLookup": reflect.TypeFor[SessionLookup](), "Overview": reflect.TypeFor[overview.Overview](),
		"KickRequest": reflect.TypeFor[kickRequest](), "KickResult": reflect.TypeFor[KickResult](), "Impact": reflect.TypeFor[Impact](),
		"KickAllRequest": reflect.TypeFor[struct {
			kickRequest
			Filter
		}](),
		"Refused": reflect.TypeFor[refused](), "BanRequest": reflect.TypeFor[banRequest](), "Ban": reflect.TypeFor[Ban](),
		"PlacedBan": reflect.TypeFor[struct {
			Ban
			Impact
		}](),
		"Node": reflect.TypeFor[session.NodeInfo](), "AlarmState": reflect.TypeFor[AlarmState](), "Backend": reflect.TypeFor[Backend](),
		"Route": reflect.TypeFor[Route](), "Origin": reflect.TypeFor[Origin](), "OriginFailure": reflect.TypeFor[OriginFailure](),
		"Forced": reflect.TypeFor[Forced](), "ForceRequest": reflect.TypeFor[forceRequest](), "ForceResult": reflect.TypeFor[ForceResult](),
		"Probe": reflect.TypeFor[breakers.Probe](), "ProbeResult": reflect.TypeFor[ProbeResult](),
		"BackendRates": reflect.TypeFor[BackendRates](), "BackendFailure": reflect.TypeFor[BackendFailure](),
		"BreakerChange": reflect.TypeFor[BreakerChange](),
		"ReloadResult":  reflect.TypeFor[ReloadResult](), "ReloadProblem": reflect.TypeFor[ReloadProblem](),
		"Timeline": reflect.TypeFor[Timeline](), "Check": reflect.TypeFor[Check](),
		"FreeRideList": reflect.TypeFor[freerides.List](), "FreeRideReport": reflect.TypeFor[freerides.Report](),
		"FreeRideNode": reflect.TypeFor[freerides.NodeReport](), "FreeRideUser": reflect.TypeFor[freerides.User](),
		"BanList": nil, "NodeList": nil, "BackendList": nil, "RouteList": nil, "OriginList": nil, "Unbanned": nil,
		"BanResult": nil, "KickOrImpact": nil,
	}
}

// jsonFields returns the names of a type's fields in JSON, sorted, and of those that are never left out.
func jsonFields(of reflect.Type) (all, always []string) {
	for f := range of.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous {
			more, moreAlways := jsonFields(f.Type)
			all, always = append(all, more...), append(always, moreAlways...)
			continue
		}
		all = append(all, name)
		if options == "" {
			always = append(always, name)
		}
	}
	slices.Sort(all)
	slices.Sort(always)
	return all, always
}

// TestHandler_Document_HasEveryField compares the schemas with the types, field by field, so that one that no test sets is found
// too.
func TestHandler_Document_HasEveryField(t *testing.T) {
	t.Parallel()
	doc, err := apiDocument()
	if err != nil {
		t.Fatal(err)
	}
	types := schemaTypes()
	if diff := cmp.Diff(slices.Sorted(maps.Keys(types)), slices.Sorted(maps.Keys(doc.Components.Schemas))); diff != "" {
		t.Errorf("the schemas differ (-test +document):\n%s", diff)
	}
	for name, of := range types {
		if of == nil || doc.Components.Schemas[name] == nil {
			continue
		}
		schema := doc.Components.Schemas[name].Value
		fields, always := jsonFields(of)
		if name == "KickAllRequest" { // which shares its filter with lists, and refuses their pages
			fields = slices.DeleteFunc(fields, func(field string) bool { return field == "after" })
		}
		if diff := cmp.Diff(fields, slices.Sorted(maps.Keys(schema.Properties))); diff != "" {
			t.Errorf("%s: properties (-type +document):\n%s", name, diff)
		}
		if required := slices.Sorted(slices.Values(schema.Required)); !strings.HasSuffix(name, "Request") {
			if diff := cmp.Diff(always, required); diff != "" {
				t.Errorf("%s: required (-type +document):\n%s", name, diff)
			}
		}
		if may := schema.AdditionalProperties.Has; may == nil || *may {
			t.Errorf("%s: it may have fields that the document does not name", name)
		}
	}
}

func TestHandler_Config(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err    error
		status int
		want   string
	}{
		"settings": {nil, http.StatusOK, "listen: a\n"},
		"a value that no file can hold": {
			errors.New("print the config: cannot represent"), http.StatusInternalServerError, "print the config: cannot represent\n",
		},
	} {
		o := newFakeNode().options()
		o.Settings = func(w io.Writer) error {
			_, _ = io.WriteString(w, "listen: a\n")
			return test.err
		}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/v1/config", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		newHandler(t, Config{Token: token}, o).ServeHTTP(w, r)
		if w.Code != test.status || w.Body.String() != test.want {
			t.Errorf("%s: got %d %q", name, w.Code, w.Body)
		}
	}
}
