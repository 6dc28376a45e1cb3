//go:build tools

// Written by relock.py.
package tools

import (
	_ "github.com/rancher/local-path-provisioner"
)
