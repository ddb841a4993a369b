// Package policy decides who may have which tunnel, by the assertions of
// isakmpd.policy(5).
//
// Load reads the policy file and says what in it is wrong, or probably not meant.
// With adds credentials: signed assertions, and what FromCertificates makes of
// certificates. Ask puts one phase 2 proposal to the policy, as a set of
// attributes in the name of the principals that phase 1 authenticated; the
// Decision says why in two lengths, for a log and for somebody who wants to know
// all.
//
// Which attributes there are is said once, in a table: it fills a query, it is
// what the linter knows of a condition's values, and isakmpd.policy(5) is tested
// against it.
package policy
