package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// deployPrometheus is the folder of the rules.
const deployPrometheus = "../../../deploy/prometheus"

// prometheusRule is one entry of rules.yaml.
type prometheusRule struct {
	Record, Alert, Expr string
	Labels, Annotations map[string]string
}

// readRules returns the rules that operators load.
func readRules(t *testing.T) (all []prometheusRule) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(deployPrometheus, "rules.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct{ Rules []prometheusRule }
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	for _, group := range file.Groups {
		all = append(all, group.Rules...)
	}
	if len(all) == 0 {
		t.Fatal("no rules")
	}
	return all
}

// TestPrometheus_Rules lets promtool check the rules, and run the tests in which each alert fires and resolves.
func TestPrometheus_Rules(t *testing.T) {
	t.Parallel()
	promtool := tool(t, "promtool", "prometheus")
	for _, args := range [][]string{
		{"check", "config", "prometheus.yaml"},
		{"check", "rules", "rules.yaml"},
		{"test", "rules", "rules_test.yaml"},
	} {
		args[2] = filepath.Join(deployPrometheus, args[2])
		if code, out, errs := runToEnd(t, promtool, args...); code != 0 {
			t.Errorf("promtool %s: %d\n%s%s", strings.Join(args, " "), code, out, errs)
		}
	}
}

// TestPrometheus_Rules_TellClustersApart requires of every grouping by job, of rules and dashboard, that it is one by namespace too:
// in Kubernetes the nodes of two clusters have one job if their releases have one name.
func TestPrometheus_Rules_TellClustersApart(t *testing.T) {
	t.Parallel()
	grouping := regexp.MustCompile(`(?:by|on) \([^)]*\)`)
	for _, r := range readRules(t) {
		for _, found := range grouping.FindAllString(r.Expr, -1) {
			if !strings.Contains(found, "(job, namespace") {
				t.Errorf("%s%s: %s: want it by job and namespace", r.Record, r.Alert, found)
			}
		}
	}
	for _, expr := range dashboardExpressions(t) {
		if strings.Count(expr, `job="usher"`) != strings.Count(expr, `job="usher", namespace=""`) {
			t.Errorf("the dashboard's %s: want every job with its namespace", expr)
		}
	}
}

// TestPrometheus_Alerts_SayWhatToDo requires of every alert a severity, a summary, a description, and a test.
func TestPrometheus_Alerts_SayWhatToDo(t *testing.T) {
	t.Parallel()
	tests, err := os.ReadFile(filepath.Join(deployPrometheus, "rules_test.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range readRules(t) {
		if r.Alert == "" {
			continue
		}
		switch r.Labels["severity"] {
		case "critical", "warning", "info":
		default:
			t.Errorf("%s: severity %q, want critical, warning or info", r.Alert, r.Labels["severity"])
		}
		if r.Annotations["summary"] == "" || len(r.Annotations["description"]) < 80 {
			t.Errorf("%s: want a summary, and a description that says what to do", r.Alert)
		}
		if !strings.Contains(string(tests), `alertname="`+r.Alert+`"`) {
			t.Errorf("%s: rules_test.yaml has no test", r.Alert)
		}
	}
}
