package soak

import (
	"context"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"

	"usher/bench/soak/netns"
)

// domain is that of the hosts' names.
const domain = ".soak."

// serveDNS answers for the hosts' names in a host, until end is called.
func serveDNS(ctx context.Context, at *netns.Host, addresses map[string]netip.Addr) (end func(), err error) {
	var socket net.PacketConn
	err = at.Do(func() (err error) {
		var config net.ListenConfig
		socket, err = config.ListenPacket(ctx, "udp4", ":53")
		return err
	})
	if err != nil {
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buffer := make([]byte, 1<<10)
		for {
			size, from, err := socket.ReadFrom(buffer)
			if err != nil {
				return
			}
			if answer, err := answerDNS(buffer[:size], addresses); err == nil {
				_, _ = socket.WriteTo(answer, from)
			}
		}
	}()
	return func() {
		_ = socket.Close()
		<-done
	}, nil
}

// answerDNS answers a question about a host. Nothing is to be remembered of it, so that each new connection asks.
func answerDNS(question []byte, addresses map[string]netip.Addr) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(question); err != nil {
		return nil, err
	}
	m.Response, m.Authoritative, m.Additionals = true, true, nil
	for _, q := range m.Questions {
		name, isOurs := strings.CutSuffix(strings.ToLower(q.Name.String()), domain)
		address, isHost := addresses[name]
		switch {
		case !isOurs || !isHost:
			m.RCode = dnsmessage.RCodeNameError
		case q.Type == dnsmessage.TypeA:
			m.Answers = append(m.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class},
				Body:   &dnsmessage.AResource{A: address.As4()},
			})
		}
	}
	return m.Pack()
}
