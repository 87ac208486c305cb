package storage

import (
	"context"
	"fmt"
	"os"
	"time"
)

// lockFile waits for an exclusive lock between processes that need the same
// SQLite database for themselves. The file stays; the lock goes with unlock, or
// with the process.
func lockFile(ctx context.Context, path string) (unlock func() error, err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	// Waiting in the kernel could not be given up with ctx.
	retry := time.NewTicker(20 * time.Millisecond)
	defer retry.Stop()
	for {
		locked, err := tryLock(file)
		if err != nil {
			file.Close()
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		if locked {
			return file.Close, nil
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			file.Close()
			return nil, fmt.Errorf("waiting for %s: %w", path, ctx.Err())
		}
	}
}
