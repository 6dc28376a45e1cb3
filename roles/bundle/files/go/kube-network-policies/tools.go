//go:build tools

// Written by relock.py.
package tools

import (
	_ "sigs.k8s.io/kube-network-policies/cmd"
)
