//go:build race

package ipsecd

// many is less here: the race detector makes the copying of SAs ten times as slow.
const many = 10_000
