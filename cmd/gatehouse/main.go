// Command gatehouse is the server and its tools. What it does is in root.go,
// how it is put together in handler.go.
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], streams{in: os.Stdin, out: os.Stdout, err: os.Stderr}))
}
