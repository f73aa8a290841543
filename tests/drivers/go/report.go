// Command checks runs the same named checks with pgx (in an exec mode), lib/pq or GORM, and prints
// one JSON object a line. A check returns its detail and an error; absent says that the driver has
// no such thing.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"
)

const (
	users  = 8
	rounds = 12
)

var url = os.Getenv("DATABASE_URL")

type absent string

func (a absent) Error() string { return string(a) }

type check struct {
	name string
	body func() string
}

// must and same end a check by a panic, which run turns into its row.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func same(got, want any) {
	if fmt.Sprint(got) != fmt.Sprint(want) {
		panic(fmt.Errorf("got %.150v, want %.150v", got, want))
	}
}

type stater interface{ SQLState() string }

func raises(state string, err error) {
	var known stater
	if err == nil {
		panic(fmt.Errorf("no error where %s was due", state))
	}
	if !errors.As(err, &known) {
		panic(err)
	}
	same(known.SQLState(), state)
}

// kept: every third round of a user is rolled back.
func kept(r int) bool { return r%3 != 2 }

func keptUpTo(r int) (n int) {
	for i := 0; i <= r; i++ {
		if kept(i) {
			n++
		}
	}
	return n
}

func everyUser(body func(i int)) {
	var wait sync.WaitGroup
	failures := make(chan any, users)
	for i := 0; i < users; i++ {
		wait.Add(1)
		go func() {
			defer wait.Done()
			defer func() {
				if failure := recover(); failure != nil {
					failures <- failure
				}
			}()
			body(i)
		}()
	}
	wait.Wait()
	close(failures)
	for failure := range failures {
		panic(failure)
	}
}

func eventually(what string, done func() bool) {
	for i := 0; i < 100; i++ {
		if done() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	panic(errors.New(what))
}

func version(module string) string {
	info, _ := debug.ReadBuildInfo()
	for _, dep := range info.Deps {
		if dep.Path == module {
			return strings.TrimPrefix(dep.Version, "v")
		}
	}
	return ""
}

func run(driver, module string, checks []check) {
	picked := os.Getenv("CHECKS")
	for _, c := range checks {
		if picked != "" && !strings.Contains(","+picked+",", ","+c.name+",") {
			continue
		}
		row := map[string]any{"driver": driver, "version": version(module), "check": c.name}
		func() {
			defer func() {
				failure := recover()
				if failure == nil {
					return
				}
				row["ok"] = false
				if _, is := failure.(absent); is {
					row["ok"] = nil
				}
				text := strings.Join(strings.Fields(fmt.Sprint(failure)), " ")
				row["detail"] = text[:min(len(text), 300)]
			}()
			row["detail"] = c.body()
			row["ok"] = true
		}()
		line, _ := json.Marshal(row)
		fmt.Println(string(line))
	}
}

func main() {
	switch os.Args[1] {
	case "pgx":
		pgxChecks(os.Args[2])
	case "pq":
		pqChecks()
	case "gorm":
		gormChecks()
	}
}
