// Package ext has what Traefik's own build has in the module of this name: nothing.
package ext

// HTTP would be further keys of the HTTP part of a dynamic configuration.
type HTTP struct{}

// Router would be further keys of a router.
type Router struct{}
