package main

import (
	"bytes"
	"io"
	"sync"
	"time"
)

const (
	// logDelay is how long a log event waits for others at most.
	logDelay = 100 * time.Millisecond
	// logSize is how much waits at most, in bytes.
	logSize = 64 << 10
)

// logBuffer writes log events, one a call, in batches: a system call for each
// would cost more than many a request. Events of WARN and above are written at
// once, with all before them; whoever ends the process calls flush. It is safe
// for concurrent use.
type logBuffer struct {
	w io.Writer

	mu      sync.Mutex
	waiting bytes.Buffer
	timer   *time.Timer // nil: nothing waits
}

// Write takes one event. It never fails: nobody could be told.
func (b *logBuffer) Write(event []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting.Write(event)
	switch {
	case b.waiting.Len() >= logSize || urgent(event):
		b.send()
	case b.timer == nil:
		b.timer = time.AfterFunc(logDelay, b.flush)
	}
	return len(event), nil
}

// urgent tells whether an event, in either form, is of WARN or above.
func urgent(event []byte) bool {
	// The level stands behind the time, before anything that a stranger chose.
	head := event[:min(len(event), 80)]
	for _, level := range []string{`"level":"WARN`, `"level":"ERROR`, ` level=WARN`, ` level=ERROR`} {
		if bytes.Contains(head, []byte(level)) {
			return true
		}
	}
	return false
}

// flush writes what waits.
func (b *logBuffer) flush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.send()
}

func (b *logBuffer) send() {
	if b.timer != nil {
		b.timer.Stop()
		b.timer = nil
	}
	if b.waiting.Len() > 0 {
		_, _ = b.w.Write(b.waiting.Bytes())
		b.waiting.Reset()
	}
}
