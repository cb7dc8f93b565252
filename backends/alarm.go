package backends

// Alarm is something that a backend does outside its contract while it still gets its answer across. A closed set.
type Alarm uint8

// The alarms.
const (
	// AlarmUnexpectedStatus: a status that its contract does not know, so probably a wrong address.
	AlarmUnexpectedStatus Alarm = iota
	// AlarmRedirectToItself: viewers would be sent to the middleware.
	AlarmRedirectToItself
	// AlarmBadHeader: a header that makes no sense, and was ignored.
	AlarmBadHeader
	// AlarmWrongAddress: it knows no such page (404), under a preset that takes this for a failure.
	AlarmWrongAddress
	// AlarmUnexpectedAnswer: an answer without what require_header, require_body or the kind's own format wants.
	AlarmUnexpectedAnswer
)

// String is the alarm as logs and metrics show it.
func (a Alarm) String() string {
	return [...]string{
		"unexpected_status", "redirect_to_itself", "bad_header", "wrong_address", "unexpected_answer",
	}[a]
}

// Advice is what the operator can do about it.
func (a Alarm) Advice() string {
	return [...]string{
		"check url; if the backend means it, add the status to statuses",
		"check url: the backend redirects to a page of its own, such as a login",
		"check what the backend sends; the header was ignored",
		"check the path in url",
		"check url: another server than the backend answers there",
	}[a]
}

// AllAlarms lists them all, for whoever registers a metric for each.
func AllAlarms() []Alarm {
	return []Alarm{
		AlarmUnexpectedStatus, AlarmRedirectToItself, AlarmBadHeader, AlarmWrongAddress, AlarmUnexpectedAnswer,
	}
}
