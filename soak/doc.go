// Package soak runs two data planes for a long time with many SAs that are
// rekeyed at random under traffic. It contains only tests; "make soak" runs them
// for ten minutes, an ordinary test run for seconds.
package soak
