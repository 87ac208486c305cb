package configs

import (
	_ "embed"
	"slices"
)

//go:embed demo.yaml
var demo []byte

//go:embed gatehouse.yaml
var sample []byte

// Demo is demo.yaml, the configuration that the demo serves. It has no
// key-encryption key, so it parses with Source.AllowNoKey only.
func Demo() []byte { return slices.Clone(demo) }

// Sample is gatehouse.yaml, the configuration with every key explained. It
// refers to the environment variable GATEHOUSE_KEY.
func Sample() []byte { return slices.Clone(sample) }
