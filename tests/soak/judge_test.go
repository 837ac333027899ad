// SPDX-License-Identifier: Apache-2.0

package soak

import (
	"fmt"
	"slices"
	"testing"
)

// how a figure is judged.
type how int

const (
	counts how = iota // must be at the end as it was when nothing was going on
	weighs            // must not grow from round to round
	roomy             // must not grow by more than caches, threads and the like may
	shared            // is of the whole machine, where others may be at work
)

// field is a figure, in the order in which they are printed.
type field struct {
	name string
	how  how
	// most is how much weighs may grow with each thing that a caller does, and roomy
	// and shared altogether.
	most  float64
	noise float64 // of one round, however short
}

// What one thing that a caller does may leave on the average: nothing, but a garbage
// collector's figures are never quite the same. The smallest thing to forget is an
// entry of a map, with a string: more than 64 bytes and one object.
const (
	bytesEach   = 48
	objectsEach = 0.5
)

// What a garbage collector's figures differ by without a cause, from round to round.
const (
	bytesNoise   = 32 << 10
	objectsNoise = 200
)

const mebi = 1 << 20

var fields = []field{
	{theBroker + " RSS", roomy, 16 * mebi, 0}, {theBroker + " PSS", roomy, 16 * mebi, 0},
	{theBroker + " heap", weighs, bytesEach, bytesNoise}, {theBroker + " objects", weighs, objectsEach, objectsNoise},
	{theBroker + " goroutines", counts, 0, 0}, {theBroker + " threads", roomy, 16, 0}, {theBroker + " descriptors", counts, 0, 0},
	{theBroker + " match rules", counts, 0, 0},

	{thePool + " RSS", roomy, 16 * mebi, 0}, {thePool + " PSS", roomy, 16 * mebi, 0},
	{thePool + " heap", weighs, bytesEach, bytesNoise}, {thePool + " objects", weighs, objectsEach, objectsNoise},
	{thePool + " goroutines", counts, 0, 0}, {thePool + " threads", roomy, 16, 0}, {thePool + " descriptors", counts, 0, 0},

	{theBus + " RSS", roomy, 16 * mebi, 0}, {theBus + " descriptors", counts, 0, 0}, {theBus + " connections", counts, 0, 0},
	{theBus + " incomplete connections", counts, 0, 0}, {theBus + " names", counts, 0, 0}, {theBus + " match rules", counts, 0, 0},

	{us + " heap", weighs, bytesEach, bytesNoise}, {us + " objects", weighs, objectsEach, objectsNoise},
	{us + " goroutines", counts, 0, 0}, {us + " descriptors", counts, 0, 0},

	{"workers", counts, 0, 0}, {"workers at the broker", counts, 0, 0}, {"zombies", counts, 0, 0}, {"request files", counts, 0, 0}, {"unix sockets", counts, 0, 0},
	{"kernel keys", shared, 100, 0},
}

// growth says what has grown over rounds that were all the same, in each of which so
// many things were done. The first round is where the comparison begins.
func growth(rounds []usage, each int) (wrong []string) {
	for _, f := range fields {
		var values []float64
		for _, u := range rounds {
			values = append(values, float64(u.of[f.name]))
		}
		switch first, last := values[0], values[len(values)-1]; f.how {
		case weighs:
			if got := slope(values); got > f.most*float64(each)+f.noise {
				wrong = append(wrong, fmt.Sprintf("%s grows by %.1f with each thing that a caller does: %.0f", f.name, got/float64(each), values))
			}
		case roomy, shared:
			if last-first > f.most {
				wrong = append(wrong, fmt.Sprintf("%s grows from %.0f to %.0f: %.0f", f.name, first, last, values))
			}
		}
	}
	return wrong
}

// slope is how much values grow from one to the next: the lesser of what neighbours say,
// and all pairs (Theil and Sen), of each the median. So neither one round that is out of
// line nor a step, as a map makes that finds more room, is growth.
func slope(values []float64) float64 {
	var neighbours, pairs []float64
	for i := range values {
		for j := i + 1; j < len(values); j++ {
			pairs = append(pairs, (values[j]-values[i])/float64(j-i))
		}
		if i > 0 {
			neighbours = append(neighbours, values[i]-values[i-1])
		}
	}
	return min(median(neighbours), median(pairs))
}

// median is, of an even number, the one below the middle.
func median(values []float64) float64 {
	slices.Sort(values)
	return values[(len(values)-1)/2]
}

func TestWhatIsGrowth(t *testing.T) {
	round := func(name string, value int64) usage { return usage{of: map[string]int64{name: value}} }
	heap, threads := theBroker+" heap", theBroker+" threads"
	for _, test := range []struct {
		name, field string
		values      []int64
		wrong       int
	}{
		{"what stays", heap, []int64{2e6, 2e6, 2e6, 2e6, 2e6}, 0},
		{"what goes up and down", heap, []int64{2.00e6, 2.05e6, 1.99e6, 2.06e6, 2.01e6}, 0},
		{"what shrinks", heap, []int64{3e6, 2.8e6, 2.6e6, 2.4e6, 2.2e6}, 0},
		{"a step, which is no growth", heap, []int64{2e6, 2e6, 2.2e6, 2.2e6, 2.2e6}, 0},
		{"100 bytes with each of 1000 things", heap, []int64{2e6, 2.1e6, 2.2e6, 2.3e6, 2.4e6}, 1},
		{"the same, with one round out of line", heap, []int64{2e6, 2.1e6, 1.9e6, 2.3e6, 2.4e6}, 1},
		{"some threads more", threads, []int64{9, 11, 12, 12, 14}, 0},
		{"a thread with each round, and more", threads, []int64{9, 15, 21, 27, 33}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			var rounds []usage
			for _, value := range test.values {
				rounds = append(rounds, round(test.field, value))
			}
			if wrong := growth(rounds, 1000); len(wrong) != test.wrong {
				t.Errorf("it says %q", wrong)
			}
		})
	}
	idle, now := round("zombies", 0), round("zombies", 1)
	if left := now.left(idle); len(left) != 1 || len(idle.left(idle)) != 0 {
		t.Errorf("a zombie more is %q", left)
	}
}
