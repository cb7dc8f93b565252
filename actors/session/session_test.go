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
func plainRules() *Rules {
	return &Rules{
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
	return backends.Decision{Verdict: backends.Allowed, Source: backends.FromLastKnown, UserID: "17", User: "Ann"}
}

func refusedByPolicy() backends.Decision {
	return backends.Decision{Verdict: backends.Denied, Source: backends.FromFailOpen}
}

func timeout() error { return &backends.Failure{Kind: backends.FailureTimeout, Backend: "portal"} }

func overload() error { return &backends.Overload{Setting: "backends.portal.max_in_flight", Value: 1} }

// sessionIn is a session of a viewer with credentials, in the phase named.
func sessionIn(p phase) *State {
	s := &State{Rules: plainRules(), Phase: p, HasFacts: true, Opened: t0(), Key: "a"}
	switch p {
	case Opening, closed:
	case Allowed:
		s.Ran, s.Decision, s.Expires = true, yes(), in(3*time.Minute)
	case Rechecking:
		s.Ran, s.Decision, s.Expires = true, yes(), t0()
	case denied:
		s.Decision, s.Expires = no(), in(15*time.Second)
	case undecided:
		s.asking, s.Expires = true, in(time.Second)
	}
	return s
}

// asking is sessionIn while a check is on its way.
func asking(p phase) *State {
	s := sessionIn(p)
	s.asking = true
	return s
}

// byTicket is a session whose viewer is known by his ticket alone.
func byTicket(p phase) *State {
	s := sessionIn(p)
	s.HasFacts, s.Presented = false, Ticket{Opened: t0(), Key: "a"}
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
func turnedAway() Action { return Action{Publish: true, Wake: in(15 * time.Second)} }

func TestStepWalksEveryPhaseAndEvent(t *testing.T) {
	t.Parallel()
	type row struct {
		session *State
		event   any
		phase   phase
		want    Action
	}
	rows := map[string]row{
		"an opening looks the session up":                   {sessionIn(Opening), Opened{}, Opening, Action{Claim: OpenClaim}},
		"an opening that nobody remembers asks":             {sessionIn(Opening), StoreAnswered{Kind: OpenClaim}, Opening, Action{Ask: true}},
		"an opening is answered":                            {asking(Opening), BackendAnswered{Decision: yes()}, Allowed, Action{Publish: true, Save: true, Wake: in(time.Minute)}},
		"an opening takes too long":                         {asking(Opening), AnswerOverdue{Instead: letIn()}, Allowed, Action{Publish: true, Save: true, Wake: in(time.Minute)}},
		"an opening has no timer":                           {sessionIn(Opening), TimerFired{LastSeen: t0()}, Opening, Action{}},
		"an opening waits for no turn":                      {sessionIn(Opening), TurnCame{}, Opening, Action{Refund: true}},
		"credentials that come while opening wait for it":   {byTicket(Opening), CredentialsCame{}, Opening, Action{}},
		"an opening was not lost":                           {sessionIn(Opening), Forgotten{}, Opening, Action{}},
		"an opening is overtaken by its own claim":          {sessionIn(Opening), Overtaken{}, Opening, Action{}},
		"an opening is revoked":                             {asking(Opening), kick(), denied, turnedAway()},
		"an opening is not banned yet":                      {sessionIn(Opening), Pardoned{}, Opening, Action{}},
		"an opening knows the store's word anyhow":          {sessionIn(Opening), Doubted{}, Opening, Action{}},
		"an allowed session that was lost is stored again":  {sessionIn(Allowed), Forgotten{}, Allowed, Action{Save: true}},
		"an allowed session that was overtaken looks soon":  {sessionIn(Allowed), Overtaken{}, Allowed, Action{Wake: in(time.Second)}},
		"an allowed session is revoked":                     {sessionIn(Allowed), kick(), denied, turnedAway()},
		"an allowed session needs no pardon":                {sessionIn(Allowed), Pardoned{}, Allowed, Action{}},
		"an allowed session in doubt looks":                 {sessionIn(Allowed), Doubted{}, Allowed, Action{Claim: lookClaim}},
		"a re-check that was lost is stored again":          {sessionIn(Rechecking), Forgotten{}, Rechecking, Action{Save: true}},
		"a re-check that was overtaken knows soon":          {sessionIn(Rechecking), Overtaken{}, Rechecking, Action{}},
		"a re-check is revoked":                             {asking(Rechecking), kick(), denied, turnedAway()},
		"a re-check needs no pardon":                        {sessionIn(Rechecking), Pardoned{}, Rechecking, Action{}},
		"a re-check in doubt looks":                         {sessionIn(Rechecking), Doubted{}, Rechecking, Action{Claim: lookClaim}},
		"a denied session is not stored again":              {sessionIn(denied), Forgotten{}, denied, Action{}},
		"a denial that was overtaken is soon forgotten":     {sessionIn(denied), Overtaken{}, denied, Action{Wake: in(time.Second)}},
		"a denied session is told by whom":                  {sessionIn(denied), kick(), denied, turnedAway()},
		"a backend's denial is no ban to be pardoned":       {sessionIn(denied), Pardoned{}, denied, Action{}},
		"a denied session has no doubt":                     {sessionIn(denied), Doubted{}, denied, Action{}},
		"an undecided session is not stored":                {sessionIn(undecided), Forgotten{}, undecided, Action{}},
		"an undecided session is overtaken by its check":    {sessionIn(undecided), Overtaken{}, undecided, Action{}},
		"an undecided session is revoked":                   {sessionIn(undecided), kick(), denied, turnedAway()},
		"an undecided session needs no pardon":              {sessionIn(undecided), Pardoned{}, undecided, Action{}},
		"an undecided session has no doubt":                 {sessionIn(undecided), Doubted{}, undecided, Action{}},
		"a closed session is not stored again":              {sessionIn(closed), Forgotten{}, closed, Action{}},
		"a closed session is not overtaken":                 {sessionIn(closed), Overtaken{}, closed, Action{}},
		"a closed session is not revoked":                   {sessionIn(closed), kick(), closed, Action{}},
		"a closed session is not pardoned":                  {sessionIn(closed), Pardoned{}, closed, Action{}},
		"a closed session has no doubt":                     {sessionIn(closed), Doubted{}, closed, Action{}},
		"an opening that published nothing starts again":    {sessionIn(Opening), Rebuilt{}, undecided, Action{Wake: in(time.Second)}},
		"an allowed session is not opened again":            {sessionIn(Allowed), Opened{}, Allowed, Action{}},
		"a record that comes late changes nothing":          {sessionIn(Allowed), remembered(Record{}), Allowed, Action{}},
		"an answer that nobody asked for changes nothing":   {sessionIn(Allowed), BackendAnswered{Decision: no()}, Allowed, Action{}},
		"nobody waits for an allowed session":               {sessionIn(Allowed), AnswerOverdue{Instead: refusedByPolicy()}, Allowed, Action{}},
		"an allowed session's timer looks again":            {sessionIn(Allowed), TimerFired{LastSeen: t0()}, Allowed, Action{Wake: in(time.Minute)}},
		"an allowed session has no turn to take":            {sessionIn(Allowed), TurnCame{}, Allowed, Action{Refund: true}},
		"credentials for a ticket's session get it checked": {byTicket(Allowed), CredentialsCame{}, Rechecking, Action{Queue: StopgapLane, Save: true}},
		"an allowed session that was rebuilt asks soon":     {sessionIn(Allowed), Rebuilt{}, Allowed, Action{Wake: in(10 * time.Second)}},
		"a re-check is no opening":                          {sessionIn(Rechecking), Opened{}, Rechecking, Action{}},
		"a re-check takes no record":                        {sessionIn(Rechecking), remembered(Record{}), Rechecking, Action{}},
		"a re-check is denied":                              {asking(Rechecking), BackendAnswered{Decision: no()}, denied, Action{Publish: true, Bury: true, Wake: in(15 * time.Second)}},
		"nobody waits for a re-check":                       {asking(Rechecking), AnswerOverdue{Instead: refusedByPolicy()}, Rechecking, Action{}},
		"a re-check's timer looks for idle viewers":         {sessionIn(Rechecking), TimerFired{LastSeen: t0()}, Rechecking, Action{Wake: in(time.Minute)}},
		"a re-check's turn comes":                           {sessionIn(Rechecking), TurnCame{}, Rechecking, Action{Ask: true}},
		"a re-check needs no more credentials":              {sessionIn(Rechecking), CredentialsCame{}, Rechecking, Action{}},
		"a re-check that was rebuilt asks soon":             {asking(Rechecking), Rebuilt{}, Allowed, Action{Wake: in(10 * time.Second)}},
		"a denied session is not opened again":              {sessionIn(denied), Opened{}, denied, Action{}},
		"a denied session takes no record":                  {sessionIn(denied), remembered(Record{}), denied, Action{}},
		"a late yes undoes what the policy refused":         {asking(denied), BackendAnswered{Decision: yes()}, Allowed, Action{Publish: true, Save: true, Wake: in(time.Minute)}},
		"nobody waits for a denied session":                 {sessionIn(denied), AnswerOverdue{Instead: letIn()}, denied, Action{}},
		"a denial is remembered":                            {sessionIn(denied), TimerFired{LastSeen: t0()}, denied, Action{Wake: in(15 * time.Second)}},
		"a denied session has no turn to take":              {sessionIn(denied), TurnCame{}, denied, Action{Refund: true}},
		"credentials do not undo a denial":                  {byTicket(denied), CredentialsCame{}, denied, Action{}},
		"a denial that was rebuilt is remembered":           {sessionIn(denied), Rebuilt{}, denied, Action{Wake: in(15 * time.Second)}},
		"an undecided session is not opened again":          {sessionIn(undecided), Opened{}, undecided, Action{}},
		"an undecided session takes no record":              {sessionIn(undecided), remembered(Record{}), undecided, Action{}},
		"an undecided session is answered late":             {sessionIn(undecided), BackendAnswered{Decision: yes()}, Allowed, Action{Publish: true, Save: true, Wake: in(time.Minute)}},
		"an undecided session was overdue already":          {sessionIn(undecided), AnswerOverdue{Instead: letIn()}, undecided, Action{}},
		"an undecided session waits for its answer":         {sessionIn(undecided), TimerFired{LastSeen: t0()}, undecided, Action{Wake: in(time.Second)}},
		"an undecided session has no turn to take":          {sessionIn(undecided), TurnCame{}, undecided, Action{Refund: true}},
		"an undecided session is being asked about already": {sessionIn(undecided), CredentialsCame{}, undecided, Action{}},
		"an undecided session that was rebuilt is let go":   {sessionIn(undecided), Rebuilt{}, undecided, Action{Wake: in(time.Second)}},
		"a closed session is not opened":                    {sessionIn(closed), Opened{}, closed, Action{}},
		"a closed session takes no record":                  {sessionIn(closed), remembered(Record{}), closed, Action{}},
		"a closed session takes no answer":                  {asking(closed), BackendAnswered{Decision: yes()}, closed, Action{}},
		"nobody waits for a closed session":                 {sessionIn(closed), AnswerOverdue{Instead: letIn()}, closed, Action{}},
		"a closed session has no timer":                     {sessionIn(closed), TimerFired{LastSeen: t0()}, closed, Action{}},
		"a closed session has no turn to take":              {sessionIn(closed), TurnCame{}, closed, Action{}},
		"a closed session needs no credentials":             {byTicket(closed), CredentialsCame{}, closed, Action{}},
		"a closed session is not rebuilt":                   {sessionIn(closed), Rebuilt{}, closed, Action{}},
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
	file, err := parser.ParseFile(token.NewFileSet(), "session.go", nil, 0)
	if err != nil {
		t.Fatalf("parse session.go: %v", err)
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
func remembered(r Record) StoreAnswered {
	return StoreAnswered{Kind: OpenClaim, Claimed: Claimed{Found: true, Record: r}}
}
