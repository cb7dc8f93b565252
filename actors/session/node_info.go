package session

import "time"

// NodeInfo is what is known of a node. Its JSON is that of the admin API.
type NodeInfo struct {
	// ID differs from that of every other start of any node.
	ID string `json:"id"`
	// Name is the node's name in the settings.
	Name string `json:"name"`
	// Address is the address of its listener for viewers.
	Address string `json:"address,omitempty"`
	Version string `json:"version,omitempty"`
	// Started is when the node started, to the second. Both times are by the clock of the node that lists it.
	Started time.Time `json:"started"`
	// LastSeen is when the node sent its last heartbeat.
	LastSeen time.Time `json:"last_seen"`
	Sessions int       `json:"sessions"`
	// IsDraining reports that the node takes no new viewers, as it is about to stop.
	IsDraining bool `json:"draining"`
	// IsAlive reports that the node sent a heartbeat lately.
	IsAlive bool `json:"alive"`
	// IsSelf reports that it is the node that lists it.
	IsSelf bool `json:"self"`
}
