package plan

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Print writes the plan for people, with its arithmetic.
func (p *Plan) Print(w io.Writer, spare int, c Costs) error {
	out := &strings.Builder{}
	fmt.Fprintf(out, "Nodes              %d (%d for the viewers, %d spare), bounded by %s\n", p.Nodes, p.Nodes-spare, spare, p.First)
	if p.RedisServers > 0 {
		fmt.Fprintf(out, "Redis servers      %d, and a replica of each\n", p.RedisServers)
	}
	fmt.Fprintf(out, "Middleware calls   %s/s while viewers watch, %s/s while they arrive\n", si(p.Calls), si(p.CallsWhenFull))
	fmt.Fprintf(out, "recheck_rate       %d at least, so that all answers are renewed in time\n\n", p.RecheckRate)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "bound\tall viewers need\ta node offers\tnodes")
	for _, b := range p.Bounds {
		_, _ = fmt.Fprintf(table, "%s\t%s %s\t%s %s\t%d\n", b.Name, si(b.Need), b.Unit, si(b.PerNode), b.Unit, b.Nodes)
	}
	_, _ = fmt.Fprintln(table, "\nhow\twhat\tcount\tx cost\t= value")
	for _, one := range p.Products {
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s %s\n", one.Of, one.Name, si(one.Count), si(one.Cost), si(one.Value), one.Unit)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nCosts in µs and bytes, of: %s.\n", c.Machine)
	for _, name := range c.Estimates() {
		fmt.Fprintf(out, "Not measured: %s (%s).\n", name, cmp.Or(c.Sources[name], estimate))
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// si writes a number with three digits and a decimal prefix.
func si(v float64) string {
	for _, unit := range []struct {
		size   float64
		suffix string
	}{{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if v >= unit.size {
			return fmt.Sprintf("%.3g%s", v/unit.size, unit.suffix)
		}
	}
	return fmt.Sprintf("%.3g", v)
}
