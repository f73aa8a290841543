package main

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/lib/pq"
)

// lib/pq asks for TLS by default, which neither end of the matrix offers.
func pqURL() string { return url + "?sslmode=disable" }

func openPq(connections int, extra string) *sql.DB {
	db, err := sql.Open("postgres", pqURL()+extra)
	must(err)
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db
}

type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func sqlOne[T any](q querier, text string, args ...any) (value T) {
	must(q.QueryRowContext(ctx, text, args...).Scan(&value))
	return value
}

type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

func sqlDo(e execer, text string, args ...any) {
	_, err := e.ExecContext(ctx, text, args...)
	must(err)
}

func sqlFails(e execer, text string, args ...any) error {
	_, err := e.ExecContext(ctx, text, args...)
	return err
}

func pqChecks() {
	db := openPq(5, "")
	defer db.Close()
	conn := func() *sql.Conn {
		c, err := openPq(1, "").Conn(ctx)
		must(err)
		return c
	}
	end := func(c *sql.Conn) { // really closes it: the pool of one is dropped with it
		_ = c.Raw(func(driver any) error { return driver.(interface{ Close() error }).Close() })
		_ = c.Close()
	}
	run("lib/pq", "github.com/lib/pq", []check{
		{"query", func() string {
			for n := 0; n < 20; n++ {
				same(sqlOne[int](db, "SELECT 1 + 1"), 2)
				same(sqlOne[int](db, "SELECT $1::int * 2", n), 2*n)
			}
			rows, err := db.Query("SELECT g FROM generate_series(1, 1000) g")
			must(err)
			count := 0
			for rows.Next() {
				count++
			}
			must(rows.Err())
			same(count, 1000)
			sqlDo(db, "SELECT 1; SELECT 2")
			return ""
		}},
		{"types", func() string {
			when := time.Date(2024, 2, 29, 12, 30, 15, 123456000, time.UTC)
			for n := 0; n < 3; n++ {
				same(sqlOne[int64](db, "SELECT $1::int8", int64(1)<<60), int64(1)<<60)
				same(sqlOne[float64](db, "SELECT $1::float8", 1.5), 1.5)
				same(sqlOne[bool](db, "SELECT $1::bool", true), true)
				same(sqlOne[string](db, "SELECT $1::numeric", "12345.6789"), "12345.6789")
				same(sqlOne[string](db, "SELECT $1::text", "snow ☃ 'q' \\"), "snow ☃ 'q' \\")
				same(sqlOne[[]byte](db, "SELECT $1::bytea", []byte{0, 1, 255}), []byte{0, 1, 255})
				same(sqlOne[time.Time](db, "SELECT $1::timestamptz", when).UTC(), when)
				same(sqlOne[string](db, "SELECT $1::jsonb", `{"a": 1}`), `{"a": 1}`)
				same(sqlOne[sql.NullString](db, "SELECT $1::text", nil).Valid, false)
				var list []int64
				must(db.QueryRow("SELECT $1::int8[]", pq.Array([]int64{1, 2, 3})).Scan(pq.Array(&list)))
				same(list, []int64{1, 2, 3})
			}
			return ""
		}},
		{"transaction", func() string {
			sqlDo(db, "CREATE TABLE tx (n int)")
			for n := 0; n < 10; n++ {
				tx, err := db.Begin()
				must(err)
				sqlDo(tx, "INSERT INTO tx VALUES ($1)", n)
				if n%2 == 1 {
					must(tx.Commit())
				} else {
					must(tx.Rollback())
				}
			}
			same(sqlOne[int](db, "SELECT sum(n) FROM tx"), 25)
			tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable, ReadOnly: true})
			must(err)
			raises("25006", sqlFails(tx, "INSERT INTO tx VALUES (1)"))
			must(tx.Rollback())
			return ""
		}},
		{"savepoint", func() string {
			sqlDo(db, "CREATE TABLE sp (n int PRIMARY KEY)")
			tx, err := db.Begin()
			must(err)
			sqlDo(tx, "INSERT INTO sp VALUES ($1)", 1)
			sqlDo(tx, "SAVEPOINT one")
			raises("23505", sqlFails(tx, "INSERT INTO sp VALUES ($1)", 1))
			raises("25P02", sqlFails(tx, "SELECT 1"))
			sqlDo(tx, "ROLLBACK TO one")
			sqlDo(tx, "INSERT INTO sp VALUES ($1)", 2)
			must(tx.Commit())
			same(sqlOne[int](db, "SELECT count(*) FROM sp"), 2)
			return ""
		}},
		{"error", func() string {
			for n := 0; n < 8; n++ {
				raises("42601", sqlFails(db, "SELEC 1"))
				raises("22012", sqlFails(db, "SELECT 1 / $1::int", 0))
				raises("42P01", sqlFails(db, "SELECT * FROM no_such_table WHERE a = $1", 1))
				same(sqlOne[string](db, "SELECT $1::text", "still here"), "still here")
			}
			return ""
		}},
		{"prepared", func() string {
			one, err := db.Prepare("SELECT $1::int + 1000")
			must(err)
			two, err := db.Prepare("SELECT $1::text || 'x'")
			must(err)
			everyUser(func(i int) {
				for n := 0; n < 12; n++ {
					var sum int
					var text string
					must(one.QueryRow(n).Scan(&sum))
					must(two.QueryRow(fmt.Sprint(n)).Scan(&text))
					same(sum, n+1000)
					same(text, fmt.Sprintf("%dx", n))
					same(sqlOne[int](db, "SELECT $1::int + $2::int", n, i), n+i)
				}
			})
			must(one.Close())
			must(two.Close())
			return ""
		}},
		{"pipeline", func() string {
			binary := openPq(2, "&binary_parameters=yes")
			defer binary.Close()
			for n := 0; n < 20; n++ {
				same(sqlOne[string](binary, "SELECT $1::text", "one round trip"), "one round trip")
				raises("22012", sqlFails(binary, "SELECT 1 / $1::int", "0"))
			}
			return "binary_parameters=yes: Parse, Bind and Execute in one go"
		}},
		{"copy", func() string {
			sqlDo(db, "CREATE TABLE cp (n int, t text)")
			tx, err := db.Begin()
			must(err)
			stmt, err := tx.Prepare(pq.CopyIn("cp", "n", "t"))
			must(err)
			for n := 0; n < 20000; n++ {
				_, err = stmt.Exec(n, fmt.Sprint("row ", n))
				must(err)
			}
			_, err = stmt.Exec()
			must(err)
			must(stmt.Close())
			must(tx.Commit())
			same(sqlOne[int](db, "SELECT count(*) FROM cp"), 20000)
			tx, err = db.Begin()
			must(err)
			stmt, err = tx.Prepare(pq.CopyIn("cp", "n", "t"))
			must(err)
			_, _ = stmt.Exec("x", "y")
			_, err = stmt.Exec()
			raises("22P02", err)
			_ = stmt.Close()
			must(tx.Rollback())
			same(sqlOne[int](db, "SELECT count(*) FROM cp"), 20000)
			return "in only: lib/pq has no COPY TO"
		}},
		{"large", func() string {
			text := strings.Repeat("0123456789abcdef", 65536*5)
			same(sqlOne[string](db, "SELECT $1::text", text) == text, true)
			rows, err := db.Query("SELECT repeat('x', 1000) FROM generate_series(1, 20000)")
			must(err)
			sum := 0
			for rows.Next() {
				var x string
				must(rows.Scan(&x))
				sum += len(x)
			}
			must(rows.Err())
			same(sum, 20_000_000)
			return ""
		}},
		{"cursor", func() string {
			for n := 0; n < 3; n++ {
				tx, err := db.Begin()
				must(err)
				sqlDo(tx, "DECLARE walk CURSOR FOR SELECT g FROM generate_series(1, 1000) g")
				sum, more := 0, true
				for more {
					more = false
					rows, err := tx.Query("FETCH 100 FROM walk")
					must(err)
					for rows.Next() {
						var g int
						must(rows.Scan(&g))
						sum, more = sum+g, true
					}
					must(rows.Err())
				}
				must(tx.Commit())
				same(sum, 500500)
			}
			return "DECLARE and FETCH by SQL"
		}},
		{"cancel", func() string {
			for n := 0; n < 3; n++ {
				short, stop := context.WithTimeout(ctx, 300*time.Millisecond)
				_, err := db.ExecContext(short, "SELECT pg_sleep(20)")
				stop()
				same(err != nil, true)
				same(sqlOne[int](db, "SELECT 1"), 1)
			}
			return ""
		}},
		{"reconnect", func() string {
			for n := 0; n < 25; n++ {
				mine := openPq(1, "")
				same(sqlOne[int](mine, "SELECT $1::int", n), n)
				must(mine.Close())
			}
			return ""
		}},
		{"schema_change", func() string {
			c := conn()
			defer end(c)
			sqlDo(db, "CREATE TABLE shape (a int)")
			sqlDo(db, "INSERT INTO shape VALUES (1)")
			stmt, err := c.PrepareContext(ctx, "SELECT * FROM shape WHERE a = $1")
			must(err)
			errs := 0
			for _, change := range []string{"", "ADD COLUMN b int DEFAULT 7", "DROP COLUMN b"} {
				if change != "" {
					sqlDo(db, "ALTER TABLE shape "+change)
				}
				for n := 0; n < 4; n++ {
					rows, err := c.QueryContext(ctx, "SELECT * FROM shape WHERE a = $1", 1)
					must(err)
					columns, err := rows.Columns()
					must(err)
					same(rows.Next(), true)
					must(rows.Close())
					same(len(columns), map[bool]int{true: 2, false: 1}[strings.HasPrefix(change, "ADD")])
					rows, err = stmt.Query(1)
					if err == nil {
						for rows.Next() {
						}
						err = rows.Err()
						_ = rows.Close()
					}
					if err != nil {
						raises("0A000", err) // lib/pq does not prepare again by itself
						errs++
					}
				}
			}
			if errs > 0 {
				return fmt.Sprintf("%d times 0A000 reached the application, from sql.Stmt", errs)
			}
			return ""
		}},
		{"session_set", func() string {
			named := openPq(1, "&search_path=pg_catalog&application_name=named")
			defer named.Close()
			a, b := conn(), conn()
			defer end(a)
			defer end(b)
			sqlDo(a, "SET TIME ZONE 'Asia/Tokyo'")
			sqlDo(b, "SET TIME ZONE 'America/Lima'")
			_ = sqlOne[string](b, "SELECT set_config('app.tenant', $1, false)", "b")
			for n := 0; n < 4; n++ {
				same(sqlOne[string](a, "SHOW timezone"), "Asia/Tokyo")
				same(sqlOne[string](b, "SHOW timezone"), "America/Lima")
				same(sqlOne[string](b, "SELECT current_setting('app.tenant')"), "b")
				same(sqlOne[string](named, "SHOW search_path"), "pg_catalog")
				same(sqlOne[string](named, "SHOW application_name"), "named")
			}
			return ""
		}},
		{"temp_table", func() string {
			a, b := conn(), conn()
			defer end(a)
			defer end(b)
			sqlDo(a, "CREATE TEMP TABLE mine (n int)")
			for n := 0; n < 5; n++ {
				sqlDo(a, "INSERT INTO mine VALUES ($1)", n)
				raises("42P01", sqlFails(b, "SELECT * FROM mine"))
			}
			same(sqlOne[int](a, "SELECT count(*) FROM mine"), 5)
			return ""
		}},
		{"advisory_lock", func() string {
			a, b := conn(), conn()
			defer end(b)
			sqlDo(a, "SELECT pg_advisory_lock($1)", 42)
			for n := 0; n < 5; n++ {
				same(sqlOne[bool](b, "SELECT pg_try_advisory_lock($1)", 42), false)
				same(sqlOne[int](a, "SELECT 1"), 1)
			}
			end(a)
			eventually("the lock outlived its owner", func() bool {
				return sqlOne[bool](b, "SELECT pg_try_advisory_lock($1)", 42)
			})
			return ""
		}},
		{"listen_notify", func() string {
			listener := pq.NewListener(pqURL(), time.Second, time.Minute, nil)
			defer listener.Close()
			must(listener.Listen("news"))
			for n := 0; n < 3; n++ {
				sqlDo(db, "SELECT pg_notify('news', $1)", fmt.Sprint(n))
				select {
				case note := <-listener.Notify:
					same(note.Extra, n)
				case <-time.After(5 * time.Second):
					panic("no notification within 5 s")
				}
			}
			must(listener.UnlistenAll())
			return ""
		}},
		{"concurrent", func() string {
			sqlDo(db, "CREATE TABLE conc (u int, r int)")
			everyUser(func(i int) {
				mine := conn()
				defer end(mine)
				sqlDo(mine, fmt.Sprintf("SET app.who = 'user-%d'", i))
				for r := 0; r < rounds; r++ {
					same(sqlOne[string](mine, "SELECT current_setting('app.who')"), fmt.Sprintf("user-%d", i))
					same(sqlOne[int](mine, "SELECT $1::int + 1", r), r+1)
					tx, err := mine.BeginTx(ctx, nil)
					must(err)
					sqlDo(tx, "INSERT INTO conc VALUES ($1, $2)", i, r)
					if kept(r) {
						must(tx.Commit())
					} else {
						must(tx.Rollback())
					}
					if r%4 == 0 {
						raises("22012", sqlFails(mine, "SELECT 1 / $1::int", 0))
					}
					same(sqlOne[int](db, "SELECT count(*) FROM conc WHERE u = $1", i), keptUpTo(r))
				}
			})
			same(sqlOne[int](db, "SELECT count(*) FROM conc"), users*keptUpTo(rounds-1))
			return ""
		}},
	})
}
