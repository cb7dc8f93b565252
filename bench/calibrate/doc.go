// Package calibrate measures what operations cost on this machine, for package plan.
package calibrate
