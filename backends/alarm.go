package backends

// Alarm names a way in which a backend violates its contract while its answers still arrive. The set is closed.
type Alarm uint8

// The alarms.
const (
	// AlarmUnexpectedStatus is a status that the contract does not define, so probably a wrong address.
	AlarmUnexpectedStatus Alarm = iota
	// AlarmRedirectToItself is a redirect that would send viewers to the middleware.
	AlarmRedirectToItself
	// AlarmBadHeader is an invalid header, which was ignored.
	AlarmBadHeader
	// AlarmWrongAddress is a 404 under a preset that takes it for a failure.
	AlarmWrongAddress
	// AlarmUnexpectedAnswer is an answer without what require_header, require_body or the kind's format demands.
	AlarmUnexpectedAnswer
)

// String returns the alarm as logs and metrics show it.
func (a Alarm) String() string {
	return [...]string{
		"unexpected_status", "redirect_to_itself", "bad_header", "wrong_address", "unexpected_answer",
	}[a]
}

// Advice returns what the operator can do.
func (a Alarm) Advice() string {
	return [...]string{
		"check address; if the backend means it, add the status to statuses",
		"check address: the backend redirects to a page of its own, for example a login page",
		"check what the backend sends; the header was ignored",
		"check the path in address",
		"check address: something else than the backend answers there",
	}[a]
}

// AllAlarms returns every alarm.
func AllAlarms() []Alarm {
	return []Alarm{
		AlarmUnexpectedStatus, AlarmRedirectToItself, AlarmBadHeader, AlarmWrongAddress, AlarmUnexpectedAnswer,
	}
}
