package e2e

import (
	"errors"
	"flag"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var traefikFlag = flag.String("traefik", "", "the path of a Traefik, of which the tests of edges are run too: see deploy/traefik.sh")

// edgeStart runs an edge with its sample's configuration in front of an origin. change is further YAML of the route's edge section.
type edgeStart func(t *testing.T, origin *liveOrigin, change string) *edge

// askingEdges returns the edges that ask about each request.
func askingEdges() map[string]edgeStart {
	edges := map[string]edgeStart{"Caddy": startCaddy}
	maps.Copy(edges, cookieEdges())
	return edges
}

// cookieEdges returns those that forward a cookie of Usher's.
func cookieEdges() map[string]edgeStart {
	edges := map[string]edgeStart{"nginx": startNginx, "HAProxy": startHAProxy}
	if *traefikFlag != "" {
		edges["Traefik"] = startTraefik
	}
	return edges
}

// startTraefik runs Traefik with the sample's configuration in front of an origin.
func startTraefik(t *testing.T, origin *liveOrigin, change string) *edge {
	t.Helper()
	e := startEdgeNode(t, "traefik", change)
	listen, own := freePort(t), t.TempDir()
	dynamic, static := filepath.Join(own, "dynamic.yaml"), filepath.Join(own, "traefik.yaml")
	routes := sample(t, "traefik/dynamic.yaml", "127.0.0.1:8080", host(e.public), "127.0.0.1:8000", host(origin.url))
	if strings.Contains(change, "match_by: cookie") {
		routes = strings.ReplaceAll(routes, "#   addAuthCookiesToResponse", "addAuthCookiesToResponse")
	}
	listeners := sample(t, "traefik/traefik.yaml", `":80"`, `"`+listen+`"`, "/etc/traefik/dynamic.yaml", dynamic)
	for file, text := range map[string]string{dynamic: routes, static: listeners} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	e.url, e.server = "http://"+listen, start(t, *traefikFlag, "--configFile="+static)
	e.await(t)
	eventually(t, waitTimeout, "traefik has its routes", func() error { // it listens before
		status, _, err := fetch(e.client, e.url+"/play/none/index.m3u8")
		if status == http.StatusNotFound {
			return errors.New("no route")
		}
		return err
	})
	return e
}
