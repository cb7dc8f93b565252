package actors

import (
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"testing"
	"time"

	"usher/backends"
)

// t0 is when the sessions of these tests opened.
func t0() time.Time { return time.Date(2026, 11, 21, 20, 0, 0, 0, time.UTC) }

func in(d time.Duration) time.Time { return t0().Add(d) }

// plainRules have round numbers and no jitter.
func plainRules() *rules {
	return &rules{
		start:       t0(),
		validity:    3 * time.Minute,
		recheckMin:  10 * time.Second,
		recheckMax:  24 * time.Hour,
		denyFor:     15 * time.Second,
		retryAfter:  time.Second,
		idleTimeout: time.Minute,
		reviveFor:   6 * time.Hour,
	}
}

func yes() backends.Decision {
	return backends.Decision{Verdict: backends.Allowed, Source: backends.FromBackend, UserID: "17", User: "Ann"}
}

func no() backends.Decision {
	return backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend, Reason: "not paid"}
}

func letIn() backends.Decision {
	return backends.Decision{Verdict: backends.Allowed, Source: backends.FromFailOpen}
}

func lastKnown() backends.Decision {
	return backends.Decision{Verdict: backends.Allowed, Source: backends.FromLastKnown, UserID: "17", User: "Ann"}
}

func refusedByPolicy() backends.Decision {
	return backends.Decision{Verdict: backends.Denied, Source: backends.FromFailOpen}
}

func timeout() error { return &backends.Failure{Kind: backends.FailureTimeout, Backend: "portal"} }

func overload() error { return &backends.Overload{Setting: "backends.portal.max_in_flight", Value: 1} }

// sessionIn is a session of a viewer with credentials, in the phase named.
func sessionIn(p phase) *session {
	s := &session{rules: plainRules(), phase: p, hasFacts: true, opened: t0(), key: "a"}
	switch p {
	case opening, closed:
	case allowed:
		s.ran, s.decision, s.expires = true, yes(), in(3*time.Minute)
	case rechecking:
		s.ran, s.decision, s.expires = true, yes(), t0()
	case denied:
		s.decision, s.expires = no(), in(15*time.Second)
	case undecided:
		s.asking, s.expires = true, in(time.Second)
	}
	return s
}

// asking is sessionIn while a check is on its way.
func asking(p phase) *session {
	s := sessionIn(p)
	s.asking = true
	return s
}

// byTicket is a session whose viewer is known by his ticket alone.
func byTicket(p phase) *session {
	s := sessionIn(p)
	s.hasFacts, s.presented = false, backends.Ticket{Opened: t0(), Key: "a"}
	if p == allowed {
		s.decision = backends.Decision{Verdict: backends.Allowed, Source: backends.FromTicket}
	}
	return s
}

// kick is what an operator does to a session.
func kick() revoked {
	return revoked{kind: backends.RevokedKicked, decision: Kicked()}
}

// turnedAway is what comes of it.
func turnedAway() action { return action{publish: true, wake: in(15 * time.Second)} }

func TestStepWalksEveryPhaseAndEvent(t *testing.T) {
	t.Parallel()
	type row struct {
		session *session
		event   any
		phase   phase
		want    action
	}
	rows := map[string]row{
		"an opening looks the session up":                   {sessionIn(opening), opened{}, opening, action{claim: openClaim}},
		"an opening that nobody remembers asks":             {sessionIn(opening), claimed{kind: openClaim}, opening, action{ask: true}},
		"an opening is answered":                            {asking(opening), backendAnswered{decision: yes()}, allowed, action{publish: true, save: true, wake: in(time.Minute)}},
		"an opening takes too long":                         {asking(opening), answerOverdue{instead: letIn()}, allowed, action{publish: true, save: true, wake: in(time.Minute)}},
		"an opening has no timer":                           {sessionIn(opening), timerFired{lastSeen: t0()}, opening, action{}},
		"an opening waits for no turn":                      {sessionIn(opening), turnCame{}, opening, action{refund: true}},
		"credentials that come while opening wait for it":   {byTicket(opening), credentialsCame{}, opening, action{}},
		"an opening was not lost":                           {sessionIn(opening), forgotten{}, opening, action{}},
		"an opening is overtaken by its own claim":          {sessionIn(opening), overtaken{}, opening, action{}},
		"an opening is revoked":                             {asking(opening), kick(), denied, turnedAway()},
		"an opening is not banned yet":                      {sessionIn(opening), pardoned{}, opening, action{}},
		"an opening knows the store's word anyhow":          {sessionIn(opening), doubted{}, opening, action{}},
		"an allowed session that was lost is stored again":  {sessionIn(allowed), forgotten{}, allowed, action{save: true}},
		"an allowed session that was overtaken looks soon":  {sessionIn(allowed), overtaken{}, allowed, action{wake: in(time.Second)}},
		"an allowed session is revoked":                     {sessionIn(allowed), kick(), denied, turnedAway()},
		"an allowed session needs no pardon":                {sessionIn(allowed), pardoned{}, allowed, action{}},
		"an allowed session in doubt looks":                 {sessionIn(allowed), doubted{}, allowed, action{claim: lookClaim}},
		"a re-check that was lost is stored again":          {sessionIn(rechecking), forgotten{}, rechecking, action{save: true}},
		"a re-check that was overtaken knows soon":          {sessionIn(rechecking), overtaken{}, rechecking, action{}},
		"a re-check is revoked":                             {asking(rechecking), kick(), denied, turnedAway()},
		"a re-check needs no pardon":                        {sessionIn(rechecking), pardoned{}, rechecking, action{}},
		"a re-check in doubt looks":                         {sessionIn(rechecking), doubted{}, rechecking, action{claim: lookClaim}},
		"a denied session is not stored again":              {sessionIn(denied), forgotten{}, denied, action{}},
		"a denial that was overtaken is soon forgotten":     {sessionIn(denied), overtaken{}, denied, action{wake: in(time.Second)}},
		"a denied session is told by whom":                  {sessionIn(denied), kick(), denied, turnedAway()},
		"a backend's denial is no ban to be pardoned":       {sessionIn(denied), pardoned{}, denied, action{}},
		"a denied session has no doubt":                     {sessionIn(denied), doubted{}, denied, action{}},
		"an undecided session is not stored":                {sessionIn(undecided), forgotten{}, undecided, action{}},
		"an undecided session is overtaken by its check":    {sessionIn(undecided), overtaken{}, undecided, action{}},
		"an undecided session is revoked":                   {sessionIn(undecided), kick(), denied, turnedAway()},
		"an undecided session needs no pardon":              {sessionIn(undecided), pardoned{}, undecided, action{}},
		"an undecided session has no doubt":                 {sessionIn(undecided), doubted{}, undecided, action{}},
		"a closed session is not stored again":              {sessionIn(closed), forgotten{}, closed, action{}},
		"a closed session is not overtaken":                 {sessionIn(closed), overtaken{}, closed, action{}},
		"a closed session is not revoked":                   {sessionIn(closed), kick(), closed, action{}},
		"a closed session is not pardoned":                  {sessionIn(closed), pardoned{}, closed, action{}},
		"a closed session has no doubt":                     {sessionIn(closed), doubted{}, closed, action{}},
		"an opening that published nothing starts again":    {sessionIn(opening), rebuilt{}, undecided, action{wake: in(time.Second)}},
		"an allowed session is not opened again":            {sessionIn(allowed), opened{}, allowed, action{}},
		"a record that comes late changes nothing":          {sessionIn(allowed), remembered(backends.Record{}), allowed, action{}},
		"an answer that nobody asked for changes nothing":   {sessionIn(allowed), backendAnswered{decision: no()}, allowed, action{}},
		"nobody waits for an allowed session":               {sessionIn(allowed), answerOverdue{instead: refusedByPolicy()}, allowed, action{}},
		"an allowed session's timer looks again":            {sessionIn(allowed), timerFired{lastSeen: t0()}, allowed, action{wake: in(time.Minute)}},
		"an allowed session has no turn to take":            {sessionIn(allowed), turnCame{}, allowed, action{refund: true}},
		"credentials for a ticket's session get it checked": {byTicket(allowed), credentialsCame{}, rechecking, action{queue: stopgapLane, save: true}},
		"an allowed session that was rebuilt asks soon":     {sessionIn(allowed), rebuilt{}, allowed, action{wake: in(10 * time.Second)}},
		"a re-check is no opening":                          {sessionIn(rechecking), opened{}, rechecking, action{}},
		"a re-check takes no record":                        {sessionIn(rechecking), remembered(backends.Record{}), rechecking, action{}},
		"a re-check is denied":                              {asking(rechecking), backendAnswered{decision: no()}, denied, action{publish: true, bury: true, wake: in(15 * time.Second)}},
		"nobody waits for a re-check":                       {asking(rechecking), answerOverdue{instead: refusedByPolicy()}, rechecking, action{}},
		"a re-check's timer looks for idle viewers":         {sessionIn(rechecking), timerFired{lastSeen: t0()}, rechecking, action{wake: in(time.Minute)}},
		"a re-check's turn comes":                           {sessionIn(rechecking), turnCame{}, rechecking, action{ask: true}},
		"a re-check needs no more credentials":              {sessionIn(rechecking), credentialsCame{}, rechecking, action{}},
		"a re-check that was rebuilt asks soon":             {asking(rechecking), rebuilt{}, allowed, action{wake: in(10 * time.Second)}},
		"a denied session is not opened again":              {sessionIn(denied), opened{}, denied, action{}},
		"a denied session takes no record":                  {sessionIn(denied), remembered(backends.Record{}), denied, action{}},
		"a late yes undoes what the policy refused":         {asking(denied), backendAnswered{decision: yes()}, allowed, action{publish: true, save: true, wake: in(time.Minute)}},
		"nobody waits for a denied session":                 {sessionIn(denied), answerOverdue{instead: letIn()}, denied, action{}},
		"a denial is remembered":                            {sessionIn(denied), timerFired{lastSeen: t0()}, denied, action{wake: in(15 * time.Second)}},
		"a denied session has no turn to take":              {sessionIn(denied), turnCame{}, denied, action{refund: true}},
		"credentials do not undo a denial":                  {byTicket(denied), credentialsCame{}, denied, action{}},
		"a denial that was rebuilt is remembered":           {sessionIn(denied), rebuilt{}, denied, action{wake: in(15 * time.Second)}},
		"an undecided session is not opened again":          {sessionIn(undecided), opened{}, undecided, action{}},
		"an undecided session takes no record":              {sessionIn(undecided), remembered(backends.Record{}), undecided, action{}},
		"an undecided session is answered late":             {sessionIn(undecided), backendAnswered{decision: yes()}, allowed, action{publish: true, save: true, wake: in(time.Minute)}},
		"an undecided session was overdue already":          {sessionIn(undecided), answerOverdue{instead: letIn()}, undecided, action{}},
		"an undecided session waits for its answer":         {sessionIn(undecided), timerFired{lastSeen: t0()}, undecided, action{wake: in(time.Second)}},
		"an undecided session has no turn to take":          {sessionIn(undecided), turnCame{}, undecided, action{refund: true}},
		"an undecided session is being asked about already": {sessionIn(undecided), credentialsCame{}, undecided, action{}},
		"an undecided session that was rebuilt is let go":   {sessionIn(undecided), rebuilt{}, undecided, action{wake: in(time.Second)}},
		"a closed session is not opened":                    {sessionIn(closed), opened{}, closed, action{}},
		"a closed session takes no record":                  {sessionIn(closed), remembered(backends.Record{}), closed, action{}},
		"a closed session takes no answer":                  {asking(closed), backendAnswered{decision: yes()}, closed, action{}},
		"nobody waits for a closed session":                 {sessionIn(closed), answerOverdue{instead: letIn()}, closed, action{}},
		"a closed session has no timer":                     {sessionIn(closed), timerFired{lastSeen: t0()}, closed, action{}},
		"a closed session has no turn to take":              {sessionIn(closed), turnCame{}, closed, action{}},
		"a closed session needs no credentials":             {byTicket(closed), credentialsCame{}, closed, action{}},
		"a closed session is not rebuilt":                   {sessionIn(closed), rebuilt{}, closed, action{}},
	}
	walked := make(map[string]bool)
	for name, r := range rows {
		walked[r.session.phase.String()+" × "+reflect.TypeOf(r.event).Name()] = true
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := r.session.step(r.event, t0())
			if got != r.want {
				t.Errorf("action %+v, want %+v", got, r.want)
			}
			if r.session.phase != r.phase {
				t.Errorf("phase %v, want %v", r.session.phase, r.phase)
			}
		})
	}
	phases, events := declared(t)
	for _, p := range phases {
		for _, e := range events {
			if !walked[p+" × "+e] {
				t.Errorf("no row walks %s × %s", p, e)
			}
		}
	}
}

// declared reads from the source which phases there are and which events step takes, so that a new one needs its rows.
func declared(t *testing.T) (phases, events []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "session.go", nil, 0)
	if err != nil {
		t.Fatalf("parse session.go: %v", err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GenDecl:
			phases = append(phases, constantsOf(n, "phase")...)
		case *ast.FuncDecl:
			if n.Name.Name != "step" {
				return false
			}
		case *ast.TypeSwitchStmt:
			for _, clause := range n.Body.List {
				for _, e := range clause.(*ast.CaseClause).List {
					events = append(events, e.(*ast.Ident).Name)
				}
			}
		}
		return true
	})
	if len(phases) < 2 || len(events) < 2 {
		t.Fatalf("session.go declares phases %v and events %v; want several of both", phases, events)
	}
	return phases, events
}

// constantsOf lists the names of a constant block whose first constant is of that type.
func constantsOf(d *ast.GenDecl, typeName string) (names []string) {
	for i, spec := range d.Specs {
		value, ok := spec.(*ast.ValueSpec)
		if !ok {
			return nil
		}
		if id, ok := value.Type.(*ast.Ident); i == 0 && (!ok || id.Name != typeName) {
			return nil
		}
		names = append(names, value.Names[0].Name)
	}
	return names
}

// remembered is what the store says to an opening that knows the session.
func remembered(r backends.Record) claimed {
	return claimed{kind: openClaim, Claimed: backends.Claimed{Found: true, Record: r}}
}
