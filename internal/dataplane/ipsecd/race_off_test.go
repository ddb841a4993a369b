//go:build !race

package ipsecd

// many SAs are in the table that takes long to dump.
const many = 100_000
