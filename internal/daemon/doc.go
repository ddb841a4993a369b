// Package daemon is isakmpd without its command line: it reads the
// configuration, opens sockets and the data plane, owns the one goroutine that
// drives the engine, carries the engine's requests out on workers, re-reads,
// reports, logs and cleans up.
//
// It is the one place where negotiation, configuration and traffic meet, and it
// translates each wing's types into another's. What it wants of the operating
// system it asks a Host for.
package daemon
