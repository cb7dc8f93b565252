// Package report shows what a run of the harness found: [HTML] as one page with plots, [Ratios] as numbers that compare targets,
// [Compare] as what changed between two runs, [Prometheus] while it runs.
//
// The page holds everything: its plots are drawn by uPlot (MIT, assets/uplot-license.txt), which is part of it. Its tables are HTML,
// so that they are read without scripts.
//
// Decided: the page plots what a result's series hold, grouped by the first part of their names, so that a new measure needs no
// change here.
//
// Refused: a chart library for Go. go-echarts embeds nothing, and a picture cannot be zoomed.
package report
