package httpbackend

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
	"usher/cmd/usher/config"
)

// TestNewStatusTable_Presets compares each preset with the table of the design. A '!' is an alarm.
func TestNewStatusTable_Presets(t *testing.T) {
	t.Parallel()
	statuses := []int{200, 204, 302, 401, 403, 404, 410, 429, 500, 503, 599, 100, 600, 0}
	tests := map[Preset][]string{
		PresetAstra: {
			"allow", "deny!", "redirect", "deny", "deny", "failure", "deny!", "failure", "failure", "failure", "failure",
			"deny!", "failure!", "failure!",
		},
		PresetAlta: {
			"allow", "deny", "deny", "deny", "deny", "deny", "deny", "deny", "deny", "deny", "deny",
			"deny!", "failure!", "failure!",
		},
		PresetFlussonic: {
			"allow", "deny", "redirect", "deny", "deny", "deny", "deny", "failure", "failure", "failure", "failure",
			"deny!", "failure!", "failure!",
		},
		PresetAuthProxy: {
			"allow", "deny", "follow", "deny", "deny", "deny", "deny", "deny", "deny", "deny", "deny",
			"deny!", "failure!", "failure!",
		},
	}
	for preset, want := range tests {
		t.Run(preset.String(), func(t *testing.T) {
			t.Parallel()
			table := mustTable(t, preset, nil)
			for i, status := range statuses {
				m := table.meaningOf(status)
				got := m.outcome.String()
				if slices.Contains(m.alarms, backends.AlarmUnexpectedStatus) {
					got += "!"
				}
				if got != want[i] {
					t.Errorf("status %d: got %s, want %s", status, got, want[i])
				}
			}
		})
	}
}

func mustTable(t testing.TB, preset Preset, overrides Statuses) *StatusTable {
	t.Helper()
	table, err := NewStatusTable(preset, RedirectsByTarget, overrides)
	if err != nil {
		t.Fatalf("make the table: %v", err)
	}
	return table
}

func TestStatuses_YAML(t *testing.T) {
	t.Parallel()
	var cfg Config
	err := config.Decode([]byte(`
preset: flussonic
statuses: {404: deny, 429: failure, 5xx: deny, "4xx": failure, 503: allow, 302: follow}
`), &cfg)
	if err != nil {
		t.Fatalf("read the config: %v", err)
	}
	table := mustTable(t, cfg.Preset, cfg.Statuses)
	want := map[int]Outcome{
		200: OutcomeAllow, 404: OutcomeDeny, 429: OutcomeFailure, 403: OutcomeFailure, 410: OutcomeFailure,
		500: OutcomeDeny, 503: OutcomeAllow, 302: OutcomeFollow, 301: OutcomeRedirect,
	}
	got := map[int]Outcome{}
	for status := range want {
		m := table.meaningOf(status)
		if len(m.alarms) > 0 {
			t.Errorf("status %d raises an alarm though the config names it", status)
		}
		got[status] = m.outcome
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
}

func TestStatuses_Validate(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		statuses Statuses
		want     string
	}{
		"none":                     {nil, ""},
		"statuses and classes":     {Statuses{"404": OutcomeDeny, "5xx": OutcomeFailure}, ""},
		"a word":                   {Statuses{"all": OutcomeDeny}, "statuses.all: want a status such as 404 or a class such as 5xx"},
		"half a status":            {Statuses{"40": OutcomeDeny}, "statuses.40: want a status such as 404 or a class such as 5xx"},
		"a status and a half":      {Statuses{"4040": OutcomeDeny}, "statuses.4040: want a status such as 404 or a class such as 5xx"},
		"nothing":                  {Statuses{"": OutcomeDeny}, "statuses.: want a status such as 404 or a class such as 5xx"},
		"the first and the last":   {Statuses{"100": OutcomeDeny, "1xx": OutcomeDeny, "599": OutcomeDeny}, ""},
		"before the first":         {Statuses{"099": OutcomeDeny}, "statuses.099: want a status such as 404 or a class such as 5xx"},
		"after the last":           {Statuses{"600": OutcomeDeny}, "statuses.600: want a status such as 404 or a class such as 5xx"},
		"a class of no status":     {Statuses{"6xx": OutcomeDeny}, "statuses.6xx: want a status such as 404 or a class such as 5xx"},
		"half a class":             {Statuses{"40x": OutcomeDeny}, "statuses.40x: want a status such as 404 or a class such as 5xx"},
		"a signed number":          {Statuses{"4+4": OutcomeDeny}, "statuses.4+4: want a status such as 404 or a class such as 5xx"},
		"a redirect that is a 404": {Statuses{"404": OutcomeRedirect}, "statuses.404: redirect is for 3xx only"},
		"a 5xx to follow":          {Statuses{"5xx": OutcomeFollow}, "statuses.5xx: follow is for 3xx only"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := errorText(tt.statuses.Validate()); got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
			if _, err := NewStatusTable(PresetAstra, RedirectsByTarget, tt.statuses); errorText(err) != tt.want {
				t.Errorf("the table: got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestOutcome_Text(t *testing.T) {
	t.Parallel()
	for want := PresetAstra; want <= PresetAuthProxy; want++ {
		text, _ := want.MarshalText()
		var got Preset
		if err := got.UnmarshalText(text); err != nil || got != want {
			t.Errorf("%q read as %s with error %v", text, got, err)
		}
	}
	for want := OutcomeDeny; want <= OutcomeFollow; want++ {
		text, _ := want.MarshalText()
		var got Outcome
		if err := got.UnmarshalText(text); err != nil || got != want {
			t.Errorf("%q read as %s with error %v", text, got, err)
		}
	}
	for want := RedirectsByTarget; want <= RedirectsFollow; want++ {
		text, _ := want.MarshalText()
		var got Redirects
		if err := got.UnmarshalText(text); err != nil || got != want {
			t.Errorf("%q read as %s with error %v", text, got, err)
		}
	}
	for want := BrokenPageAlarm; want <= BrokenPageIgnore; want++ {
		text, _ := want.MarshalText()
		var got BrokenPage
		if err := got.UnmarshalText(text); err != nil || got != want {
			t.Errorf("%q read as %s with error %v", text, got, err)
		}
	}
	for want := UnmetRequirementFailure; want <= UnmetRequirementDeny; want++ {
		text, _ := want.MarshalText()
		var got UnmetRequirement
		if err := got.UnmarshalText(text); err != nil || got != want {
			t.Errorf("%q read as %s with error %v", text, got, err)
		}
	}
	var (
		p Preset
		o Outcome
		r Redirects
		b BrokenPage
		u UnmetRequirement
	)
	for name, read := range map[string]struct {
		unmarshal func([]byte) error
		want      string
	}{
		"redirects":            {r.UnmarshalText, `redirects "no": want viewer, failure or follow, or nothing to decide by where it leads`},
		"broken_page":          {b.UnmarshalText, `broken_page "no": want ignore, alarm or failure`},
		"on_unmet_requirement": {u.UnmarshalText, `on_unmet_requirement "no": want failure or deny`},
	} {
		if got := errorText(read.unmarshal([]byte("no"))); got != read.want {
			t.Errorf("%s: got %q, want %q", name, got, read.want)
		}
	}
	if got, want := errorText(p.UnmarshalText([]byte("nginx"))), `preset "nginx": want astra, alta, flussonic or auth-proxy`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := errorText(o.UnmarshalText([]byte("no"))), `status outcome "no": want allow, deny, failure, redirect or follow`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestStatuses_Warnings_OfAllowancesAlone(t *testing.T) {
	t.Parallel()
	if err := (Statuses{"200": OutcomeAllow, "403": OutcomeDeny, "5xx": OutcomeFailure}).Warnings(); err != nil {
		t.Errorf("got %v, want none", err)
	}
	for pattern, price := range map[string]string{
		"302": "a redirect to a login page lets every viewer in", "4xx": "a refusal or a wrong address lets every viewer in",
		"500": "a broken backend lets every viewer in, and no outage is noticed",
	} {
		want := "statuses." + pattern + ": allow: " + price + "; want deny, or failure to follow on_failure"
		err := Statuses{"100": OutcomeDeny, "200": OutcomeAllow, pattern: OutcomeAllow}.Warnings()
		if errorText(err) != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
