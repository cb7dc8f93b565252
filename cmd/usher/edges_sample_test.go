package main

import (
	"encoding/json"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	bootstrap "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	cors "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	extauthz "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3" // the sample names it
	manager "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	upstream "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// edgesFolder holds a folder for each edge, with the edge's configuration and its usher.yaml.
const edgesFolder = "../../deploy/edges"

// edgeFile reads a file of an edge's sample.
func edgeFile(t *testing.T, path ...string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{edgesFolder}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// edgeSettings parses an edge's usher.yaml.
func edgeSettings(t *testing.T, edge string) *settings {
	t.Helper()
	return parseSample(t, edgeFile(t, edge, "usher.yaml"))
}

// TestEdges_SamplesLoad makes a node of each sample, and checks the viewer of the command in the sample's first lines.
func TestEdges_SamplesLoad(t *testing.T) {
	t.Parallel()
	folders, err := os.ReadDir(edgesFolder)
	if err != nil || len(folders) == 0 {
		t.Fatalf("%d edges in %s, %v", len(folders), edgesFolder, err)
	}
	command := regexp.MustCompile(`(?m)^#   usher check --config usher\.yaml (?:--channel (\S+) )?--url '(\S+)'$`)
	for _, folder := range folders {
		t.Run(folder.Name(), func(t *testing.T) {
			t.Parallel()
			text := edgeFile(t, folder.Name(), "usher.yaml")
			n, err := newNode(parseSample(t, text), slog.New(slog.DiscardHandler), nil)
			if err != nil {
				t.Fatalf("no node: %v", err)
			}
			defer n.close()
			example := command.FindSubmatch(text)
			if example == nil {
				t.Fatalf("usher.yaml has no example command: no line matches %s", command)
			}
			q, err := checkCommand{
				URL: string(example[2]), Channel: string(example[1]), IP: netip.MustParseAddr("192.0.2.1"),
			}.request(n)
			if err != nil || q.Channel != "a001" {
				t.Errorf("the example checks %+v, %v; want channel a001", q, err)
			}
		})
	}
}

// TestEdges_SamplesNameListener compares the address and the path in an edge's configuration with its usher.yaml. Flussonic
// cannot run here. Package e2e runs nginx, Caddy, HAProxy and, with -traefik, Traefik with their samples.
func TestEdges_SamplesNameListener(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		file string
		// address and path each have one group.
		address, path string
	}{
		"nginx":     {"nginx.conf", `upstream usher \{[^}]*\sserver ([^;]+);`, `proxy_pass http://usher(/[^;]*);`},
		"caddy":     {"Caddyfile", `forward_auth (\S+) \{`, `uri (\S+)`},
		"haproxy":   {"haproxy.cfg", `lua\.usher http://([^/]+)/`, `lua\.usher http://[^/]+(\S+)`},
		"flussonic": {"flussonic.conf", `backend http://([^/]+)/`, `backend http://[^/]+(/[^;]*);`},
		"traefik":   {"dynamic.yaml", `address: "http://([^/]+)/`, `address: "http://[^/]+(/[^"]*)"`},
	}
	for edge, test := range tests {
		t.Run(edge, func(t *testing.T) {
			t.Parallel()
			s, text := edgeSettings(t, edge), edgeFile(t, edge, test.file)
			for pattern, want := range map[string]string{test.address: s.Gateway.Listen, test.path: s.Gateway.Routes[0].Path} {
				found := regexp.MustCompile(pattern).FindAllSubmatch(text, -1)
				if len(found) != 1 || string(found[0][1]) != want {
					t.Errorf("%s names %q, want %q as in usher.yaml", test.file, found, want)
				}
			}
		})
	}
}

// traefikDynamic holds the keys of Traefik's dynamic configuration that the sample uses, named as in the reference
// (doc.traefik.io/traefik/reference/dynamic-configuration/file).
type traefikDynamic struct {
	HTTP struct {
		Routers map[string]struct {
			Rule        string   `yaml:"rule"`
			EntryPoints []string `yaml:"entryPoints"`
			Middlewares []string `yaml:"middlewares"`
			Service     string   `yaml:"service"`
		} `yaml:"routers"`
		Middlewares map[string]struct {
			Headers struct {
				AccessControlAllowOriginList  []string `yaml:"accessControlAllowOriginList"`
				AccessControlAllowCredentials bool     `yaml:"accessControlAllowCredentials"`
				AccessControlAllowMethods     []string `yaml:"accessControlAllowMethods"`
				AccessControlAllowHeaders     []string `yaml:"accessControlAllowHeaders"`
				AccessControlMaxAge           int64    `yaml:"accessControlMaxAge"`
			} `yaml:"headers"`
			ForwardAuth struct {
				Address             string   `yaml:"address"`
				TrustForwardHeader  bool     `yaml:"trustForwardHeader"`
				AuthResponseHeaders []string `yaml:"authResponseHeaders"`
				AddAuthCookies      []string `yaml:"addAuthCookiesToResponse"`
			} `yaml:"forwardAuth"`
		} `yaml:"middlewares"`
		Services map[string]struct {
			LoadBalancer struct {
				Servers []struct {
					URL string `yaml:"url"`
				} `yaml:"servers"`
			} `yaml:"loadBalancer"`
		} `yaml:"services"`
	} `yaml:"http"`
}

type traefikStatic struct {
	EntryPoints map[string]struct {
		Address       string `yaml:"address"`
		ProxyProtocol struct {
			TrustedIPs []string `yaml:"trustedIPs"`
		} `yaml:"proxyProtocol"`
	} `yaml:"entryPoints"`
	Providers struct {
		File struct {
			Filename string `yaml:"filename"`
		} `yaml:"file"`
	} `yaml:"providers"`
}

// TestEdges_TraefikSampleIsConsistent rejects keys that Traefik does not document, and names that the sample does not
// define. Traefik itself takes too long to build for the tests of each change: see -traefik of package e2e.
func TestEdges_TraefikSampleIsConsistent(t *testing.T) {
	t.Parallel()
	var dynamic traefikDynamic
	var static traefikStatic
	for file, into := range map[string]any{"dynamic.yaml": &dynamic, "traefik.yaml": &static} {
		if err := yaml.Load(edgeFile(t, "traefik", file), into, yaml.WithKnownFields()); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	if got := filepath.Base(static.Providers.File.Filename); got != "dynamic.yaml" {
		t.Errorf("traefik.yaml reads %s, want dynamic.yaml", got)
	}
	play := dynamic.HTTP.Routers["play"]
	if len(dynamic.HTTP.Routers) != 1 || play.Rule != "PathPrefix(`/play/`)" {
		t.Errorf("the routers are %+v, want one for /play/", dynamic.HTTP.Routers)
	}
	for _, name := range play.EntryPoints {
		if static.EntryPoints[name].Address == "" {
			t.Errorf("there is no entry point %q", name)
		}
	}
	if servers := dynamic.HTTP.Services[play.Service].LoadBalancer.Servers; len(servers) == 0 {
		t.Errorf("there is no service %q", play.Service)
	}
	if diff := cmp.Diff([]string{"cors", "usher"}, play.Middlewares); diff != "" {
		t.Fatalf("the middlewares of /play/ (-want +got):\n%s", diff)
	}
	if preflight := dynamic.HTTP.Middlewares["cors"].Headers; len(preflight.AccessControlAllowOriginList) == 0 ||
		len(preflight.AccessControlAllowMethods) == 0 || len(preflight.AccessControlAllowHeaders) == 0 {
		t.Errorf("the answer to a preflight is %+v, want origins, methods and headers", preflight)
	}
	auth := dynamic.HTTP.Middlewares["usher"].ForwardAuth
	at, err := url.Parse(auth.Address)
	if want := edgeSettings(t, "traefik").Gateway.Routes[0].Path; err != nil || at.Path != want {
		t.Errorf("forwardAuth sends checks to %s, %v; want the path %s of usher.yaml's route", auth.Address, err, want)
	}
	if auth.TrustForwardHeader {
		t.Error("trustForwardHeader is set: a viewer could forge their address")
	}
	if diff := cmp.Diff([]string{"X-Session-Name", "X-Userid", "X-Usher-Source"}, auth.AuthResponseHeaders); diff != "" {
		t.Errorf("authResponseHeaders (-want +got):\n%s", diff)
	}
}

// TestEdges_SamplesTakeCookie reads the samples of the edges that cannot run here with the lines for match_by: cookie. A page of another
// origin may then send the cookie, if it is named.
func TestEdges_SamplesTakeCookie(t *testing.T) {
	t.Parallel()
	text := regexp.MustCompile(`(?m)^.*accessControlAllowOriginList: \[ "\*" \]\n`).ReplaceAll(edgeFile(t, "traefik", "dynamic.yaml"), nil)
	text = regexp.MustCompile(`(?m)^( +)#   (\w+: .*)$`).ReplaceAll(text, []byte("$1$2"))
	var dynamic traefikDynamic
	if err := yaml.Load(text, &dynamic, yaml.WithKnownFields()); err != nil {
		t.Fatalf("dynamic.yaml: %v", err)
	}
	headers, auth := dynamic.HTTP.Middlewares["cors"].Headers, dynamic.HTTP.Middlewares["usher"].ForwardAuth
	if !headers.AccessControlAllowCredentials || !slices.Equal(headers.AccessControlAllowOriginList, []string{"https://tv.example.com"}) || len(auth.AddAuthCookies) != 1 {
		t.Errorf("Traefik: %+v, %+v; want a page by name, with credentials and the cookie", headers, auth)
	}
	text = regexp.MustCompile(`(?m)^.*allow_origin_string_match: \[ \{ exact: "\*" \} \].*\n`).ReplaceAll(edgeFile(t, "envoy", "envoy.yaml"), nil)
	text = regexp.MustCompile(`(?m)^( +)#(allow_\w+: .*)$`).ReplaceAll(text, []byte("$1$2"))
	policy := onlyMessage[*cors.CorsPolicy](t, parseEnvoy(t, text))
	if pages := policy.GetAllowOriginStringMatch(); !policy.GetAllowCredentials().GetValue() || len(pages) != 1 || pages[0].GetExact() != "https://tv.example.com" {
		t.Errorf("Envoy: %v; want a page by name, with credentials", policy)
	}
}

// TestEdges_TraefikSampleBehindBalancer reads the sample with the line for a load balancer. Traefik must not believe header fields of
// a balancer, because the balancer passes on those that a viewer made up.
func TestEdges_TraefikSampleBehindBalancer(t *testing.T) {
	t.Parallel()
	text := regexp.MustCompile(`(?m)^    #   (\w+: .*)$`).ReplaceAll(edgeFile(t, "traefik", "traefik.yaml"), []byte("    $1"))
	var static traefikStatic
	if err := yaml.Load(text, &static, yaml.WithKnownFields()); err != nil {
		t.Fatalf("traefik.yaml: %v", err)
	}
	if static.EntryPoints["web"].ProxyProtocol.TrustedIPs == nil {
		t.Errorf("traefik.yaml has no line for the PROXY protocol of a load balancer:\n%s", text)
	}
}

// TestEdges_CaddySampleDropsForgedFields requires that what Caddy copies from Usher's answer is first removed from the viewer's
// request: Caddy 2.10 and 2.11 keep a viewer's own where the answer has none.
func TestEdges_CaddySampleDropsForgedFields(t *testing.T) {
	t.Parallel()
	text := string(edgeFile(t, "caddy", "Caddyfile"))
	route, check, isOrdered := strings.Cut(text, "forward_auth ")
	_, copied, found := strings.Cut(check, "copy_headers ")
	if _, route, _ = strings.Cut(route, "\troute {"); route == "" || !isOrdered || !found {
		t.Fatal("Caddyfile has no route with forward_auth and copy_headers: only a route keeps the order of its directives")
	}
	copied, _, _ = strings.Cut(copied, "\n")
	for name := range strings.FieldsSeq(copied) {
		if !strings.Contains(route, "request_header -"+name+"\n") {
			t.Errorf("%s is copied to the request, and a viewer's own not removed before", name)
		}
	}
}

func envoySample(t *testing.T) *bootstrap.Bootstrap {
	t.Helper()
	return parseEnvoy(t, edgeFile(t, "envoy", "envoy.yaml"))
}

// parseEnvoy parses envoy.yaml as Envoy does: a key or a type that Envoy does not define is an error.
func parseEnvoy(t *testing.T, sample []byte) *bootstrap.Bootstrap {
	t.Helper()
	var file map[string]any
	if err := yaml.Load(sample, &file); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	var b bootstrap.Bootstrap
	if err := protojson.Unmarshal(text, &b); err != nil {
		t.Fatalf("envoy.yaml: %v", err)
	}
	return &b
}

// messagesOf returns all messages of a type, including those packed in an Any.
func messagesOf[M proto.Message](t *testing.T, b *bootstrap.Bootstrap) []M {
	t.Helper()
	var found []M
	err := protorange.Range(b.ProtoReflect(), func(p protopath.Values) error {
		if message, ok := p.Index(-1).Value.Interface().(protoreflect.Message); ok {
			if m, ok := message.Interface().(M); ok {
				found = append(found, m)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// onlyMessage returns the only message of a type.
func onlyMessage[M proto.Message](t *testing.T, b *bootstrap.Bootstrap) M {
	t.Helper()
	found := messagesOf[M](t, b)
	if len(found) != 1 {
		t.Fatalf("%d messages of type %T, want one", len(found), *new(M))
	}
	return found[0]
}

func TestEdges_EnvoySampleIsValid(t *testing.T) {
	t.Parallel()
	type validated interface {
		proto.Message
		ValidateAll() error
	}
	checked := 0
	for _, message := range messagesOf[validated](t, envoySample(t)) {
		if err := message.ValidateAll(); err != nil {
			t.Errorf("%s: %v", message.ProtoReflect().Descriptor().FullName(), err)
		}
		checked++
	}
	if checked < 20 { // including the packed ones, which Envoy's own validation of the root skips
		t.Errorf("%d messages were checked, want all", checked)
	}
}

// TestEdges_EnvoySampleBoundsNoViewers has Envoy send what all viewers cause: by its defaults the check of the 1,025th at once fails inside
// Envoy, and failure_mode_allow admits the viewer.
func TestEdges_EnvoySampleBoundsNoViewers(t *testing.T) {
	t.Parallel()
	const least = 100_000
	for _, c := range envoySample(t).GetStaticResources().GetClusters() {
		bounds := c.GetCircuitBreakers().GetThresholds()
		if len(bounds) != 1 || min(bounds[0].GetMaxConnections().GetValue(), bounds[0].GetMaxPendingRequests().GetValue(),
			bounds[0].GetMaxRequests().GetValue()) < least {
			t.Errorf("cluster %s allows %v at once, want at least %d of each", c.GetName(), bounds, least)
		}
	}
}

// clusterNamed returns the cluster of that name and its only address.
func clusterNamed(t *testing.T, b *bootstrap.Bootstrap, name string) (*cluster.Cluster, string) {
	t.Helper()
	for _, c := range b.GetStaticResources().GetClusters() {
		if c.GetName() != name {
			continue
		}
		var addresses []string
		for _, place := range c.GetLoadAssignment().GetEndpoints() {
			for _, e := range place.GetLbEndpoints() {
				at := e.GetEndpoint().GetAddress().GetSocketAddress()
				addresses = append(addresses, net.JoinHostPort(at.GetAddress(), strconv.FormatUint(uint64(at.GetPortValue()), 10)))
			}
		}
		if len(addresses) != 1 || c.GetLoadAssignment().GetClusterName() != name {
			t.Fatalf("cluster %q has %v for %q, want one address", name, addresses, c.GetLoadAssignment().GetClusterName())
		}
		return c, addresses[0]
	}
	t.Fatalf("there is no cluster %q", name)
	return nil, ""
}

func TestEdges_EnvoySampleNamesListener(t *testing.T) {
	t.Parallel()
	b, s := envoySample(t), edgeSettings(t, "envoy")
	filter := onlyMessage[*extauthz.ExtAuthz](t, b)
	service := filter.GetGrpcService()
	usher, at := clusterNamed(t, b, service.GetEnvoyGrpc().GetClusterName())
	if want := s.ExtAuthz.Listen; at != want {
		t.Errorf("Envoy sends checks to %s, want ext_authz.listen=%s of usher.yaml", at, want)
	}
	if onlyMessage[*upstream.HttpProtocolOptions](t, b).GetExplicitHttpConfig().GetHttp2ProtocolOptions() == nil {
		t.Error("the cluster has no HTTP/2, which gRPC needs")
	}
	checks := usher.GetHealthChecks()
	if len(checks) != 1 || checks[0].GetGrpcHealthCheck() == nil {
		t.Fatalf("the health checks are %v, want one by gRPC", checks)
	}
	notice := checks[0].GetInterval().AsDuration()*time.Duration(checks[0].GetUnhealthyThreshold().GetValue()) +
		checks[0].GetTimeout().AsDuration()
	if notice > s.Gateway.Drain.ReadinessDelay {
		t.Errorf("Envoy needs %v to notice that a node drains, want at most drain.readiness_delay=%v", notice, s.Gateway.Drain.ReadinessDelay)
	}
	answer := s.Backends["portal"].rules().AnswerDeadline
	if got := service.GetTimeout().AsDuration(); got < answer+time.Second {
		t.Errorf("Envoy waits for %v, want a second more than answer_deadline=%v", got, answer)
	}
	if filter.GetWithRequestBody() != nil || filter.GetClearRouteCache() || !filter.GetFailureModeAllow() {
		t.Errorf("the filter is %v, want no body, an unchanged route, and failure_mode_allow", filter)
	}
}

func TestEdges_EnvoySampleChecksOnlyPlay(t *testing.T) {
	t.Parallel()
	b := envoySample(t)
	m := onlyMessage[*manager.HttpConnectionManager](t, b)
	if !m.GetUseRemoteAddress().GetValue() {
		t.Error("use_remote_address is not set: a viewer could forge their address")
	}
	var filters []string
	for _, f := range m.GetHttpFilters() {
		filters = append(filters, f.GetName())
	}
	if diff := cmp.Diff([]string{"envoy.filters.http.cors", "envoy.filters.http.ext_authz", "envoy.filters.http.router"}, filters); diff != "" {
		t.Errorf("the filters (-want +got):\n%s", diff)
	}
	if p := onlyMessage[*cors.CorsPolicy](t, b); len(p.GetAllowOriginStringMatch()) == 0 || p.GetAllowMethods() == "" || p.GetAllowHeaders() == "" {
		t.Errorf("the answer to a preflight is %v, want origins, methods and headers", p)
	}
	var unchecked extauthz.ExtAuthzPerRoute
	for _, r := range m.GetRouteConfig().GetVirtualHosts()[0].GetRoutes() {
		override := r.GetTypedPerFilterConfig()["envoy.filters.http.ext_authz"]
		if r.GetRoute() == nil {
			if err := override.UnmarshalTo(&unchecked); err != nil || !unchecked.GetDisabled() {
				t.Errorf("%s is checked: %v", r.GetMatch().GetPrefix(), override)
			}
			continue
		}
		if r.GetMatch().GetPrefix() != "/play/" || override != nil {
			t.Errorf("media at %s with the override %v; want /play/ without one", r.GetMatch().GetPrefix(), override)
		}
		if _, at := clusterNamed(t, b, r.GetRoute().GetCluster()); at != "127.0.0.1:8000" {
			t.Errorf("the origin is at %s, want 127.0.0.1:8000", at)
		}
	}
}
