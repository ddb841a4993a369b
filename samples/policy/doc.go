// Package policy holds policies to begin with, for isakmpd.policy(5): the
// how-to's own (howto.policy), strong ciphers only (strong.policy), PFS demanded
// (pfs.policy), certain networks and ports (networks.policy), working hours
// (hours.policy), mobile users by name (mobile.policy), and gateways with
// certificates of a CA (ca.policy). Its tests ask each of them.
package policy
