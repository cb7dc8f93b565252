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

	"usher/gateway/admin"
)

// sessionsCommand is what an operator sees of the viewers of all nodes, and does to them, by any one of the nodes.
type sessionsCommand struct {
	List  sessionsList  `cmd:"" help:"List live sessions."`
	Show  sessionsShow  `cmd:"" help:"Show one session."`
	Kick  sessionsKick  `cmd:"" help:"End sessions, and refuse them for a while."`
	Ban   sessionsBan   `cmd:"" help:"Refuse a user, a session, an address or somebody's credentials until the ban ends."`
	Unban sessionsUnban `cmd:"" help:"Take a ban back."`
	Bans  sessionsBans  `cmd:"" help:"List bans."`
	Nodes sessionsNodes `cmd:"" help:"List the nodes."`
}

// adminFlags say which node is asked.
type adminFlags struct {
	Admin string `help:"The admin listener of any node." default:"http://127.0.0.1:8081"`
	Token string `help:"Its bearer token, admin.token; better by the environment, where no list of processes shows it." env:"USHER_ADMIN_TOKEN"`
	JSON  bool   `help:"Print the API's JSON."`
}

// filterFlags say which sessions are meant.
type filterFlags struct {
	Channel string `help:"Of this channel."`
	User    string `help:"Of this user, by name or id."`
	Route   string `help:"Of this route."`
	Backend string `help:"Of this backend."`
	Verdict string `help:"With this verdict: allowed, denied, undecided or pending."`
	Source  string `help:"Decided so: backend, local, fail-open, cached, ticket, limit, ban or operator."`
	Address string `help:"From this address or prefix."`
	Node    string `help:"On this node."`
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
	Limit int    `help:"How many to list at most, up to 1000." default:"100"`
	After string `help:"Go on behind this session's id."`
	Begin string `name:"q" help:"Whose id, channel, user, address or User-Agent begins so."`
}

// Run lists.
func (c sessionsList) Run(r runtime) error {
	query := c.query()
	query.Set("limit", strconv.Itoa(c.Limit))
	for name, value := range map[string]string{"q": c.Begin, "after": c.After} {
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

// Run shows one.
func (c sessionsShow) Run(r runtime) error {
	var s admin.Session
	return c.get(r, "sessions/"+url.PathEscape(c.ID), nil, &s, func() error { return printSession(r, s) })
}

// bearing are how long something holds, and why.
type bearing struct {
	Duration time.Duration `help:"For how long; the default of a kick is sessions.kick_duration."`
	Reason   string        `help:"Why; it is logged, and shown with the session."`
}

func (b bearing) fields() map[string]any {
	fields := map[string]any{"reason": b.Reason}
	if b.Duration != 0 {
		fields["duration"] = b.Duration.String()
	}
	return fields
}

type sessionsKick struct {
	adminFlags
	filterFlags
	bearing
	IDs []string `arg:"" optional:"" name:"id" help:"The sessions' ids; or say by flags which are meant."`
}

// Run ends sessions, by their ids or all that match.
func (c sessionsKick) Run(r runtime) error {
	filter := c.query()
	switch {
	case len(c.IDs) == 0 && len(filter) == 0:
		return errors.New("kick whom? Give ids, or flags such as --user")
	case len(c.IDs) > 0 && len(filter) > 0:
		return errors.New("ids and flags that say who is meant exclude each other")
	case len(c.IDs) == 0:
		return c.kickMatching(r, filter)
	}
	refused := error(nil)
	for _, id := range c.IDs {
		var kicked admin.KickResult
		err := c.send(r, "POST", "sessions/"+url.PathEscape(id)+"/kick", c.fields(), &kicked, func() error {
			return say(r, "kicked %s\n", id)
		})
		if err != nil && !errors.Is(err, errNo) {
			return err
		}
		refused = cmp.Or(refused, err)
	}
	return refused
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
		if err := say(r, "kicked %d of %d sessions\n", kicked.Kicked, kicked.Matched); err != nil {
			return err
		}
		return warnSilent(r, kicked.Silent)
	})
	if err == nil && kicked.Kicked == 0 {
		return errNo
	}
	return err
}

// prefixOf reads an address or a prefix.
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
	bearing
	User          string `help:"This user, by name or id." xor:"whom" required:""`
	Session       string `help:"This session." xor:"whom" required:""`
	Address       string `help:"This address or prefix." xor:"whom" required:""`
	CredentialsOf string `help:"Whoever shows what the viewer of this session shows." xor:"whom" required:""`
}

// Run bans.
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
		return say(r, "banned %s until %s: %s\n", ban.Subject(), ban.Until.Format(time.RFC3339), ban.ID)
	})
}

type sessionsUnban struct {
	adminFlags
	ID string `arg:"" help:"The ban's id."`
}

// Run takes a ban back.
func (c sessionsUnban) Run(r runtime) error {
	var done struct{ Unbanned string }
	return c.send(r, "DELETE", "bans/"+url.PathEscape(c.ID), nil, &done, func() error { return say(r, "unbanned %s\n", c.ID) })
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
	var list struct{ Nodes []admin.NodeStatus }
	return c.get(r, "nodes", nil, &list, func() error { return printNodes(r, list.Nodes) })
}

// patienceWithNode is how long the node may take, which asks the others.
const patienceWithNode = 15 * time.Second

func within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, patienceWithNode)
}
