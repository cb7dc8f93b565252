package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
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
	Kick  sessionsKick  `cmd:"" help:"End sessions, and refuse them for a time."`
	Ban   sessionsBan   `cmd:"" help:"Refuse a user, a session, an address or the credentials of a session until the ban ends."`
	Unban sessionsUnban `cmd:"" help:"Remove a ban."`
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

// durationFlags are the duration of a kick or ban, and its reason.
type durationFlags struct {
	Duration time.Duration `help:"How long it lasts, such as 24h. Default of a kick: sessions.kick_duration."`
	Reason   string        `help:"The reason, for the log and the session."`
}

func (b durationFlags) fields() map[string]any {
	fields := map[string]any{"reason": b.Reason}
	if b.Duration != 0 {
		fields["duration"] = b.Duration.String()
	}
	return fields
}

type sessionsKick struct {
	adminFlags
	filterFlags
	durationFlags
	IDs []string `arg:"" optional:"" name:"id" help:"The ids of the sessions; without ids the flags select them."`
}

// Run ends the sessions of the given ids, or all that match the flags.
func (c sessionsKick) Run(r runtime) error {
	filter := c.query()
	switch {
	case len(c.IDs) == 0 && len(filter) == 0:
		return errors.New("no sessions selected; want ids, or flags such as --user")
	case len(c.IDs) > 0 && len(filter) > 0:
		return errors.New("ids and flags that select sessions exclude each other")
	case len(c.IDs) == 0:
		return c.kickMatching(r, filter)
	}
	notFound := error(nil)
	for _, id := range c.IDs {
		var kicked admin.KickResult
		err := c.send(r, "POST", "sessions/"+url.PathEscape(id)+"/kick", c.fields(), &kicked, func() error {
			return printLine(r, "kicked %s\n", id)
		})
		if err != nil && !errors.Is(err, errNegative) {
			return err
		}
		notFound = cmp.Or(notFound, err)
	}
	return notFound
}

func (c sessionsKick) kickMatching(r runtime, filter url.Values) error {
	fields := c.fields()
	for name := range filter {
		fields[name] = filter.Get(name)
	}
	if c.Address != "" {
		p, err := prefixOf(c.Address)
		if err != nil {
			return err
		}
		fields["address"] = p.String()
	}
	var kicked admin.KickResult
	err := c.send(r, "POST", "kick", fields, &kicked, func() error {
		if err := printLine(r, "kicked %d of %d sessions\n", kicked.Kicked, kicked.Matched); err != nil {
			return err
		}
		return warnUnreachable(r, kicked.Silent)
	})
	if err == nil && kicked.Kicked == 0 {
		return errNegative
	}
	return err
}

// prefixOf parses an address or a prefix.
func prefixOf(text string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p, nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("--address=%s: want an address or a prefix", text)
	}
	return netip.PrefixFrom(a, a.BitLen()), nil
}

type sessionsBan struct {
	adminFlags
	durationFlags
	User          string `help:"The user to ban, by name or id." xor:"subject" required:""`
	Session       string `help:"The session to ban." xor:"subject" required:""`
	Address       string `help:"The address or prefix to ban." xor:"subject" required:""`
	CredentialsOf string `help:"The session whose credentials to ban." xor:"subject" required:""`
}

// Run bans, and prints the ban's id.
func (c sessionsBan) Run(r runtime) error {
	if c.Duration == 0 {
		return errors.New("--duration: missing; want a duration such as 24h")
	}
	fields := c.fields()
	for name, value := range map[string]string{
		"user": c.User, "session": c.Session, "address": c.Address, "credentials_of": c.CredentialsOf,
	} {
		if value != "" {
			fields[name] = value
		}
	}
	var ban admin.Ban
	return c.send(r, "POST", "bans", fields, &ban, func() error {
		return printLine(r, "banned %s until %s: %s\n", ban.Subject(), ban.Until.Format(time.RFC3339), ban.ID)
	})
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
