// Package gatewaytest has the surroundings of a gateway under test: listeners and origins. Only tests import it.
package gatewaytest
