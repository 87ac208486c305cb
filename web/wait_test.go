package web

import (
	"testing"
	"time"
)

func TestWaitInWords(t *testing.T) {
	for d, want := range map[time.Duration][2]string{
		time.Millisecond:                {"one second", "einer Sekunde"},
		time.Second:                     {"one second", "einer Sekunde"},
		30 * time.Second:                {"30 seconds", "30 Sekunden"},
		59*time.Second + 1:              {"one minute", "einer Minute"},
		time.Minute:                     {"one minute", "einer Minute"},
		61 * time.Second:                {"2 minutes", "2 Minuten"},
		15 * time.Minute:                {"15 minutes", "15 Minuten"},
		59*time.Minute + 30*time.Second: {"one hour", "einer Stunde"},
		time.Hour:                       {"one hour", "einer Stunde"},
		90 * time.Minute:                {"2 hours", "2 Stunden"},
		24 * time.Hour:                  {"24 hours", "24 Stunden"},
	} {
		for column := range want {
			if got, err := (view{texts: texts{column: column}}).Wait(d); err != nil || got != want[column] {
				t.Errorf("%v is %q, %v; want %q", d, got, err, want[column])
			}
		}
	}
}
