package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"usher/backends/setting"
	"usher/gateway"
)

// viewerFields returns what the backend reads of viewers' requests, where its settings name that.
func (b *backendSettings) viewerFields() []setting.ViewerField {
	if b.Settings == nil {
		return nil
	}
	return b.Settings.viewerFields()
}

// validateViewerFields finds backends to which no route passes on what they read of viewers' requests: credentials without which they
// allow nobody, and what a setting names that has no effect then.
func (s *settings) validateViewerFields() error {
	var errs []error
	for _, name := range s.backendNames() {
		fields := s.Backends[name].viewerFields()
		if err := s.validateCredentials(name, fields); err != nil {
			errs = append(errs, err)
			continue
		}
		for _, f := range fields {
			if f.IsRequired {
				errs = append(errs, s.validateReached(name, f))
			}
		}
	}
	return errors.Join(append(errs, s.validateReserved())...)
}

// validateReserved finds credentials with the names of Usher's own header fields. A middleware would take them for those and gets none, so
// that another backend of the route must read them.
func (s *settings) validateReserved() error {
	var errs []error
	for i, r := range s.Gateway.Routes {
		for j, name := range r.CredentialHeaders {
			if setting.IsReservedHeader(name) && !setting.IsConnectionHeader(name) && !s.readsHeader(i, name) {
				errs = append(errs, fmt.Errorf("routes[%d].credential_headers[%d]: %q reaches no backend of the route: a middleware would take it for "+
					"Usher's own; want a field that only viewers send", i, j, name))
			}
		}
	}
	return errors.Join(errs...)
}

// readsHeader reports whether a setting of one of the route's backends names the header field.
func (s *settings) readsHeader(route int, name string) bool {
	return slices.ContainsFunc(s.backendNames(), func(backend string) bool {
		return slices.Contains(s.routesOf(backend), route) &&
			slices.ContainsFunc(s.Backends[backend].viewerFields(), func(f setting.ViewerField) bool { return strings.EqualFold(f.Header, name) })
	})
}

// validateCredentials finds routes that pass none of its credentials on to a backend. Beside other members of a composite it is enough
// that one route does.
func (s *settings) validateCredentials(name string, fields []setting.ViewerField) error {
	credentials := credentialsOf(fields)
	if len(credentials) == 0 {
		return nil
	}
	var errs []error
	users := s.routesOf(name)
	isPassed := func(i int) bool {
		return slices.ContainsFunc(credentials, func(all []setting.ViewerField) bool {
			return !slices.ContainsFunc(all, func(f setting.ViewerField) bool { return !s.passes(s.Gateway.Routes[i], f) })
		})
	}
	for _, i := range users {
		if key := backendKey(s.Gateway.Routes[i], name); key != "" && !isPassed(i) {
			errs = append(errs, fmt.Errorf("routes[%d].%s: %q allows nobody here, as the route passes no credentials on to it; want %s",
				i, key, name, s.wantedCredentials(name, credentials, []int{i})))
		}
	}
	if len(errs) == 0 && len(users) > 0 && !slices.ContainsFunc(users, isPassed) {
		errs = append(errs, fmt.Errorf("backends.%s: allows nobody, as no route that uses it passes credentials on to it, not %s; want %s",
			name, routeList(users), s.wantedCredentials(name, credentials, users)))
	}
	return errors.Join(errs...)
}

// credentialsOf returns the fields of each credential, in the order of the first ones.
func credentialsOf(fields []setting.ViewerField) (all [][]setting.ViewerField) {
	for _, f := range fields {
		if f.Credential == "" {
			continue
		}
		i := slices.IndexFunc(all, func(other []setting.ViewerField) bool { return other[0].Credential == f.Credential })
		if i < 0 {
			i, all = len(all), append(all, nil)
		}
		all[i] = append(all[i], f)
	}
	return all
}

// wantedCredentials says which of the credentials one of the routes may pass on, and where they name them.
func (s *settings) wantedCredentials(name string, credentials [][]setting.ViewerField, routes []int) string {
	var wanted []string
	for _, all := range credentials {
		parts, canPass := make([]string, len(all)), true
		for i, f := range all {
			parts[i] = fmt.Sprintf("%s, as backends.%s.%s says", f, name, f.Setting)
			canPass = canPass && s.canPass(routes, f)
		}
		if canPass {
			wanted = append(wanted, strings.Join(parts, ", and "))
		}
	}
	if len(wanted) == 0 {
		return "another backend, as this edge passes no header fields on"
	}
	return strings.Join(wanted, ", or ")
}

// canPass reports whether one of the routes may name the field. Edges that keep sessions themselves pass no header fields on.
func (s *settings) canPass(routes []int, f setting.ViewerField) bool {
	return f.Header == "" || slices.ContainsFunc(routes, func(i int) bool {
		e := s.Gateway.Routes[i].Edge
		return e == nil || !e.Dialect.KeepsSessions()
	})
}

// validateReached finds a field that no route passes on to the backend whose setting names it.
func (s *settings) validateReached(name string, f setting.ViewerField) error {
	users := s.routesOf(name)
	if len(users) == 0 || slices.ContainsFunc(users, func(i int) bool { return s.passes(s.Gateway.Routes[i], f) }) {
		return nil
	}
	wanted := f.String()
	if !s.canPass(users, f) {
		wanted = "no " + f.Setting + ", as these edges pass no header fields on"
	}
	return fmt.Errorf("backends.%s.%s: has no effect, as no route that uses it passes %s%s on to it, not %s; want %s",
		name, f.Setting, f.Parameter, f.Header, routeList(users), wanted)
}

// passes reports whether a route passes the field on to its backend.
func (s *settings) passes(r gateway.RouteConfig, f setting.ViewerField) bool {
	return r.Passes(f, s.Gateway.Tickets.Parameter)
}

// routesOf returns the indices of the routes whose backend is the named one, or has it as a member.
func (s *settings) routesOf(name string) []int {
	var users []int
	for i, r := range s.Gateway.Routes {
		if s.reaches(r.Backend, name, len(s.Backends)) || r.Edge != nil && s.reaches(r.Edge.PublishBackend, name, len(s.Backends)) {
			users = append(users, i)
		}
	}
	return users
}

// backendKey returns the key by which a route names the backend as its own; empty: it does not.
func backendKey(r gateway.RouteConfig, name string) string {
	switch {
	case r.Backend == name:
		return "backend"
	case r.Edge != nil && r.Edge.PublishBackend == name:
		return "edge.publish_backend"
	default:
		return ""
	}
}

// routeList names routes by their keys.
func routeList(indices []int) string {
	keys := make([]string, len(indices))
	for i, index := range indices {
		keys[i] = fmt.Sprintf("routes[%d]", index)
	}
	return strings.Join(keys, ", ")
}
