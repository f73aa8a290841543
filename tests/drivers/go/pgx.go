package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

var ctx = context.Background()

func pgxChecks(mode string) {
	modes := map[string]pgx.QueryExecMode{
		"cache_statement": pgx.QueryExecModeCacheStatement,
		"cache_describe":  pgx.QueryExecModeCacheDescribe,
		"describe_exec":   pgx.QueryExecModeDescribeExec,
		"exec":            pgx.QueryExecModeExec,
		"simple_protocol": pgx.QueryExecModeSimpleProtocol,
	}
	exec, known := modes[mode]
	if !known {
		panic("no such exec mode: " + mode)
	}
	config := func() *pgx.ConnConfig {
		c, err := pgx.ParseConfig(url)
		must(err)
		c.DefaultQueryExecMode = exec
		return c
	}
	connect := func() *pgx.Conn {
		c, err := pgx.ConnectConfig(ctx, config())
		must(err)
		return c
	}
	do := func(c *pgx.Conn, sql string, args ...any) {
		_, err := c.Exec(ctx, sql, args...)
		must(err)
	}
	fails := func(c *pgx.Conn, sql string, args ...any) error {
		rows, err := c.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		for rows.Next() {
		}
		rows.Close()
		return rows.Err()
	}

	run("pgx, "+mode, "github.com/jackc/pgx/v5", []check{
		{"query", func() string {
			c := connect()
			defer c.Close(ctx)
			for n := 0; n < 20; n++ {
				same(pgxOne[int](c, "SELECT 1 + 1"), 2)
				same(pgxOne[int](c, "SELECT $1::int * 2", n), 2*n)
			}
			rows, err := c.Query(ctx, "SELECT g FROM generate_series(1, 1000) g")
			must(err)
			all, err := pgx.CollectRows(rows, pgx.RowTo[int])
			must(err)
			same(len(all), 1000)
			return ""
		}},
		{"types", func() string {
			c := connect()
			defer c.Close(ctx)
			when := time.Date(2024, 2, 29, 12, 30, 15, 123456000, time.UTC)
			uuid := "00000000-0000-0000-0000-000000000005"
			for n := 0; n < 3; n++ {
				same(pgxOne[int16](c, "SELECT $1::int2", int16(7)), 7)
				same(pgxOne[int32](c, "SELECT $1::int4", int32(-70000)), -70000)
				same(pgxOne[int64](c, "SELECT $1::int8", int64(1)<<60), int64(1)<<60)
				same(pgxOne[float64](c, "SELECT $1::float8", 1.5), 1.5)
				same(pgxOne[bool](c, "SELECT $1::bool", true), true)
				same(pgxOne[string](c, "SELECT $1::numeric::text", "12345.6789"), "12345.6789")
				same(pgxOne[string](c, "SELECT $1::text", "snow ☃ 'q' \\"), "snow ☃ 'q' \\")
				same(pgxOne[[]byte](c, "SELECT $1::bytea", []byte{0, 1, 255}), []byte{0, 1, 255})
				same(pgxOne[time.Time](c, "SELECT $1::timestamptz", when).UTC(), when)
				same(pgxOne[[]int32](c, "SELECT $1::int4[]", []int32{1, 2, 3}), []int32{1, 2, 3})
				same(pgxOne[[]string](c, "SELECT $1::text[]", []string{"a", "b,c"}), []string{"a", "b,c"})
				same(pgxOne[map[string]any](c, "SELECT $1::jsonb", `{"a": 1}`), map[string]any{"a": 1.0})
				same(pgxOne[[16]byte](c, "SELECT $1::uuid", uuid), [16]byte{15: 5})
				same(pgxOne[*string](c, "SELECT $1::text", nil) == nil, true)
			}
			return ""
		}},
		{"transaction", func() string {
			c := connect()
			do(c, "CREATE TABLE tx (n int)")
			for n := 0; n < 10; n++ {
				tx, err := c.Begin(ctx)
				must(err)
				_, err = tx.Exec(ctx, "INSERT INTO tx VALUES ($1)", n)
				must(err)
				if n%2 == 1 {
					must(tx.Commit(ctx))
				} else {
					must(tx.Rollback(ctx))
				}
			}
			same(pgxOne[int](c, "SELECT sum(n)::int FROM tx"), 25)
			tx, err := c.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.Serializable})
			must(err)
			_, err = tx.Exec(ctx, "INSERT INTO tx VALUES (1000)")
			must(err)
			must(c.Close(ctx)) // inside the transaction
			c = connect()
			same(pgxOne[int](c, "SELECT sum(n)::int FROM tx"), 25)
			must(c.Close(ctx))
			return ""
		}},
		{"savepoint", func() string {
			c := connect()
			defer c.Close(ctx)
			do(c, "CREATE TABLE sp (n int PRIMARY KEY)")
			tx, err := c.Begin(ctx)
			must(err)
			_, err = tx.Exec(ctx, "INSERT INTO sp VALUES ($1)", 1)
			must(err)
			for n := 0; n < 3; n++ {
				inner, err := tx.Begin(ctx)
				must(err)
				_, err = inner.Exec(ctx, "INSERT INTO sp VALUES ($1)", 1)
				raises("23505", err)
				must(inner.Rollback(ctx))
			}
			_, err = tx.Exec(ctx, "INSERT INTO sp VALUES ($1)", 2)
			must(err)
			must(tx.Commit(ctx))
			same(pgxOne[int](c, "SELECT count(*)::int FROM sp"), 2)
			return ""
		}},
		{"error", func() string {
			c := connect()
			defer c.Close(ctx)
			for n := 0; n < 8; n++ {
				raises("42601", fails(c, "SELEC 1"))
				raises("22012", fails(c, "SELECT 1 / $1::int", 0))
				raises("42P01", fails(c, "SELECT * FROM no_such_table"))
				same(pgxOne[string](c, "SELECT $1::text", "still here"), "still here")
			}
			return ""
		}},
		{"prepared", func() string {
			a, b := connect(), connect()
			defer a.Close(ctx)
			defer b.Close(ctx)
			_, err := a.Prepare(ctx, "q", "SELECT $1::int + 1000")
			must(err)
			_, err = b.Prepare(ctx, "q", "SELECT $1::text || 'x'") // the same name, another text
			must(err)
			for n := 0; n < 12; n++ {
				same(pgxOne[int](a, "q", n), n+1000)
				same(pgxOne[string](b, "q", fmt.Sprint(n)), fmt.Sprintf("%dx", n))
			}
			must(a.Deallocate(ctx, "q"))
			_, err = a.Prepare(ctx, "q", "SELECT $1::int + 2000")
			must(err)
			same(pgxOne[int](a, "q", 1), 2001)
			for again := 0; again < 2; again++ { // past the 512 that its cache keeps
				for n := 0; n < 600; n++ {
					same(pgxOne[int](a, fmt.Sprintf("SELECT $1::int + %d", n), 1), n+1)
				}
			}
			must(a.DeallocateAll(ctx))
			same(pgxOne[int](a, "SELECT $1::int + 5", 1), 6)
			return ""
		}},
		{"pipeline", func() string {
			c := connect()
			defer c.Close(ctx)
			do(c, "CREATE TABLE pl (n int PRIMARY KEY)")
			for round := 0; round < 3; round++ {
				batch := &pgx.Batch{}
				for n := 0; n < 100; n++ {
					batch.Queue("INSERT INTO pl VALUES ($1)", round*100+n)
					batch.Queue("SELECT $1::int + 1", n)
				}
				results := c.SendBatch(ctx, batch)
				for n := 0; n < 100; n++ {
					_, err := results.Exec()
					must(err)
					var got int
					must(results.QueryRow().Scan(&got))
					same(got, n+1)
				}
				must(results.Close())
				broken := &pgx.Batch{}
				broken.Queue("INSERT INTO pl VALUES ($1)", 5000)
				broken.Queue("INSERT INTO pl VALUES ($1)", 1)
				broken.Queue("SELECT $1::int + 2", 1)
				raises("23505", c.SendBatch(ctx, broken).Close())
				same(pgxOne[int](c, "SELECT count(*)::int FROM pl"), 100*(round+1))
			}
			return ""
		}},
		{"copy", func() string {
			c := connect()
			defer c.Close(ctx)
			do(c, "CREATE TABLE cp (n int4, t text)")
			n, err := c.CopyFrom(ctx, pgx.Identifier{"cp"}, []string{"n", "t"},
				pgx.CopyFromSlice(20000, func(i int) ([]any, error) {
					return []any{int32(i), fmt.Sprint("row ", i)}, nil
				}))
			must(err)
			same(n, 20000)
			var out strings.Builder
			_, err = c.PgConn().CopyTo(ctx, &out, "COPY (SELECT * FROM cp ORDER BY n) TO STDOUT")
			must(err)
			same(strings.Count(out.String(), "\n"), 20000)
			_, err = c.PgConn().CopyFrom(ctx, strings.NewReader("x\ty\n"), "COPY cp FROM STDIN")
			raises("22P02", err)
			same(pgxOne[int](c, "SELECT count(*)::int FROM cp"), 20000)
			return ""
		}},
		{"large", func() string {
			c := connect()
			defer c.Close(ctx)
			text := strings.Repeat("0123456789abcdef", 65536*5)
			same(pgxOne[string](c, "SELECT $1::text", text) == text, true)
			rows, err := c.Query(ctx, "SELECT repeat('x', 1000) FROM generate_series(1, 20000)")
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
			c := connect()
			defer c.Close(ctx)
			for n := 0; n < 3; n++ {
				tx, err := c.Begin(ctx)
				must(err)
				_, err = tx.Exec(ctx, "DECLARE walk CURSOR FOR SELECT g FROM generate_series(1, 1000) g")
				must(err)
				sum := 0
				for {
					rows, err := tx.Query(ctx, "FETCH 100 FROM walk")
					must(err)
					all, err := pgx.CollectRows(rows, pgx.RowTo[int])
					must(err)
					if len(all) == 0 {
						break
					}
					for _, g := range all {
						sum += g
					}
				}
				must(tx.Commit(ctx))
				same(sum, 500500)
			}
			return "DECLARE and FETCH by SQL"
		}},
		{"cancel", func() string {
			c := connect()
			defer c.Close(ctx)
			for n := 0; n < 3; n++ {
				// PostgreSQL signals twice, itself and its group, and hangs up after that: the second
				// must not meet the next query.
				asked := make(chan struct{})
				time.AfterFunc(300*time.Millisecond, func() {
					defer close(asked)
					_ = c.PgConn().CancelRequest(ctx)
				})
				raises("57014", fails(c, "SELECT pg_sleep(20)"))
				<-asked
				same(pgxOne[int](c, "SELECT 1"), 1)
			}
			// A deadline makes pgx close the connection in the middle of a query.
			short, stop := context.WithTimeout(ctx, 300*time.Millisecond)
			defer stop()
			d := connect()
			_, err := d.Exec(short, "SELECT pg_sleep(20)")
			same(errors.Is(err, context.DeadlineExceeded), true)
			same(pgxOne[int](c, "SELECT 1"), 1)
			return ""
		}},
		{"reconnect", func() string {
			for n := 0; n < 25; n++ {
				c := connect()
				same(pgxOne[int](c, "SELECT $1::int", n), n)
				must(c.Close(ctx))
			}
			return ""
		}},
		{"schema_change", func() string {
			c, other := connect(), connect()
			defer c.Close(ctx)
			defer other.Close(ctx)
			do(other, "CREATE TABLE shape (a int)")
			do(other, "INSERT INTO shape VALUES (1)")
			errs := 0
			for _, step := range [][2]string{
				{"", "[1]"}, {"ADD COLUMN b text DEFAULT 'x'", "[1 x]"},
				{"ALTER b DROP DEFAULT, ALTER b TYPE int USING 7", "[1 7]"}, {"DROP COLUMN b", "[1]"}} {
				if step[0] != "" {
					do(other, "ALTER TABLE shape "+step[0])
				}
				failed := 0
				for n := 0; n < 6; n++ {
					rows, err := c.Query(ctx, "SELECT * FROM shape WHERE a = $1", 1)
					var values []any
					if err == nil {
						values, err = pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) ([]any, error) {
							return row.Values()
						})
					}
					if err != nil && step[0] != "" && failed < 2 {
						failed++ // pgx forgets the statement (or description) and prepares the next time
						continue
					}
					must(err)
					same(values, step[1])
				}
				errs += failed
			}
			if errs > 0 {
				return fmt.Sprintf("%d errors reached the application: pgx prepares again the next time", errs)
			}
			return ""
		}},
		{"session_set", func() string {
			withPath := config()
			withPath.RuntimeParams["search_path"] = "pg_catalog"
			withPath.RuntimeParams["application_name"] = "named"
			a, b := connect(), connect()
			defer a.Close(ctx)
			defer b.Close(ctx)
			named, err := pgx.ConnectConfig(ctx, withPath)
			must(err)
			defer named.Close(ctx)
			do(a, "SET TIME ZONE 'Asia/Tokyo'")
			do(b, "SET TIME ZONE 'America/Lima'")
			_ = pgxOne[string](b, "SELECT set_config('app.tenant', $1, false)", "b")
			for n := 0; n < 4; n++ {
				same(pgxOne[string](a, "SHOW timezone"), "Asia/Tokyo")
				same(pgxOne[string](b, "SHOW timezone"), "America/Lima")
				same(pgxOne[string](b, "SELECT current_setting('app.tenant')"), "b")
				same(pgxOne[string](named, "SHOW search_path"), "pg_catalog")
				same(pgxOne[string](named, "SHOW application_name"), "named")
			}
			return ""
		}},
		{"temp_table", func() string {
			a, b := connect(), connect()
			defer a.Close(ctx)
			defer b.Close(ctx)
			do(a, "CREATE TEMP TABLE mine (n int)")
			for n := 0; n < 5; n++ {
				do(a, "INSERT INTO mine VALUES ($1)", n)
				raises("42P01", fails(b, "SELECT * FROM mine"))
			}
			same(pgxOne[int](a, "SELECT count(*)::int FROM mine"), 5)
			return ""
		}},
		{"advisory_lock", func() string {
			a, b := connect(), connect()
			defer b.Close(ctx)
			do(a, "SELECT pg_advisory_lock($1)", 42)
			for n := 0; n < 5; n++ {
				same(pgxOne[bool](b, "SELECT pg_try_advisory_lock($1)", 42), false)
				same(pgxOne[int](a, "SELECT 1"), 1)
			}
			must(a.Close(ctx))
			eventually("the lock outlived its owner", func() bool {
				return pgxOne[bool](b, "SELECT pg_try_advisory_lock($1)", 42)
			})
			return ""
		}},
		{"listen_notify", func() string {
			a, b := connect(), connect()
			defer a.Close(ctx)
			defer b.Close(ctx)
			do(a, "LISTEN news")
			for n := 0; n < 3; n++ {
				do(b, "SELECT pg_notify('news', $1)", fmt.Sprint(n))
				short, stop := context.WithTimeout(ctx, 5*time.Second)
				note, err := a.WaitForNotification(short)
				stop()
				must(err)
				same(note.Payload, n)
			}
			do(a, "UNLISTEN *")
			return ""
		}},
		{"concurrent", func() string {
			settings, err := pgxpool.ParseConfig(url)
			must(err)
			settings.ConnConfig.DefaultQueryExecMode = exec
			settings.MaxConns = 5
			pool, err := pgxpool.NewWithConfig(ctx, settings)
			must(err)
			defer pool.Close()
			_, err = pool.Exec(ctx, "CREATE TABLE conc (u int, r int)")
			must(err)
			everyUser(func(i int) {
				mine := connect()
				defer mine.Close(ctx)
				do(mine, fmt.Sprintf("SET app.who = 'user-%d'", i))
				for r := 0; r < rounds; r++ {
					same(pgxOne[string](mine, "SELECT current_setting('app.who')"), fmt.Sprintf("user-%d", i))
					same(pgxOne[int](mine, "SELECT $1::int + 1", r), r+1)
					tx, err := mine.Begin(ctx)
					must(err)
					_, err = tx.Exec(ctx, "INSERT INTO conc VALUES ($1, $2)", i, r)
					must(err)
					if kept(r) {
						must(tx.Commit(ctx))
					} else {
						must(tx.Rollback(ctx))
					}
					if r%4 == 0 {
						raises("22012", fails(mine, "SELECT 1 / $1::int", 0))
					}
					var n int
					must(pool.QueryRow(ctx, "SELECT count(*)::int FROM conc WHERE u = $1", i).Scan(&n))
					same(n, keptUpTo(r))
				}
			})
			var n int
			must(pool.QueryRow(ctx, "SELECT count(*)::int FROM conc").Scan(&n))
			same(n, users*keptUpTo(rounds-1))
			return ""
		}},
	})
}

func pgxOne[T any](c *pgx.Conn, sql string, args ...any) (value T) {
	must(c.QueryRow(ctx, sql, args...).Scan(&value))
	return value
}
