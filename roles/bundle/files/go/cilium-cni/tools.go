//go:build tools

// Written by relock.py.
package tools

import (
	_ "github.com/cilium/cilium/plugins/cilium-cni"
)
