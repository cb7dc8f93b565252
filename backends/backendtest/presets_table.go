package backendtest

import "usher/backends/httpbackend"

// The tables hold each preset's outcome in each condition of a middleware:
//
//	adapter    the adapter's answer: allowed, denied, redirected (denied, with a redirect), or the kind of failure
//	alarm      the alarm that it raises
//	unknown    what a chain with the preset's policy answers for an unknown viewer while the breaker is closed
//	later      the same from the fifth such answer on, which opens the breaker if they are failures
//	running    what it answers for a viewer with an earlier allowed decision, before and after that
//
// The chain answers with the middleware's decision, or with the outage policy's: "fail-open" is allowed, "cached" is the
// viewer's current decision, "policy denies" is denied, and "retry" is an error (503).

// tableAstra admits unknown viewers on a failure. A viewer can cause a status or a malformed answer by their request, so these
// admit unknown viewers only while the breaker is open.
const tableAstra = `
condition                        | adapter    | alarm              | unknown    | later      | running
refused                          | transport  |                    | fail-open  | fail-open  | cached
an unknown host                  | transport  |                    | fail-open  | fail-open  | cached
an untrusted certificate         | transport  |                    | fail-open  | fail-open  | cached
a hang                           | timeout    |                    | fail-open  | fail-open  | cached
a reset                          | transport  |                    | fail-open  | fail-open  | cached
not HTTP                         | malformed  |                    | retry      | fail-open  | cached
200                              | allowed    |                    | allowed    | allowed    | allowed
204                              | denied     | unexpected_status  | denied     | denied     | denied
302 to another host              | redirected |                    | redirected | redirected | redirected
302 to its own login page        | malformed  | redirect_to_itself | retry      | fail-open  | cached
302 to itself for ever           | malformed  | redirect_to_itself | retry      | fail-open  | cached
302 to another host for ever     | redirected |                    | redirected | redirected | redirected
10 redirects to itself, then 200 | malformed  | redirect_to_itself | retry      | fail-open  | cached
11 redirects to itself, then 200 | malformed  | redirect_to_itself | retry      | fail-open  | cached
302 to a channel of its own      | redirected |                    | redirected | redirected | redirected
302 to a path of a channel       | redirected |                    | redirected | redirected | redirected
302 to another port              | redirected |                    | redirected | redirected | redirected
301 to its path, slash or not    | malformed  | address_moved      | retry      | fail-open  | cached
200 with X-Location              | redirected |                    | redirected | redirected | redirected
400                              | denied     | unexpected_status  | denied     | denied     | denied
401                              | denied     |                    | denied     | denied     | denied
403                              | denied     |                    | denied     | denied     | denied
403 with X-Location              | redirected |                    | redirected | redirected | redirected
404                              | status 404 | wrong_address      | retry      | fail-open  | cached
429                              | status 429 |                    | retry      | fail-open  | cached
500                              | status 500 |                    | retry      | fail-open  | cached
502                              | status 502 |                    | retry      | fail-open  | cached
503                              | status 503 |                    | retry      | fail-open  | cached
`

// tableAlta denies on every answer but 200. Only a call without an answer is a failure. Redirects are neither relayed nor
// followed, so a redirect to the middleware itself raises no alarm.
const tableAlta = `
condition                        | adapter   | alarm | unknown   | later     | running
refused                          | transport |       | fail-open | fail-open | cached
an unknown host                  | transport |       | fail-open | fail-open | cached
an untrusted certificate         | transport |       | fail-open | fail-open | cached
a hang                           | timeout   |       | fail-open | fail-open | cached
a reset                          | transport |       | fail-open | fail-open | cached
not HTTP                         | malformed |       | retry     | fail-open | cached
200                              | allowed   |       | allowed   | allowed   | allowed
204                              | denied    |       | denied    | denied    | denied
302 to another host              | denied    |       | denied    | denied    | denied
302 to its own login page        | denied    |       | denied    | denied    | denied
302 to itself for ever           | denied    |       | denied    | denied    | denied
302 to another host for ever     | denied    |       | denied    | denied    | denied
10 redirects to itself, then 200 | denied    |       | denied    | denied    | denied
11 redirects to itself, then 200 | denied    |       | denied    | denied    | denied
302 to a channel of its own      | denied    |       | denied    | denied    | denied
302 to a path of a channel       | denied    |       | denied    | denied    | denied
302 to another port              | denied    |       | denied    | denied    | denied
301 to its path, slash or not    | denied    |       | denied    | denied    | denied
200 with X-Location              | allowed   |       | allowed   | allowed   | allowed
400                              | denied    |       | denied    | denied    | denied
401                              | denied    |       | denied    | denied    | denied
403                              | denied    |       | denied    | denied    | denied
403 with X-Location              | denied    |       | denied    | denied    | denied
404                              | denied    |       | denied    | denied    | denied
429                              | denied    |       | denied    | denied    | denied
500                              | denied    |       | denied    | denied    | denied
502                              | denied    |       | denied    | denied    | denied
503                              | denied    |       | denied    | denied    | denied
`

// tableFlussonic keeps the decisions of running sessions in an outage, and admits no other viewer, however long it lasts.
const tableFlussonic = `
condition                        | adapter    | alarm              | unknown    | later      | running
refused                          | transport  |                    | retry      | retry      | cached
an unknown host                  | transport  |                    | retry      | retry      | cached
an untrusted certificate         | transport  |                    | retry      | retry      | cached
a hang                           | timeout    |                    | retry      | retry      | cached
a reset                          | transport  |                    | retry      | retry      | cached
not HTTP                         | malformed  |                    | retry      | retry      | cached
200                              | allowed    |                    | allowed    | allowed    | allowed
204                              | denied     |                    | denied     | denied     | denied
302 to another host              | redirected |                    | redirected | redirected | redirected
302 to its own login page        | malformed  | redirect_to_itself | retry      | retry      | cached
302 to itself for ever           | malformed  | redirect_to_itself | retry      | retry      | cached
302 to another host for ever     | redirected |                    | redirected | redirected | redirected
10 redirects to itself, then 200 | malformed  | redirect_to_itself | retry      | retry      | cached
11 redirects to itself, then 200 | malformed  | redirect_to_itself | retry      | retry      | cached
302 to a channel of its own      | redirected |                    | redirected | redirected | redirected
302 to a path of a channel       | redirected |                    | redirected | redirected | redirected
302 to another port              | redirected |                    | redirected | redirected | redirected
301 to its path, slash or not    | malformed  | address_moved      | retry      | retry      | cached
200 with X-Location              | redirected |                    | redirected | redirected | redirected
400                              | denied     |                    | denied     | denied     | denied
401                              | denied     |                    | denied     | denied     | denied
403                              | denied     |                    | denied     | denied     | denied
403 with X-Location              | redirected |                    | redirected | redirected | redirected
404                              | denied     |                    | denied     | denied     | denied
429                              | status 429 |                    | retry      | retry      | cached
500                              | status 500 |                    | retry      | retry      | cached
502                              | status 502 |                    | retry      | retry      | cached
503                              | status 503 |                    | retry      | retry      | cached
`

// tableAuthProxy admits no viewer without a fresh allowed answer. At most ten redirects are followed, and the last answer
// counts unless it is a web page, which is a login page.
const tableAuthProxy = `
condition                        | adapter   | alarm              | unknown       | later         | running
refused                          | transport |                    | policy denies | policy denies | policy denies
an unknown host                  | transport |                    | policy denies | policy denies | policy denies
an untrusted certificate         | transport |                    | policy denies | policy denies | policy denies
a hang                           | timeout   |                    | policy denies | policy denies | policy denies
a reset                          | transport |                    | policy denies | policy denies | policy denies
not HTTP                         | malformed |                    | policy denies | policy denies | policy denies
200                              | allowed   |                    | allowed       | allowed       | allowed
204                              | denied    |                    | denied        | denied        | denied
302 to another host              | allowed   |                    | allowed       | allowed       | allowed
302 to its own login page        | malformed | redirect_to_itself | policy denies | policy denies | policy denies
302 to itself for ever           | malformed |                    | policy denies | policy denies | policy denies
302 to another host for ever     | malformed |                    | policy denies | policy denies | policy denies
10 redirects to itself, then 200 | allowed   |                    | allowed       | allowed       | allowed
11 redirects to itself, then 200 | malformed |                    | policy denies | policy denies | policy denies
302 to a channel of its own      | denied    |                    | denied        | denied        | denied
302 to a path of a channel       | denied    |                    | denied        | denied        | denied
302 to another port              | allowed   |                    | allowed       | allowed       | allowed
301 to its path, slash or not    | allowed   |                    | allowed       | allowed       | allowed
200 with X-Location              | allowed   |                    | allowed       | allowed       | allowed
400                              | denied    |                    | denied        | denied        | denied
401                              | denied    |                    | denied        | denied        | denied
403                              | denied    |                    | denied        | denied        | denied
403 with X-Location              | denied    |                    | denied        | denied        | denied
404                              | denied    |                    | denied        | denied        | denied
429                              | denied    |                    | denied        | denied        | denied
500                              | denied    |                    | denied        | denied        | denied
502                              | denied    |                    | denied        | denied        | denied
503                              | denied    |                    | denied        | denied        | denied
`

func presetTables() map[httpbackend.Preset]string {
	return map[httpbackend.Preset]string{
		httpbackend.PresetAstra:     tableAstra,
		httpbackend.PresetAlta:      tableAlta,
		httpbackend.PresetFlussonic: tableFlussonic,
		httpbackend.PresetAuthProxy: tableAuthProxy,
	}
}
