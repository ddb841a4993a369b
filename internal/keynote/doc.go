// Package keynote is a KeyNote trust-management engine (RFC 2704). It reads
// assertions, which say who trusts whom with what, and answers queries: given
// who asks and the attributes of what is asked for, which compliance value does
// the principal POLICY give to it?
//
// Text becomes Assertions (Parse), Assertions whose origin is believed or whose
// signature holds become a Set (NewSet), and a Set answers a Query. What is
// computed once is computed by the first two: syntax trees, regular expressions,
// canonical names of principals and the index of who is licensed where. A query
// begins at those who ask and follows the index towards POLICY, so it costs what
// lies between them and not what the Set holds.
//
// Assertions may come from an enemy. Their size, nesting, number of nodes, the
// strings that they build and the work of their regular expressions are bounded;
// what goes over a bound is false.
//
// The package knows no cryptography: a Keys verifies signatures and says which
// names of a key are one.
package keynote
