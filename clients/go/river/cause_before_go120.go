//go:build !go1.20

package river

import "context"

// causeOf: before Go 1.20, with which no River works, a context had no cause but this.
func causeOf(ctx context.Context) error { return ctx.Err() }
