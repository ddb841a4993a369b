//go:build race

package ah

const raceEnabled = true // sync.Pool forgets on purpose
