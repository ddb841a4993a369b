//go:build race

package icv

const raceEnabled = true // sync.Pool forgets on purpose
