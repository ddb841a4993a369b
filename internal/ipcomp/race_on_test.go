//go:build race

package ipcomp

const raceEnabled = true // sync.Pool forgets on purpose
