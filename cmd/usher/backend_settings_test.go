package main

import (
	"strings"
	"testing"
	"time"
)

func TestRemoteSettings_Validate_NamesTokenLife(t *testing.T) {
	t.Parallel()
	s := remoteSettings{TokenLife: -time.Second, Validity: time.Minute, RecheckRate: 1}
	if err := s.Validate(); err == nil || !strings.HasPrefix(err.Error(), "token_life: -1s") {
		t.Errorf("got %v, want an error that begins with token_life: -1s", err)
	}
	s.TokenLife = 0
	if err := s.Validate(); err != nil {
		t.Errorf("token_life 0: %v", err)
	}
}
