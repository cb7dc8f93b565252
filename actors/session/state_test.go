package session

import (
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strings"
	"testing"
	"time"

	"usher/backends"
)

// T0 is when the sessions of these tests opened.
func t0() time.Time { return time.Date(2026, 11, 21, 20, 0, 0, 0, time.UTC) }

func in(d time.Duration) time.Time { return t0().Add(d) }

// PlainRules have round numbers and no jitter.
func plainRules() *Policy {
	return &Policy{
		Start:       t0(),
		Validity:    3 * time.Minute,
		RecheckMin:  10 * time.Second,
		RecheckMax:  24 * time.Hour,
		DenyFor:     15 * time.Second,
		RetryAfter:  time.Second,
		IdleTimeout: time.Minute,
		ReviveFor:   6 * time.Hour,
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
	return backends.Decision{Verdict: backends.Allowed, Source: backends.FromCached, UserID: "17", User: "Ann"}
}

func refusedByPolicy() backends.Decision {
	return backends.Decision{Verdict: backends.Denied, Source: backends.FromFailOpen}
}

func timeout() error { return &backends.Failure{Kind: backends.FailureTimeout, Backend: "portal"} }

func overload() error { return backends.NewOverload("backends.portal.max_in_flight", 1) }

// sessionIn is a session of a viewer with credentials, in the phase named.
func sessionIn(p phase) *State {
	s := &State{Policy: plainRules(), Phase: p, HasCredentials: true, Opened: t0(), KeyID: "a"}
	switch p {
	case Opening, closed:
	case Allowed:
		s.WasAllowed, s.Decision, s.Expires = true, yes(), in(3*time.Minute)
	case Rechecking:
		s.WasAllowed, s.Decision, s.Expires = true, yes(), t0()
	case denied:
		s.Decision, s.Expires = no(), in(15*time.Second)
	case undecided:
		s.checkInFlight, s.Expires = true, in(time.Second)
	}
	return s
}

// asking is sessionIn while a check is on its way.
func asking(p phase) *State {
	s := sessionIn(p)
	s.checkInFlight = true
	return s
}

// byTicket is a session whose viewer is known by his ticket alone.
func byTicket(p phase) *State {
	s := sessionIn(p)
	s.HasCredentials, s.PresentedTicket = false, Ticket{Opened: t0(), KeyID: "a"}
	if p == Allowed {
		s.Decision = backends.Decision{Verdict: backends.Allowed, Source: backends.FromTicket}
	}
	return s
}

// kick is what an operator does to a session.
func kick() Revoked {
	return Revoked{Kind: RevokedKicked, Decision: Kicked()}
}

// turnedAway is what comes of it.
func turnedAway() Action { return Action{Publish: true, WakeAt: in(15 * time.Second)} }

func TestStepWalksEveryPhaseAndEvent(t *testing.T) {
	t.Parallel()
	type row struct {
		session *State
		event   any
		phase   phase
		want    Action
	}
	rows := map[string]row{
		"an opening looks the session up":                   {sessionIn(Opening), OpenRequested{}, Opening, Action{Lookup: LookupForOpening}},
		"an opening that nobody remembers asks":             {sessionIn(Opening), LeaseAnswered{Kind: LookupForOpening}, Opening, Action{StartCheck: true}},
		"an opening is answered":                            {asking(Opening), BackendAnswered{Decision: yes()}, Allowed, Action{Publish: true, Save: true, WakeAt: in(time.Minute)}},
		"an opening takes too long":                         {asking(Opening), WaitExpired{Fallback: letIn()}, Allowed, Action{Publish: true, Save: true, WakeAt: in(time.Minute)}},
		"an opening has no timer":                           {sessionIn(Opening), TimerFired{LastSeen: t0()}, Opening, Action{}},
		"an opening waits for no turn":                      {sessionIn(Opening), RecheckGranted{}, Opening, Action{ReturnSlot: true}},
		"credentials that come while opening wait for it":   {byTicket(Opening), CredentialsArrived{}, Opening, Action{}},
		"an opening was not lost":                           {sessionIn(Opening), LostInStore{}, Opening, Action{}},
		"an opening is overtaken by its own claim":          {sessionIn(Opening), DecisionOutdated{}, Opening, Action{}},
		"an opening is revoked":                             {asking(Opening), kick(), denied, turnedAway()},
		"an opening is not banned yet":                      {sessionIn(Opening), Unbanned{}, Opening, Action{}},
		"an opening knows the store's word anyhow":          {sessionIn(Opening), MustReload{}, Opening, Action{}},
		"an allowed session that was lost is stored again":  {sessionIn(Allowed), LostInStore{}, Allowed, Action{Save: true}},
		"an allowed session that was overtaken looks soon":  {sessionIn(Allowed), DecisionOutdated{}, Allowed, Action{WakeAt: in(time.Second)}},
		"an allowed session is revoked":                     {sessionIn(Allowed), kick(), denied, turnedAway()},
		"an allowed session needs no pardon":                {sessionIn(Allowed), Unbanned{}, Allowed, Action{}},
		"an allowed session in doubt looks":                 {sessionIn(Allowed), MustReload{}, Allowed, Action{Lookup: lookupOnly}},
		"a re-check that was lost is stored again":          {sessionIn(Rechecking), LostInStore{}, Rechecking, Action{Save: true}},
		"a re-check that was overtaken knows soon":          {sessionIn(Rechecking), DecisionOutdated{}, Rechecking, Action{}},
		"a re-check is revoked":                             {asking(Rechecking), kick(), denied, turnedAway()},
		"a re-check needs no pardon":                        {sessionIn(Rechecking), Unbanned{}, Rechecking, Action{}},
		"a re-check in doubt looks":                         {sessionIn(Rechecking), MustReload{}, Rechecking, Action{Lookup: lookupOnly}},
		"a denied session is not stored again":              {sessionIn(denied), LostInStore{}, denied, Action{}},
		"a denial that was overtaken is soon forgotten":     {sessionIn(denied), DecisionOutdated{}, denied, Action{WakeAt: in(time.Second)}},
		"a denied session is told by whom":                  {sessionIn(denied), kick(), denied, turnedAway()},
		"a backend's denial is no ban to be pardoned":       {sessionIn(denied), Unbanned{}, denied, Action{}},
		"a denied session has no doubt":                     {sessionIn(denied), MustReload{}, denied, Action{}},
		"an undecided session is not stored":                {sessionIn(undecided), LostInStore{}, undecided, Action{}},
		"an undecided session is overtaken by its check":    {sessionIn(undecided), DecisionOutdated{}, undecided, Action{}},
		"an undecided session is revoked":                   {sessionIn(undecided), kick(), denied, turnedAway()},
		"an undecided session needs no pardon":              {sessionIn(undecided), Unbanned{}, undecided, Action{}},
		"an undecided session has no doubt":                 {sessionIn(undecided), MustReload{}, undecided, Action{}},
		"a closed session is not stored again":              {sessionIn(closed), LostInStore{}, closed, Action{}},
		"a closed session is not overtaken":                 {sessionIn(closed), DecisionOutdated{}, closed, Action{}},
		"a closed session is not revoked":                   {sessionIn(closed), kick(), closed, Action{}},
		"a closed session is not pardoned":                  {sessionIn(closed), Unbanned{}, closed, Action{}},
		"a closed session has no doubt":                     {sessionIn(closed), MustReload{}, closed, Action{}},
		"an opening that published nothing starts again":    {sessionIn(Opening), Restored{}, undecided, Action{WakeAt: in(time.Second)}},
		"an allowed session is not opened again":            {sessionIn(Allowed), OpenRequested{}, Allowed, Action{}},
		"a record that comes late changes nothing":          {sessionIn(Allowed), remembered(Record{}), Allowed, Action{}},
		"an answer that nobody asked for changes nothing":   {sessionIn(Allowed), BackendAnswered{Decision: no()}, Allowed, Action{}},
		"nobody waits for an allowed session":               {sessionIn(Allowed), WaitExpired{Fallback: refusedByPolicy()}, Allowed, Action{}},
		"an allowed session's timer looks again":            {sessionIn(Allowed), TimerFired{LastSeen: t0()}, Allowed, Action{WakeAt: in(time.Minute)}},
		"an allowed session has no turn to take":            {sessionIn(Allowed), RecheckGranted{}, Allowed, Action{ReturnSlot: true}},
		"credentials for a ticket's session get it checked": {byTicket(Allowed), CredentialsArrived{}, Rechecking, Action{Enqueue: PriorityUnverified, Save: true}},
		"an allowed session that was rebuilt asks soon":     {sessionIn(Allowed), Restored{}, Allowed, Action{WakeAt: in(10 * time.Second)}},
		"a re-check is no opening":                          {sessionIn(Rechecking), OpenRequested{}, Rechecking, Action{}},
		"a re-check takes no record":                        {sessionIn(Rechecking), remembered(Record{}), Rechecking, Action{}},
		"a re-check is denied":                              {asking(Rechecking), BackendAnswered{Decision: no()}, denied, Action{Publish: true, RevokeTicket: true, WakeAt: in(15 * time.Second)}},
		"nobody waits for a re-check":                       {asking(Rechecking), WaitExpired{Fallback: refusedByPolicy()}, Rechecking, Action{}},
		"a re-check's timer looks for idle viewers":         {sessionIn(Rechecking), TimerFired{LastSeen: t0()}, Rechecking, Action{WakeAt: in(time.Minute)}},
		"a re-check's turn comes":                           {sessionIn(Rechecking), RecheckGranted{}, Rechecking, Action{StartCheck: true}},
		"a re-check needs no more credentials":              {sessionIn(Rechecking), CredentialsArrived{}, Rechecking, Action{}},
		"a re-check that was rebuilt asks soon":             {asking(Rechecking), Restored{}, Allowed, Action{WakeAt: in(10 * time.Second)}},
		"a denied session is not opened again":              {sessionIn(denied), OpenRequested{}, denied, Action{}},
		"a denied session takes no record":                  {sessionIn(denied), remembered(Record{}), denied, Action{}},
		"a late yes undoes what the policy refused":         {asking(denied), BackendAnswered{Decision: yes()}, Allowed, Action{Publish: true, Save: true, WakeAt: in(time.Minute)}},
		"nobody waits for a denied session":                 {sessionIn(denied), WaitExpired{Fallback: letIn()}, denied, Action{}},
		"a denial is remembered":                            {sessionIn(denied), TimerFired{LastSeen: t0()}, denied, Action{WakeAt: in(15 * time.Second)}},
		"a denied session has no turn to take":              {sessionIn(denied), RecheckGranted{}, denied, Action{ReturnSlot: true}},
		"credentials do not undo a denial":                  {byTicket(denied), CredentialsArrived{}, denied, Action{}},
		"a denial that was rebuilt is remembered":           {sessionIn(denied), Restored{}, denied, Action{WakeAt: in(15 * time.Second)}},
		"an undecided session is not opened again":          {sessionIn(undecided), OpenRequested{}, undecided, Action{}},
		"an undecided session takes no record":              {sessionIn(undecided), remembered(Record{}), undecided, Action{}},
		"an undecided session is answered late":             {sessionIn(undecided), BackendAnswered{Decision: yes()}, Allowed, Action{Publish: true, Save: true, WakeAt: in(time.Minute)}},
		"an undecided session was overdue already":          {sessionIn(undecided), WaitExpired{Fallback: letIn()}, undecided, Action{}},
		"an undecided session waits for its answer":         {sessionIn(undecided), TimerFired{LastSeen: t0()}, undecided, Action{WakeAt: in(time.Second)}},
		"an undecided session has no turn to take":          {sessionIn(undecided), RecheckGranted{}, undecided, Action{ReturnSlot: true}},
		"an undecided session is being asked about already": {sessionIn(undecided), CredentialsArrived{}, undecided, Action{}},
		"an undecided session that was rebuilt is let go":   {sessionIn(undecided), Restored{}, undecided, Action{WakeAt: in(time.Second)}},
		"a closed session is not opened":                    {sessionIn(closed), OpenRequested{}, closed, Action{}},
		"a closed session takes no record":                  {sessionIn(closed), remembered(Record{}), closed, Action{}},
		"a closed session takes no answer":                  {asking(closed), BackendAnswered{Decision: yes()}, closed, Action{}},
		"nobody waits for a closed session":                 {sessionIn(closed), WaitExpired{Fallback: letIn()}, closed, Action{}},
		"a closed session has no timer":                     {sessionIn(closed), TimerFired{LastSeen: t0()}, closed, Action{}},
		"a closed session has no turn to take":              {sessionIn(closed), RecheckGranted{}, closed, Action{}},
		"a closed session needs no credentials":             {byTicket(closed), CredentialsArrived{}, closed, Action{}},
		"a closed session is not rebuilt":                   {sessionIn(closed), Restored{}, closed, Action{}},
	}
	walked := make(map[string]bool)
	for name, r := range rows {
		walked[r.session.Phase.String()+" × "+reflect.TypeOf(r.event).Name()] = true
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := r.session.Step(r.event, t0())
			if got != r.want {
				t.Errorf("action %+v, want %+v", got, r.want)
			}
			if r.session.Phase != r.phase {
				t.Errorf("phase %v, want %v", r.session.Phase, r.phase)
			}
		})
	}
	phases, events := declared(t)
	for _, p := range phases {
		for _, e := range events {
			if !walked[strings.ToLower(p)+" × "+e] {
				t.Errorf("no row walks %s × %s", p, e)
			}
		}
	}
}

// declared reads from the source which phases there are and which events step takes, so that a new one needs its rows.
func declared(t *testing.T) (phases, events []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "state.go", nil, 0)
	if err != nil {
		t.Fatalf("parse state.go: %v", err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GenDecl:
			phases = append(phases, constantsOf(n, "phase")...)
		case *ast.FuncDecl:
			if n.Name.Name != "Step" {
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
		t.Fatalf("state.go declares phases %v and events %v; want several of both", phases, events)
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
func remembered(r Record) LeaseAnswered {
	return LeaseAnswered{Kind: LookupForOpening, LeaseResult: LeaseResult{Found: true, Record: r}}
}
