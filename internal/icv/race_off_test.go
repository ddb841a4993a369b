//go:build !race

package icv

const raceEnabled = false
