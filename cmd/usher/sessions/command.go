package sessions

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"usher/gateway/admin"
)

// Command lists and changes the sessions and the backends of all nodes through the API of any node.
type Command struct {
	List     listCommand     `cmd:"" help:"List live sessions."`
	Show     showCommand     `cmd:"" help:"Show one session."`
	Timeline timelineCommand `cmd:"" help:"Show each check of a session: when, why, how long it took and what it brought."`
	Kick     kickCommand     `cmd:"" help:"End sessions, and refuse their users for a time."`
	Ban      banCommand      `cmd:"" help:"Refuse a user, a session, an address or the credentials of a session until the ban ends."`
	Unban    unbanCommand    `cmd:"" help:"Remove a ban, or what is left of a kick."`
	Bans     bansCommand     `cmd:"" help:"List bans."`
	Nodes    nodesCommand    `cmd:"" help:"List the nodes."`

	Backends  backendsCommand  `cmd:"" help:"List the backends of the node, with their rates and last failures."`
	Force     forceCommand     `cmd:"" help:"Force the breaker of a backend open or closed for a time, on all nodes."`
	Probe     probeCommand     `cmd:"" help:"Send one check to a backend from each node, whatever its breaker's state."`
	FreeRides freeRidesCommand `cmd:"" help:"Show what each outage of a backend cost: who watched without its answer, and whom it then denied."`
}

// adminFlags select the node whose API is called.
type adminFlags struct {
	Admin string `help:"The URL of the admin listener of any node." default:"http://127.0.0.1:8081"`
	Token string `help:"The API's bearer token: admin.token, or one of admin.tokens. Prefer the environment: process lists show flags." env:"USHER_TOKEN,USHER_ADMIN_TOKEN"`
	JSON  bool   `help:"Print the JSON of the API." xor:"format"`
}

// filterFlags select sessions. One that is not given is nil.
type filterFlags struct {
	Channel *string `help:"Sessions of this channel."`
	User    *string `help:"Sessions of this user, by name or id."`
	Route   *string `help:"Sessions of this route."`
	Backend *string `help:"Sessions of this backend."`
	Verdict *string `help:"Sessions with this verdict: allowed, denied or pending."`
	Source  *string `help:"Sessions whose decision has this source: backend, local, fail-open, cached, ticket, limit, ban or operator."`
	Address *string `help:"Sessions from this address or prefix."`
	Node    *string `help:"Sessions on this node."`
}

// query returns the flags as parameters of the API. One that is empty, as a variable of a script may be, is an error, because more
// sessions than meant would match.
func (f filterFlags) query() (url.Values, error) {
	q := url.Values{}
	for name, value := range map[string]*string{
		"channel": f.Channel, "user": f.User, "route": f.Route, "backend": f.Backend, "verdict": f.Verdict,
		"source": f.Source, "address": f.Address, "node": f.Node,
	} {
		switch {
		case value == nil:
		case *value == "":
			return nil, fmt.Errorf("--%s: is empty; give it a value or leave it out", name)
		default:
			q.Set(name, *value)
		}
	}
	return q, nil
}

type listCommand struct {
	adminFlags
	filterFlags
	Limit  int    `help:"The most sessions to list, up to 1000." default:"100"`
	After  string `help:"List the sessions that follow this id."`
	Prefix string `name:"q" help:"Sessions whose id, channel, user, address or User-Agent begins with this text."`
}

// Run lists sessions.
func (c listCommand) Run(r Runtime) error {
	query, err := c.query()
	if err != nil {
		return err
	}
	query.Set("limit", strconv.Itoa(c.Limit))
	for name, value := range map[string]string{"q": c.Prefix, "after": c.After} {
		if value != "" {
			query.Set(name, value)
		}
	}
	var found admin.SessionList
	return c.get(r, "sessions", query, &found, func() error { return printSessions(r, found) })
}

type showCommand struct {
	adminFlags
	ID string `arg:"" help:"The session's id."`
}

// Run shows one session.
func (c showCommand) Run(r Runtime) error {
	var s admin.Session
	return c.get(r, "sessions/"+url.PathEscape(c.ID), nil, &s, func() error { return printSession(r, s) })
}

type timelineCommand struct {
	adminFlags
	ID string `arg:"" help:"The session's id."`
}

// Run shows what has decided on one session.
func (c timelineCommand) Run(r Runtime) error {
	var t admin.Timeline
	return c.get(r, "sessions/"+url.PathEscape(c.ID)+"/timeline", nil, &t, func() error { return printTimeline(r, t) })
}

type unbanCommand struct {
	adminFlags
	ID string `arg:"" help:"The ban's id."`
}

// Run removes a ban.
func (c unbanCommand) Run(r Runtime) error {
	var done struct{ Unbanned string }
	return c.send(r, "DELETE", "bans/"+url.PathEscape(c.ID), nil, &done, func() error { return printLine(r, "unbanned %s\n", c.ID) })
}

type bansCommand struct{ adminFlags }

// Run lists bans.
func (c bansCommand) Run(r Runtime) error {
	var list struct{ Bans []admin.Ban }
	return c.get(r, "bans", nil, &list, func() error { return printBans(r, list.Bans) })
}

type nodesCommand struct{ adminFlags }

// Run lists nodes.
func (c nodesCommand) Run(r Runtime) error {
	var list admin.NodeList
	return c.get(r, "nodes", nil, &list, func() error { return printNodes(r, list) })
}

// apiTimeout bounds one API call, in which the node asks the other nodes.
const apiTimeout = 15 * time.Second

func withAPITimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, apiTimeout)
}
