package main

import (
	"context"
	"net/url"
	"strconv"
	"time"

	"usher/actors/session"
	"usher/gateway/admin"
)

// sessionsCommand lists and changes the sessions of all nodes through the API of any node.
type sessionsCommand struct {
	List  sessionsList  `cmd:"" help:"List live sessions."`
	Show  sessionsShow  `cmd:"" help:"Show one session."`
	Kick  sessionsKick  `cmd:"" help:"End sessions, and refuse their users for a time."`
	Ban   sessionsBan   `cmd:"" help:"Refuse a user, a session, an address or the credentials of a session until the ban ends."`
	Unban sessionsUnban `cmd:"" help:"Remove a ban, or what is left of a kick."`
	Bans  sessionsBans  `cmd:"" help:"List bans."`
	Nodes sessionsNodes `cmd:"" help:"List the nodes."`
}

// adminFlags select the node whose API is called.
type adminFlags struct {
	Admin string `help:"The URL of the admin listener of any node." default:"http://127.0.0.1:8081"`
	Token string `help:"The API's bearer token, admin.token. Prefer the environment: process lists show flags." env:"USHER_ADMIN_TOKEN"`
	JSON  bool   `help:"Print the JSON of the API."`
}

// filterFlags select sessions.
type filterFlags struct {
	Channel string `help:"Sessions of this channel."`
	User    string `help:"Sessions of this user, by name or id."`
	Route   string `help:"Sessions of this route."`
	Backend string `help:"Sessions of this backend."`
	Verdict string `help:"Sessions with this verdict: allowed, denied or pending."`
	Source  string `help:"Sessions whose decision has this source: backend, local, fail-open, cached, ticket, limit, ban or operator."`
	Address string `help:"Sessions from this address or prefix."`
	Node    string `help:"Sessions on this node."`
}

func (f filterFlags) query() url.Values {
	q := url.Values{}
	for name, value := range map[string]string{
		"channel": f.Channel, "user": f.User, "route": f.Route, "backend": f.Backend, "verdict": f.Verdict,
		"source": f.Source, "address": f.Address, "node": f.Node,
	} {
		if value != "" {
			q.Set(name, value)
		}
	}
	return q
}

type sessionsList struct {
	adminFlags
	filterFlags
	Limit  int    `help:"The most sessions to list, up to 1000." default:"100"`
	After  string `help:"List the sessions that follow this id."`
	Prefix string `name:"q" help:"Sessions whose id, channel, user, address or User-Agent begins with this text."`
}

// Run lists sessions.
func (c sessionsList) Run(r runtime) error {
	query := c.query()
	query.Set("limit", strconv.Itoa(c.Limit))
	for name, value := range map[string]string{"q": c.Prefix, "after": c.After} {
		if value != "" {
			query.Set(name, value)
		}
	}
	var found admin.SessionList
	return c.get(r, "sessions", query, &found, func() error { return printSessions(r, found) })
}

type sessionsShow struct {
	adminFlags
	ID string `arg:"" help:"The session's id."`
}

// Run shows one session.
func (c sessionsShow) Run(r runtime) error {
	var s admin.Session
	return c.get(r, "sessions/"+url.PathEscape(c.ID), nil, &s, func() error { return printSession(r, s) })
}

type sessionsUnban struct {
	adminFlags
	ID string `arg:"" help:"The ban's id."`
}

// Run removes a ban.
func (c sessionsUnban) Run(r runtime) error {
	var done struct{ Unbanned string }
	return c.send(r, "DELETE", "bans/"+url.PathEscape(c.ID), nil, &done, func() error { return printLine(r, "unbanned %s\n", c.ID) })
}

type sessionsBans struct{ adminFlags }

// Run lists bans.
func (c sessionsBans) Run(r runtime) error {
	var list struct{ Bans []admin.Ban }
	return c.get(r, "bans", nil, &list, func() error { return printBans(r, list.Bans) })
}

type sessionsNodes struct{ adminFlags }

// Run lists nodes.
func (c sessionsNodes) Run(r runtime) error {
	var list struct{ Nodes []session.NodeInfo }
	return c.get(r, "nodes", nil, &list, func() error { return printNodes(r, list.Nodes) })
}

// apiTimeout bounds one API call, in which the node asks the other nodes.
const apiTimeout = 15 * time.Second

func withAPITimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, apiTimeout)
}
