//go:build race

package esp

const raceEnabled = true // sync.Pool forgets on purpose
