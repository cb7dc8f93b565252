package process

import "fmt"

// Port is an address that is kept for one server, which may listen, end and listen again.
type Port struct {
	// Address is "127.0.0.1:port".
	Address string

	release func()
}

// ReservePort returns an address of 127.0.0.1 on which nothing listens, and which no other call returns before its Release.
func ReservePort() (*Port, error) {
	p, err := reserve(0)
	if err != nil {
		return nil, fmt.Errorf("reserve a port: %w", err)
	}
	return p, nil
}

// ReservePortNumber returns the address of 127.0.0.1 with that port, as ReservePort does. It is an error if the port is in use or reserved.
func ReservePortNumber(port int) (*Port, error) {
	p, err := reserve(port)
	if err != nil {
		return nil, fmt.Errorf("reserve port %d: %w", port, err)
	}
	return p, nil
}

// Release gives the port back, when its server has ended. It may be called any number of times, and of nil.
func (p *Port) Release() {
	if p != nil {
		p.release()
	}
}
