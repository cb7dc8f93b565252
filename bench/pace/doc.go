// Package pace says when viewers start: a [Pace] is how many are to have started after a time, a pure function of it. The generator
// asks it ahead of time, so a slow server delays no start.
//
//	text                                  starts
//	50/s                                  at a constant rate
//	ramp 0..500/s over 30s                at a rate that grows or falls evenly, then at the last one
//	steps 100/s, 200/s, 400/s every 10s   at each rate for that long, then at the last one
//	poisson 100/s [seed 7]                at random and independently, as crowds do
//	all at once 1000                      at the first instant
//
// Decided: Poisson arrivals are drawn from a seed, cell by cell, so that two targets get the same arrivals.
package pace
