package result

import (
	"regexp"
	"strings"
)

// hidden stands for a credential.
const hidden = "[hidden]"

var (
	// userInfo is the user and the password of a URL, queryPart its query.
	userInfo  = regexp.MustCompile(`://[^/\s?#]*@`)
	queryPart = regexp.MustCompile(`\?\S+`)
)

// HideCredentials returns a text without the credentials of the URLs in it: their users and passwords, and the values of their
// queries, but for a scenario's placeholders such as {token}. URLs may be in a list with commas. What a path holds stays.
func HideCredentials(text string) string {
	urls := strings.Split(text, ",http")
	for i, url := range urls {
		url = userInfo.ReplaceAllString(url, "://"+hidden+"@")
		urls[i] = queryPart.ReplaceAllStringFunc(url, hideValues)
	}
	return strings.Join(urls, ",http")
}

// hideValues hides the values of a query that begins with its question mark.
func hideValues(query string) string {
	pairs := strings.Split(query[1:], "&")
	for i, pair := range pairs {
		name, value, isNamed := strings.Cut(pair, "=")
		switch isPlaceholder := strings.HasPrefix(value, "{") && strings.HasSuffix(value, "}"); {
		case !isNamed:
			pairs[i] = hidden
		case value != "" && !isPlaceholder:
			pairs[i] = name + "=" + hidden
		}
	}
	return "?" + strings.Join(pairs, "&")
}

// HideCredentials hides the credentials of the URLs in all of the run's texts.
func (r *Run) HideCredentials() {
	for name, value := range r.Settings {
		r.Settings[name] = HideCredentials(value)
	}
	for i := range r.Measurements {
		m := &r.Measurements[i]
		m.Target, m.URL = HideCredentials(m.Target), HideCredentials(m.URL)
		for j, note := range m.Notes {
			m.Notes[j] = HideCredentials(note)
		}
	}
}
