package main

import (
	"fmt"
	"runtime/debug"
)

// version says which ipsecd this is, as far as the build knows.
func version() string {
	i, ok := debug.ReadBuildInfo()
	if !ok {
		return "ipsecd of Oakley"
	}
	text := fmt.Sprintf("ipsecd of Oakley %s, %s", i.Main.Version, i.GoVersion)
	for _, s := range i.Settings {
		if s.Key == "vcs.revision" {
			text += ", revision " + s.Value
		}
	}
	return text
}
