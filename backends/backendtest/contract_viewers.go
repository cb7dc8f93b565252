package backendtest

import (
	"fmt"
	"time"

	"usher/backends"
)

// goodUser is who owns GoodToken.
func goodUser() User {
	return User{ID: "u1", Name: "alice", ValidFor: 10 * time.Minute, MaxSessions: 2}
}

// concurrentViewers is how many viewers ask at once.
const concurrentViewers = 64

// viewer returns the token of one of them, and its user; every second one is unknown.
func viewer(i int) (token string, u User) {
	if i%2 == 1 {
		return fmt.Sprintf("%s-%d", BadToken, i), User{}
	}
	return fmt.Sprintf("%s-%d", GoodToken, i), User{
		ID: fmt.Sprint("id-", i), Name: fmt.Sprint("name-", i), ValidFor: time.Duration(i+20) * time.Second, MaxSessions: i + 2,
	}
}

// grantOf returns what an allowance says of a user. A product's own dialect may not say it.
func grantOf(d backends.Decision) User {
	return User{ID: d.UserID, Name: d.User, ValidFor: d.ValidFor, MaxSessions: int(d.MaxSessions), Unique: d.Unique}
}
