package plan

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// CostsVersion is the version of a file of costs.
const CostsVersion = 1

// Costs are what operations cost on one machine. All must be positive, except that of memory per node.
type Costs struct {
	Version int `json:"version"`
	// Machine is where they were measured.
	Machine string `json:"machine"`
	// Times of a node's CPU, in µs: of a cached playlist, of a segment and of each of its megabytes, of an edge's question about
	// a known session, of an opening and of a re-check with their calls of the middleware, of a session's heartbeat, and what
	// that of a user with a stream limit costs beyond it.
	Playlist         float64 `json:"playlist_us"`
	Segment          float64 `json:"segment_us"`
	SegmentMegabyte  float64 `json:"segment_megabyte_us"`
	AuthQuestion     float64 `json:"auth_question_us"`
	Opening          float64 `json:"opening_us"`
	Recheck          float64 `json:"recheck_us"`
	Heartbeat        float64 `json:"heartbeat_us"`
	LimitedHeartbeat float64 `json:"limited_heartbeat_us"`
	// The same of a node without Redis.
	OpeningAlone float64 `json:"opening_alone_us"`
	RecheckAlone float64 `json:"recheck_alone_us"`
	// Times of Redis, in µs: of an opening, of a re-check, of a heartbeat, and what that of a user with a
	// stream limit costs beyond it.
	RedisOpening          float64 `json:"redis_opening_us"`
	RedisRecheck          float64 `json:"redis_recheck_us"`
	RedisHeartbeat        float64 `json:"redis_heartbeat_us"`
	RedisLimitedHeartbeat float64 `json:"redis_limited_heartbeat_us"`
	// Memory in bytes: of a node without viewers, of a session, of a connection, and of a session in Redis.
	Node         float64 `json:"node_bytes"`
	Session      float64 `json:"session_bytes"`
	Connection   float64 `json:"connection_bytes"`
	RedisSession float64 `json:"redis_session_bytes"`
	// Sources says of each cost, by its name, how it was found. One that begins with "estimate" was not measured.
	Sources map[string]string `json:"sources"`
}

//go:embed reference.json
var reference []byte

// Reference returns the costs of the reference machine.
func Reference() (Costs, error) {
	var c Costs
	return c, c.parse(reference)
}

// ReadCosts reads a file of costs.
func ReadCosts(r io.Reader) (Costs, error) {
	var c Costs
	text, err := io.ReadAll(r)
	if err != nil {
		return c, fmt.Errorf("read the costs: %w", err)
	}
	return c, c.parse(text)
}

func (c *Costs) parse(text []byte) error {
	if err := json.Unmarshal(text, c); err != nil {
		return fmt.Errorf("read the costs: %w", err)
	}
	if c.Version != CostsVersion {
		return fmt.Errorf("read the costs: version %d, want %d", c.Version, CostsVersion)
	}
	var errs []error
	for name, value := range c.byName() {
		if *value <= 0 {
			errs = append(errs, fmt.Errorf("read the costs: %s: %v, want more than 0", name, *value))
		}
	}
	return errors.Join(errs...)
}

// byName returns the costs by their names in the file.
func (c *Costs) byName() map[string]*float64 {
	return map[string]*float64{
		"playlist_us": &c.Playlist, "segment_us": &c.Segment, "segment_megabyte_us": &c.SegmentMegabyte, "auth_question_us": &c.AuthQuestion,
		"opening_us": &c.Opening, "recheck_us": &c.Recheck, "heartbeat_us": &c.Heartbeat, "limited_heartbeat_us": &c.LimitedHeartbeat,
		"opening_alone_us": &c.OpeningAlone, "recheck_alone_us": &c.RecheckAlone,
		"redis_opening_us": &c.RedisOpening, "redis_recheck_us": &c.RedisRecheck, "redis_heartbeat_us": &c.RedisHeartbeat,
		"redis_limited_heartbeat_us": &c.RedisLimitedHeartbeat,
		"node_bytes":                 &c.Node, "session_bytes": &c.Session, "connection_bytes": &c.Connection, "redis_session_bytes": &c.RedisSession,
	}
}

// Names returns the names of all costs, in order.
func Names() []string { return slices.Sorted(maps.Keys(new(Costs).byName())) }

// Value returns the cost of that name.
func (c *Costs) Value(name string) float64 { return *c.byName()[name] }

// Set sets the cost of that name, and how it was found.
func (c *Costs) Set(name string, value float64, source string) {
	*c.byName()[name] = value
	c.Sources[name] = source
}

// estimate begins the source of a cost that was not measured on the machine.
const estimate = "estimate"

// SetEstimates says of those costs that they were not measured on the machine, and why.
func (c *Costs) SetEstimates(names []string, why string) {
	for _, name := range names {
		c.Sources[name] = fmt.Sprintf("%s: %s; of %s", estimate, why, c.Machine)
	}
}

// Estimates returns the names of the costs that were not measured, in order.
func (c *Costs) Estimates() (names []string) {
	for _, name := range Names() {
		if source, ok := c.Sources[name]; !ok || strings.HasPrefix(source, estimate) {
			names = append(names, name)
		}
	}
	return names
}

// Write writes a file of costs.
func (c *Costs) Write(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", " ")
	return e.Encode(c)
}
