package backends

// Alarm names a way in which a backend violates its contract while its answers still arrive. The set is closed.
type Alarm uint8

// The alarms.
const (
	// AlarmUnexpectedStatus is a status that the contract does not define, so probably a wrong address.
	AlarmUnexpectedStatus Alarm = iota
	// AlarmRedirectToItself is a redirect that would send viewers to the middleware.
	AlarmRedirectToItself
	// AlarmBadHeader is a header that cannot be read.
	AlarmBadHeader
	// AlarmWrongAddress is a 404 under a preset that takes it for a failure.
	AlarmWrongAddress
	// AlarmUnexpectedAnswer is an answer without what require_header, require_body or the kind's format demands.
	AlarmUnexpectedAnswer
	// AlarmAddressMoved is a redirect of the check itself: to the same path elsewhere, to https, or of most answers to one
	// place.
	AlarmAddressMoved
	// AlarmBrokenPage is an allowing answer with a web page, or with an error page, in its body.
	AlarmBrokenPage
	// AlarmConstantUser is one user whose viewers are at very many addresses at once.
	AlarmConstantUser
	// AlarmDenialsJumped is a share of denials far above its average, among viewers whom the backend has allowed.
	AlarmDenialsJumped
)

// String returns the alarm as logs and metrics show it.
func (a Alarm) String() string {
	return [...]string{
		"unexpected_status", "redirect_to_itself", "bad_header", "wrong_address", "unexpected_answer", "address_moved", "broken_page",
		"constant_user", "denials_jumped",
	}[a]
}

// Advice returns what the operator can do.
func (a Alarm) Advice() string {
	return [...]string{
		"check address; if the backend means it, add the status to statuses",
		"check address: the backend redirects to a page of its own, for example a login page",
		"check what the backend sends; detail says what was assumed instead",
		"check the path in address",
		"check address: something else than the backend answers there",
		"set address to what detail names; if the redirect is for viewers, set redirects: viewer",
		"check the backend's log and address: a page may admit everybody; if detail names PHP's warnings, turn display_errors off; if it " +
			"names a web page, set require_header or require_body to what only the backend sends; otherwise, and for the kind ministra, " +
			"set broken_page: failure",
		"have X-UserId (or X-Session-Name) name each subscriber, or leave it out: viewers of one name share a stream limit, and a " +
			"kick or ban of one hits them all; if it is one subscriber, the account is shared",
		"check the backend's database and log: it ends the sessions of viewers whom it has allowed; while it is mended force its " +
			"breaker open, so that on_failure decides; if its tokens expire, set token_life",
	}[a]
}

// AllAlarms returns every alarm.
func AllAlarms() []Alarm {
	return []Alarm{
		AlarmUnexpectedStatus, AlarmRedirectToItself, AlarmBadHeader, AlarmWrongAddress, AlarmUnexpectedAnswer,
		AlarmAddressMoved, AlarmBrokenPage, AlarmConstantUser, AlarmDenialsJumped,
	}
}
