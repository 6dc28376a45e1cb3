//go:build tools

// Written by relock.py.
package tools

import (
	_ "github.com/traefik/traefik/v3/cmd/traefik"
)
