package sessions

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"usher/gateway/admin"
)

// revokeFlags are the duration of a kick or ban, its reason, and how much it may hit.
type revokeFlags struct {
	Duration time.Duration `help:"How long it lasts, such as 24h. A ban needs it; a kick has sessions.kick_duration by default."`
	Reason   string        `help:"The reason, for the log and the session."`
	Yes      bool          `help:"Do it also if it hits more than 20 sessions."`
	DryRun   bool          `help:"Print how many sessions and addresses it would hit, and do nothing."`
}

func (f revokeFlags) fields() map[string]any {
	fields := map[string]any{"reason": f.Reason}
	if f.Duration != 0 {
		fields["duration"] = f.Duration.String()
	}
	return fields
}

// measure prints what a request would hit, and adds to its fields how much the caller expects.
func (f revokeFlags) measure(r Runtime, api adminFlags, path string, fields map[string]any) (admin.Impact, error) {
	dry := maps.Clone(fields)
	dry["dry_run"] = true
	api.JSON = api.JSON && f.DryRun // otherwise the response to the request itself is printed
	var i admin.Impact
	err := api.send(r, "POST", path, dry, &i, func() error { return nil })
	if i.Sessions > admin.DefaultExpect {
		fields["expect"] = i.Sessions + i.Sessions/10 + admin.DefaultExpect // sessions come meanwhile
	}
	return i, err
}

// confirm prints what the requests would hit, and reports whether they are to be sent.
func (f revokeFlags) confirm(r Runtime, api adminFlags, impact admin.Impact) (isConfirmed bool, err error) {
	silent := impact.UnreachableNodes
	if impact.UnreachableNodes = nil; !api.JSON {
		err = printLine(r, "hits %s\n", impact.String())
	}
	if err = errors.Join(err, warnUnreachable(r, silent)); err != nil {
		return false, err
	}
	if f.DryRun {
		return false, nil
	}
	if impact.Sessions > admin.DefaultExpect && !f.Yes {
		return false, fmt.Errorf("nothing is done, because it hits %d sessions; add --yes if that is meant", impact.Sessions)
	}
	return true, nil
}

type kickCommand struct {
	adminFlags
	filterFlags
	revokeFlags
	IDs []string `arg:"" optional:"" name:"id" help:"The ids of the sessions; without ids the flags select them."`
}

// Help explains whom a kick refuses.
func (kickCommand) Help() string {
	return "--user alone refuses the user on every channel, with --channel on that channel, whatever they show. " +
		"A session's id, or other flags, refuse the user of each session on its channel; where the user is unknown, all who " +
		"show the session's credentials. It fails if a node could not be reached; the others have kicked. \"usher sessions bans\" lists what is refused, \"usher sessions unban\" ends it."
}

// Run ends the sessions of the given ids, or all that match the flags.
func (c kickCommand) Run(r Runtime) error {
	filter, err := c.query()
	switch {
	case err != nil:
		return err
	case len(c.IDs) == 0 && len(filter) == 0:
		return errors.New("no sessions selected; want ids, or flags such as --user")
	case len(c.IDs) > 0 && len(filter) > 0:
		return errors.New("ids and flags that select sessions exclude each other")
	case len(c.IDs) == 0:
		return c.kickMatching(r, filter)
	}
	return c.kickIDs(r)
}

func (c kickCommand) kickIDs(r Runtime) (notFound error) {
	var all admin.Impact
	requests := make(map[string]map[string]any)
	for _, id := range c.IDs {
		fields := c.fields()
		i, err := c.measure(r, c.adminFlags, kickPath(id), fields)
		if errors.Is(err, ErrNegative) {
			notFound = err
			continue
		}
		if err != nil {
			return err
		}
		requests[id] = fields
		all.Sessions, all.Addresses = all.Sessions+i.Sessions, all.Addresses+i.Addresses
		all.Approximate = all.Approximate || i.Approximate
		all.UnreachableNodes = append(all.UnreachableNodes, i.UnreachableNodes...)
	}
	if len(requests) == 0 {
		return notFound
	}
	slices.Sort(all.UnreachableNodes)
	all.UnreachableNodes = slices.Compact(all.UnreachableNodes)
	if isConfirmed, err := c.confirm(r, c.adminFlags, all); !isConfirmed {
		return cmp.Or(err, notFound)
	}
	for _, id := range c.IDs {
		if requests[id] == nil {
			continue
		}
		var kicked admin.KickResult
		err := c.send(r, "POST", kickPath(id), requests[id], &kicked, func() error {
			return printLine(r, "kicked %s%s\n", id, refusedBy(kicked))
		})
		if err != nil && !errors.Is(err, ErrNegative) {
			return err
		}
		notFound = cmp.Or(notFound, err)
	}
	return notFound
}

// refusedBy names the bans of a kick, unless there are many.
func refusedBy(k admin.KickResult) string {
	if n := len(k.Bans); n == 0 || n > 5 {
		return ""
	}
	return fmt.Sprintf(", refused for a while (unban %s ends it)", strings.Join(k.Bans, " "))
}

func kickPath(id string) string { return "sessions/" + url.PathEscape(id) + "/kick" }

func (c kickCommand) kickMatching(r Runtime, filter url.Values) error {
	fields := c.fields()
	for name := range filter {
		fields[name] = filter.Get(name)
	}
	impact, err := c.measure(r, c.adminFlags, "kick", fields)
	if err != nil {
		return err
	}
	if isConfirmed, err := c.confirm(r, c.adminFlags, impact); !isConfirmed {
		return err
	}
	var kicked admin.KickResult
	err = c.send(r, "POST", "kick", fields, &kicked, func() error {
		return printKicked(r, kicked)
	})
	switch {
	case err != nil:
		return err
	case len(kicked.NotKicked) > 0:
		return fmt.Errorf("not kicked: sessions that only %s hold; kick again when they are back",
			strings.Join(slices.Sorted(maps.Keys(kicked.NotKicked)), ", "))
	case kicked.Kicked == 0 && len(kicked.Bans) == 0: // a user who does not watch is refused all the same
		return ErrNegative
	}
	return nil
}

// printKicked prints the result of a kick of all that match.
func printKicked(r Runtime, k admin.KickResult) error {
	about := ""
	if k.Approximate {
		about = "about "
	}
	err := printLine(r, "kicked %s%d of %s%d sessions%s\n", about, k.Kicked, about, k.Matched, refusedBy(k))
	if err != nil || len(k.NotKicked) == 0 {
		return err
	}
	var rows [][]string
	for _, node := range slices.Sorted(maps.Keys(k.NotKicked)) {
		rows = append(rows, []string{node, k.NotKicked[node]})
	}
	return table(r, []string{"NODE", "NOT KICKED"}, rows)
}

type banCommand struct {
	adminFlags
	revokeFlags
	User          string `help:"The user to ban, by name or id." xor:"subject" required:""`
	Session       string `help:"The session to ban." xor:"subject" required:""`
	Address       string `help:"The address or prefix to ban." xor:"subject" required:""`
	CredentialsOf string `help:"The session whose credentials to ban, whatever is shown beside them." xor:"subject" required:""`
}

// Run bans, and prints the ban's id.
func (c banCommand) Run(r Runtime) error {
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
	impact, err := c.measure(r, c.adminFlags, "bans", fields)
	if err != nil {
		return err
	}
	if isConfirmed, err := c.confirm(r, c.adminFlags, impact); !isConfirmed {
		return err
	}
	var ban admin.Ban
	return c.send(r, "POST", "bans", fields, &ban, func() error {
		return printLine(r, "banned %s until %s: %s\n", ban.Subject(), ban.Until.Format(time.RFC3339), ban.ID)
	})
}
