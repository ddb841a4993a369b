// Package conf reads isakmpd.conf(5): text becomes a tree of sections and tags
// with their positions (Parse), and the tree a Config of typed values with every
// reference resolved and every default filled in (Load). Protocol code sees the
// Config alone.
//
// A file is never half right: Load collects every mistake, each with its line
// and a hint, and returns no Config when one of them is an error.
//
// The package reads no file and asks no machine: the text comes as bytes, and
// what interface names stand for through a Resolver.
package conf
