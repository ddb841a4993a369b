//go:build race

package iketest

const raceEnabled = true
