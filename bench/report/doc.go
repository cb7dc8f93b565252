// Package report shows what a run of the harness finds: [Progress] and [Prometheus] while it runs, [HTML] as one page with plots,
// [Ratios] as numbers that compare targets, [Compare] as what changed between two runs.
//
// The page holds everything: its plots are drawn by uPlot (MIT, assets/uplot-license.txt), which is part of it. Its tables are HTML,
// so that they are read without scripts.
//
// Decided: the page plots what a result's series hold, grouped by the first part of their names, so that a new measure needs no
// change here.
//
// Decided: progress on a terminal moves the cursor up over its own lines alone. It never clears the screen, so that what was there
// before stays, and it needs neither a signal for a new size nor a mode of the terminal that has to be restored.
//
// Refused: a chart library for Go. go-echarts embeds nothing, and a picture cannot be zoomed.
package report
