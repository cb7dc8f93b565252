package main

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"usher/actors/session"
	"usher/backends"
	"usher/bench/stage"
	"usher/gateway/admin"
	"usher/gateway/front"
)

// mount serves the page and the gateway on one listener.
func (d *demo) mount(n *node) {
	d.node = n
	mux := http.NewServeMux()
	mux.Handle("/", n.handler)
	page := stage.Player()
	mux.Handle("GET /{$}", page)
	mux.Handle("GET /{file}", page) // every route of the gateway is deeper
	mux.HandleFunc("GET /status.json", d.serveStatus)
	ownPage := http.NewCrossOriginProtection() // or any page in the same browser could kick viewers
	mux.Handle("POST /middleware", ownPage.Handler(http.HandlerFunc(d.switchMiddleware)))
	mux.Handle("POST /kick", ownPage.Handler(d.kick(n.adminHandler())))
	n.server = front.NewServer(n.current.Load().settings.Gateway, front.Handlers{HTTP: mux}, n.recorder.Overloaded, n.logger)
}

// serveStatus serves what the page shows to the viewer of ?src=.
func (d *demo) serveStatus(w http.ResponseWriter, r *http.Request) {
	s := d.status()
	if peer, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		s.Own = d.ownSession(r.URL.Query().Get("src"), backends.SubscriberPrefix(peer.Addr()))
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(s)
}

// status returns the state of the demo, for no viewer in particular.
func (d *demo) status() stage.Status {
	c := d.node.current.Load().chains["middleware"]
	s := stage.Status{
		Now: time.Now(), Source: "/play/a001/index.m3u8?token=alice", Tokens: []string{"alice", "bob", "mallory"},
		Middleware: stage.MiddlewareStatus{
			Mode: d.modeName(), Modes: []string{"healthy", "refuse", "hang", "error"},
			Calls: int(d.middleware.Calls()),
		},
		Breaker: c.State().String(), OnFailure: c.FailOpen.Policy().String(), Events: d.events.list(),
	}
	for live := range d.node.registry.Each {
		s.Sessions = append(s.Sessions, d.sessionStatus(live))
	}
	return s
}

func (d *demo) sessionStatus(live session.Handle) stage.SessionStatus {
	r, shown := live.Request(), admin.NewSession(live)
	s := stage.SessionStatus{
		ID: shown.ID, Name: d.names.of(shown.ID, r.Query), Place: path.Dir(r.Path), Address: shown.Address,
		Verdict: shown.Verdict, Source: shown.Source, Reason: shown.Reason,
		Since: shown.Started, LastSeen: shown.LastSeen, Requests: shown.Requests, Bytes: shown.Bytes,
	}
	if decision := live.Decision(); decision != nil && decision.Verdict == backends.Denied {
		if ban, isBanned := d.node.cluster.Banned(r, decision); isBanned {
			s.RefusedUntil = ban.Until
		}
	}
	return s
}

// ownSession returns the id of the session that serves src to a viewer at the subscriber prefix, or "".
func (d *demo) ownSession(src string, at netip.Prefix) string {
	u, err := url.Parse(src)
	if err != nil || src == "" {
		return ""
	}
	isOwn := func(r *backends.Request) bool {
		return path.Dir(r.Path) == path.Dir(u.EscapedPath()) && bytes.Equal(r.Credentials().AppendCanonical(nil),
			backends.Credentials{Query: u.RawQuery}.AppendCanonical(nil))
	}
	if root := d.node.registry.Find(sessionOfTicket(u.Path)); root != nil {
		isOwn = func(r *backends.Request) bool { return r.Group == root.Request().Group }
	}
	for live := range d.node.registry.Each {
		if r := live.Request(); backends.SubscriberPrefix(r.Address) == at && isOwn(r) {
			return live.ID().String()
		}
	}
	return ""
}

// sessionOfTicket returns the session of the ticket that a path begins with, or zero. It does not verify the ticket.
func sessionOfTicket(pathOfTicket string) (id backends.SessionID) {
	ticket, _, _ := strings.Cut(strings.TrimPrefix(pathOfTicket, "/~"), "/")
	_, text, _ := strings.Cut(ticket, ".")
	raw, _ := base64.RawURLEncoding.DecodeString(text[:len(text)&^3])
	if len(raw) >= len(id) {
		copy(id[:], raw)
	}
	return id
}

// kick returns a handler that kicks a session as an operator does, through the API.
func (d *demo) kick(api http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var k stage.Kick
		err := json.NewDecoder(io.LimitReader(r.Body, 1<<10)).Decode(&k)
		id, errID := backends.ParseSessionID(k.Session)
		if err = cmp.Or(err, errID); err != nil {
			http.Error(w, `want {"session":"<id>"}: `+err.Error(), http.StatusBadRequest)
			return
		}
		call, err := http.NewRequestWithContext(r.Context(), http.MethodPost,
			"/api/v1/sessions/"+id.String()+"/kick", strings.NewReader(`{"reason":"kicked on the demo's page"}`))
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		call.RemoteAddr = r.RemoteAddr
		call.Header.Set("Authorization", "Bearer "+d.settings.Admin.Token.Reveal())
		api.ServeHTTP(w, call)
	}
}

// switchMiddleware sets the mode of the middleware from a request of the page or of curl.
func (d *demo) switchMiddleware(w http.ResponseWriter, r *http.Request) {
	var to stage.Switch
	if err := json.NewDecoder(io.LimitReader(r.Body, 1<<10)).Decode(&to); err != nil {
		http.Error(w, `want {"mode":"refuse"}`, http.StatusBadRequest)
		return
	}
	if err := d.setMode(to.Mode); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_, _ = fmt.Fprintln(w, "middleware:", d.modeName())
}

const (
	// maxNames bounds the memory of names. Sessions beyond it are named by their ids.
	maxNames = 1000
	// maxNameRunes bounds a name on the page, since a token may have thousands of characters.
	maxNameRunes = 64
)

// sessionNames names each session by its token, and numbers those that share one. The demo's tokens are names, not secrets.
// The zero value is ready. It is safe for concurrent use.
type sessionNames struct {
	mu   sync.Mutex
	byID map[string]string
	used map[string]bool
}

// of returns the name of a session, which never changes.
func (n *sessionNames) of(id, query string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if name, isKnown := n.byID[id]; isKnown {
		return name
	}
	base := nameOf(query)
	if len(n.byID) >= maxNames {
		return base + " #" + id
	}
	if n.byID == nil {
		n.byID, n.used = map[string]string{}, map[string]bool{}
	}
	name := base
	for i := 2; n.used[name]; i++ {
		name = fmt.Sprintf("%s #%d", base, i)
	}
	n.byID[id], n.used[name] = name, true
	return name
}

// nameOf returns the token of a query as the page shows it.
func nameOf(query string) string {
	values, _ := url.ParseQuery(query) // what is malformed is left out
	name := []rune(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, cmp.Or(values.Get("token"), "no token")))
	if len(name) > maxNameRunes {
		name = append(name[:maxNameRunes-1], '…')
	}
	return string(name)
}

// maxEvents is how many events the page shows.
const maxEvents = 40

// eventLog holds the latest events, newest first. It is safe for concurrent use.
type eventLog struct {
	mu     sync.Mutex
	events []stage.Event
}

// add adds an event. One that repeats the latest is counted there.
func (l *eventLog) add(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := stage.Event{At: time.Now(), Text: text, Count: 1}
	if len(l.events) > 0 && l.events[0].Text == text {
		now.Count += l.events[0].Count
		l.events[0] = now
		return
	}
	l.events = slices.Insert(l.events, 0, now)
	l.events = l.events[:min(len(l.events), maxEvents)]
}

func (l *eventLog) list() []stage.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.events)
}

// changes finds what has changed since the last status. The zero value knows a healthy middleware without sessions.
type changes struct {
	mode     string
	isOpen   bool
	sessions map[string]stage.SessionStatus
}

// record adds an event for each change. The probes of a breaker that is not closed are none.
func (c *changes) record(s stage.Status, events *eventLog) {
	if s.Middleware.Mode != cmp.Or(c.mode, "healthy") {
		events.add("middleware mode: " + s.Middleware.Mode)
	}
	c.mode = s.Middleware.Mode
	if isOpen := s.Breaker != backends.BreakerClosed.String(); isOpen != c.isOpen {
		c.isOpen = isOpen
		if isOpen {
			events.add(fmt.Sprintf("breaker opened: checks nobody, probes the middleware every %v", demoOpenDuration))
		} else {
			events.add("breaker closed: viewers are checked again")
		}
	}
	live := make(map[string]stage.SessionStatus, len(s.Sessions))
	for _, now := range s.Sessions {
		live[now.ID] = now
		if now.Verdict == backends.Pending.String() {
			continue // which soon has a decision, or ends
		}
		if before := c.sessions[now.ID]; before.Verdict != now.Verdict || before.Source != now.Source || before.Reason != now.Reason {
			events.add(now.Name + " on " + now.Place + ": " + describe(now))
		}
	}
	for id, before := range c.sessions {
		if _, isLive := live[id]; isLive {
			continue
		}
		end := "session ended"
		if before.Verdict == backends.Pending.String() {
			end += " without a decision"
		}
		events.add(before.Name + " on " + before.Place + ": " + end)
	}
	c.sessions = live
}

// describe says what a session's decision is, by whom, and why.
func describe(s stage.SessionStatus) string {
	if s.Reason == "" || s.Verdict == backends.Allowed.String() && s.Source == backends.FromBackend.String() {
		return s.Verdict + " by " + s.Source
	}
	return s.Verdict + " by " + s.Source + ", " + s.Reason
}
