// Command relyingparty is an application whose users sign in with an OpenID
// Provider and see their sessions. All of it is in the package relyingparty.
package main

import (
	"context"
	"os"

	"gatehouse.dev/gatehouse/relyingparty"
)

func main() {
	os.Exit(relyingparty.Run(context.Background(), os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}
