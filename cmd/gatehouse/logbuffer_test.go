package main

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestLogEventsWaitForOthers(t *testing.T) {
	for _, format := range []string{"json", "text"} {
		synctest.Test(t, func(t *testing.T) {
			out := &buffer{}
			b := &logBuffer{w: out}
			logger, err := newLogger(b, format, "info")
			if err != nil {
				t.Fatal(err)
			}
			has := func(want string) {
				t.Helper()
				var got []string
				for line := range strings.Lines(out.String()) {
					for _, name := range []string{"one", "two", "three", "four", "five"} {
						if strings.Contains(line, name) {
							got = append(got, name)
						}
					}
				}
				if strings.Join(got, " ") != want {
					t.Errorf("%s: written is %q, want %q", format, got, want)
				}
			}
			logger.Info("one", "user_agent", "level=ERROR \"level\":\"ERROR\"")
			has("")
			time.Sleep(logDelay)
			synctest.Wait()
			has("one")
			logger.Info("two")
			logger.Warn("three")
			has("one two three") // in order, and at once
			logger.Info("four")
			b.flush()
			has("one two three four")
			logger.Info("five", "long", strings.Repeat("x", logSize))
			has("one two three four five")
			time.Sleep(2 * logDelay)
			synctest.Wait()
			has("one two three four five")
		})
	}
	if !urgent([]byte(`{"time":"2026-03-02T14:07:54.086Z","level":"ERROR","msg":"x"}`)) || urgent([]byte("")) {
		t.Error("urgent events are not told from others")
	}
}
