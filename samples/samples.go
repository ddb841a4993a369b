// Package samples holds configurations to begin with: a gateway in the east and
// one in the west (east.conf, west.conf), two single hosts (host-a.conf,
// host-b.conf), rc.vpn, which joins networks with keys of one's own, and policies
// for the common cases in policy/. Its
// tests run each as it is.
package samples
