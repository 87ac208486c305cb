package bench

import (
	"math"
	"slices"
	"time"
)

// Result is what one round of one scenario came to.
type Result struct {
	Operations int           // that succeeded
	Errors     int           // answers of another status, and failures of the connection
	Took       time.Duration // the round
	P50, P99   time.Duration // of an operation
	CPU        time.Duration // of the server's process, user and system, in the round
	RSS        int64         // of the server's process after the round, bytes
}

// Rate is operations a second.
func (r Result) Rate() float64 {
	if r.Took <= 0 {
		return 0
	}
	return float64(r.Operations) / r.Took.Seconds()
}

// CPUPerOperation is the server's processor time for one operation.
func (r Result) CPUPerOperation() time.Duration {
	if r.Operations == 0 {
		return 0
	}
	return r.CPU / time.Duration(r.Operations)
}

// Comparison is one scenario at one number of connections, with one Result for
// each round of product and floor.
type Comparison struct {
	Scenario       string
	Connections    int
	Threshold      float64 // least Ratio; 0: none is demanded
	Product, Floor []Result
}

// Ratio is the median over the rounds of the product's rate as a part of the
// floor's. A round whose floor did nothing counts as nothing.
func (c Comparison) Ratio() float64 {
	ratios := make([]float64, 0, len(c.Product))
	for i := range min(len(c.Product), len(c.Floor)) {
		ratio := 0.0
		if floor := c.Floor[i].Rate(); floor > 0 {
			ratio = c.Product[i].Rate() / floor
		}
		ratios = append(ratios, ratio)
	}
	return Median(ratios)
}

// Errors are those of all rounds, product and floor.
func (c Comparison) Errors() int {
	n := 0
	for _, r := range slices.Concat(c.Product, c.Floor) {
		n += r.Errors
	}
	return n
}

// Passes tells whether what is demanded was reached: the threshold, and no
// error at all. NaN reaches nothing.
func (c Comparison) Passes() bool {
	return c.Errors() == 0 && len(c.Product) > 0 && (c.Threshold == 0 || c.Ratio() >= c.Threshold)
}

// MedianOf is the median of a figure of several rounds.
func MedianOf(rounds []Result, figure func(Result) float64) float64 {
	values := make([]float64, len(rounds))
	for i, r := range rounds {
		values[i] = figure(r)
	}
	return Median(values)
}

// Median is the middle value, or the mean of the two in the middle; NaN of none.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	half := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[half]
	}
	return (sorted[half-1] + sorted[half]) / 2
}

// Percentile is the smallest value that at least p percent of the values don't
// exceed (nearest rank); 0 of none. It sorts the values.
func Percentile(values []time.Duration, p float64) time.Duration {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	rank := int(math.Ceil(p / 100 * float64(len(values))))
	return values[min(max(rank, 1), len(values))-1]
}
