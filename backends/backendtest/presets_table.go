package backendtest

import "usher/backends/httpbackend"

// The tables say what each preset makes of each condition of a middleware:
//
//	adapter    the adapter's answer: yes (allowed), no (denied), "no, sent on" (denied, with a redirect), or the kind of
//	           failure
//	alarm      the alarm that it raises
//	newcomer   what a chain with the preset's policy answers for an unknown viewer while the breaker is closed
//	later      the same from the fifth such answer on, which opens the breaker if they are failures
//	running    what it answers for a viewer with an earlier yes, before and after that
//
// The chain's words: yes and no are the middleware's own; "let in" is allowed by fail-open; "kept" is the viewer's current
// decision; "come back" is an error (503); "shut out" is denied by the policy.

// tableAstra: failures let newcomers in. A viewer can cause a status or a malformed answer by their request, so these let
// newcomers in only while the breaker is open.
const tableAstra = `
condition                        | adapter     | alarm              | newcomer    | later       | running
refused                          | transport   |                    | let in      | let in      | kept
an unknown host                  | transport   |                    | let in      | let in      | kept
an untrusted certificate         | transport   |                    | let in      | let in      | kept
a hang                           | timeout     |                    | let in      | let in      | kept
a reset                          | transport   |                    | let in      | let in      | kept
not HTTP                         | malformed   |                    | come back   | let in      | kept
200                              | yes         |                    | yes         | yes         | yes
204                              | no          | unexpected_status  | no          | no          | no
302 to another host              | no, sent on |                    | no, sent on | no, sent on | no, sent on
302 to its own login page        | malformed   | redirect_to_itself | come back   | let in      | kept
302 to itself for ever           | malformed   | redirect_to_itself | come back   | let in      | kept
302 to another host for ever     | no, sent on |                    | no, sent on | no, sent on | no, sent on
10 redirects to itself, then 200 | malformed   | redirect_to_itself | come back   | let in      | kept
11 redirects to itself, then 200 | malformed   | redirect_to_itself | come back   | let in      | kept
400                              | no          | unexpected_status  | no          | no          | no
401                              | no          |                    | no          | no          | no
403                              | no          |                    | no          | no          | no
403 with X-Location              | no, sent on |                    | no, sent on | no, sent on | no, sent on
404                              | status 404  | wrong_address      | come back   | let in      | kept
429                              | status 429  |                    | come back   | let in      | kept
500                              | status 500  |                    | come back   | let in      | kept
502                              | status 502  |                    | come back   | let in      | kept
503                              | status 503  |                    | come back   | let in      | kept
`

// tableAlta: every answer but 200 is a no, and only what is none is a failure. Redirects are neither relayed nor
// followed, so one to the middleware itself harms nobody more than another.
const tableAlta = `
condition                        | adapter     | alarm              | newcomer    | later       | running
refused                          | transport   |                    | let in      | let in      | kept
an unknown host                  | transport   |                    | let in      | let in      | kept
an untrusted certificate         | transport   |                    | let in      | let in      | kept
a hang                           | timeout     |                    | let in      | let in      | kept
a reset                          | transport   |                    | let in      | let in      | kept
not HTTP                         | malformed   |                    | come back   | let in      | kept
200                              | yes         |                    | yes         | yes         | yes
204                              | no          |                    | no          | no          | no
302 to another host              | no          |                    | no          | no          | no
302 to its own login page        | no          |                    | no          | no          | no
302 to itself for ever           | no          |                    | no          | no          | no
302 to another host for ever     | no          |                    | no          | no          | no
10 redirects to itself, then 200 | no          |                    | no          | no          | no
11 redirects to itself, then 200 | no          |                    | no          | no          | no
400                              | no          |                    | no          | no          | no
401                              | no          |                    | no          | no          | no
403                              | no          |                    | no          | no          | no
403 with X-Location              | no          |                    | no          | no          | no
404                              | no          |                    | no          | no          | no
429                              | no          |                    | no          | no          | no
500                              | no          |                    | no          | no          | no
502                              | no          |                    | no          | no          | no
503                              | no          |                    | no          | no          | no
`

// tableFlussonic: running sessions keep their decision in an outage, and nobody else gets in, however long it lasts.
const tableFlussonic = `
condition                        | adapter     | alarm              | newcomer    | later       | running
refused                          | transport   |                    | come back   | come back   | kept
an unknown host                  | transport   |                    | come back   | come back   | kept
an untrusted certificate         | transport   |                    | come back   | come back   | kept
a hang                           | timeout     |                    | come back   | come back   | kept
a reset                          | transport   |                    | come back   | come back   | kept
not HTTP                         | malformed   |                    | come back   | come back   | kept
200                              | yes         |                    | yes         | yes         | yes
204                              | no          |                    | no          | no          | no
302 to another host              | no, sent on |                    | no, sent on | no, sent on | no, sent on
302 to its own login page        | malformed   | redirect_to_itself | come back   | come back   | kept
302 to itself for ever           | malformed   | redirect_to_itself | come back   | come back   | kept
302 to another host for ever     | no, sent on |                    | no, sent on | no, sent on | no, sent on
10 redirects to itself, then 200 | malformed   | redirect_to_itself | come back   | come back   | kept
11 redirects to itself, then 200 | malformed   | redirect_to_itself | come back   | come back   | kept
400                              | no          |                    | no          | no          | no
401                              | no          |                    | no          | no          | no
403                              | no          |                    | no          | no          | no
403 with X-Location              | no, sent on |                    | no, sent on | no, sent on | no, sent on
404                              | no          |                    | no          | no          | no
429                              | status 429  |                    | come back   | come back   | kept
500                              | status 500  |                    | come back   | come back   | kept
502                              | status 502  |                    | come back   | come back   | kept
503                              | status 503  |                    | come back   | come back   | kept
`

// tableAuthProxy: nobody watches without a fresh yes. Redirects are followed, at most ten, and what stands at their end
// counts, unless it is a web page: that is where one logs in.
const tableAuthProxy = `
condition                        | adapter     | alarm              | newcomer    | later       | running
refused                          | transport   |                    | shut out    | shut out    | shut out
an unknown host                  | transport   |                    | shut out    | shut out    | shut out
an untrusted certificate         | transport   |                    | shut out    | shut out    | shut out
a hang                           | timeout     |                    | shut out    | shut out    | shut out
a reset                          | transport   |                    | shut out    | shut out    | shut out
not HTTP                         | malformed   |                    | shut out    | shut out    | shut out
200                              | yes         |                    | yes         | yes         | yes
204                              | no          |                    | no          | no          | no
302 to another host              | yes         |                    | yes         | yes         | yes
302 to its own login page        | malformed   | redirect_to_itself | shut out    | shut out    | shut out
302 to itself for ever           | malformed   |                    | shut out    | shut out    | shut out
302 to another host for ever     | malformed   |                    | shut out    | shut out    | shut out
10 redirects to itself, then 200 | yes         |                    | yes         | yes         | yes
11 redirects to itself, then 200 | malformed   |                    | shut out    | shut out    | shut out
400                              | no          |                    | no          | no          | no
401                              | no          |                    | no          | no          | no
403                              | no          |                    | no          | no          | no
403 with X-Location              | no          |                    | no          | no          | no
404                              | no          |                    | no          | no          | no
429                              | no          |                    | no          | no          | no
500                              | no          |                    | no          | no          | no
502                              | no          |                    | no          | no          | no
503                              | no          |                    | no          | no          | no
`

func presetTables() map[httpbackend.Preset]string {
	return map[httpbackend.Preset]string{
		httpbackend.PresetAstra:     tableAstra,
		httpbackend.PresetAlta:      tableAlta,
		httpbackend.PresetFlussonic: tableFlussonic,
		httpbackend.PresetAuthProxy: tableAuthProxy,
	}
}
