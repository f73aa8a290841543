package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
)

type Thing struct {
	ID   int64
	Name string `gorm:"unique"`
	N    int
	F    float64
	When time.Time
	Blob []byte
	Note *string
	Data map[string]any `gorm:"serializer:json"`
}

type Conc struct {
	ID   int64
	U, R int
}

// gormOpen: GORM's defaults (its pgx driver prepares and caches by itself), or with PrepareStmt,
// which keeps a sql.Stmt for each text above that.
func gormOpen(prepare bool, connections int) *gorm.DB {
	db, err := gorm.Open(postgres.Open(url), &gorm.Config{
		PrepareStmt: prepare, Logger: logger.Discard})
	must(err)
	inner, err := db.DB()
	must(err)
	inner.SetMaxOpenConns(connections)
	inner.SetMaxIdleConns(connections)
	return db
}

func gormOne[T any](db *gorm.DB, text string, args ...any) (value T) {
	must(db.Raw(text, args...).Row().Scan(&value))
	return value
}

func gormChecks() {
	db := gormOpen(false, 5)
	prepared := gormOpen(true, 5)
	must(db.AutoMigrate(&Thing{}, &Conc{}))
	back := errors.New("take it back")
	clear := func() { must(db.Where("1 = 1").Delete(&Thing{}).Error) }

	run("GORM", "gorm.io/gorm", []check{
		{"query", func() string {
			defer clear()
			for n := 0; n < 20; n++ {
				same(gormOne[int](db, "SELECT ?::int * 2", n), 2*n)
				must(db.Create(&Thing{Name: fmt.Sprint("t", n), N: n}).Error)
			}
			var things []Thing
			must(db.Where("n > ?", 9).Order("n").Limit(5).Find(&things).Error)
			same(len(things), 5)
			same(things[0].N, 10)
			must(db.AutoMigrate(&Thing{}, &Conc{}))
			return ""
		}},
		{"types", func() string {
			defer clear()
			note := "snow ☃ 'q' \\"
			when := time.Date(2024, 2, 29, 12, 30, 15, 123456000, time.UTC)
			for n := 0; n < 5; n++ {
				must(db.Create(&Thing{Name: fmt.Sprint("k", n), N: -7, F: 1.5, When: when,
					Blob: []byte{0, 1, 255}, Note: &note, Data: map[string]any{"a": "b"}}).Error)
				var got Thing
				must(prepared.First(&got, "name = ?", fmt.Sprint("k", n)).Error)
				same([]any{got.N, got.F, got.When.UTC(), got.Blob, *got.Note, got.Data},
					[]any{-7, 1.5, when, []byte{0, 1, 255}, note, map[string]any{"a": "b"}})
			}
			return ""
		}},
		{"transaction", func() string {
			defer clear()
			for n := 0; n < 10; n++ {
				err := db.Transaction(func(tx *gorm.DB) error {
					must(tx.Create(&Thing{Name: fmt.Sprint("tx", n), N: n}).Error)
					if n%2 == 0 {
						return back
					}
					return nil
				})
				if !errors.Is(err, back) {
					must(err)
				}
				same(err == nil, n%2 == 1)
			}
			same(gormOne[int](db, "SELECT sum(n) FROM things"), 25)
			must(db.Transaction(func(tx *gorm.DB) error {
				same(gormOne[string](tx, "SHOW transaction_isolation"), "serializable")
				return nil
			}, &sql.TxOptions{Isolation: sql.LevelSerializable}))
			return ""
		}},
		{"savepoint", func() string {
			defer clear()
			must(db.Transaction(func(tx *gorm.DB) error {
				must(tx.Create(&Thing{Name: "one"}).Error)
				for n := 0; n < 3; n++ {
					raises("23505", tx.Transaction(func(inner *gorm.DB) error {
						return inner.Create(&Thing{Name: "one"}).Error
					}))
				}
				return tx.Create(&Thing{Name: "two"}).Error
			}))
			same(gormOne[int](db, "SELECT count(*) FROM things"), 2)
			return ""
		}},
		{"error", func() string {
			for n := 0; n < 8; n++ {
				for _, each := range []*gorm.DB{db, prepared} {
					raises("42601", each.Exec("SELEC 1").Error)
					raises("22012", each.Exec("SELECT 1 / ?::int", 0).Error)
					raises("42P01", each.Exec("SELECT * FROM no_such_table").Error)
					same(gormOne[string](each, "SELECT ?::text", "still here"), "still here")
				}
			}
			return ""
		}},
		{"prepared", func() string {
			everyUser(func(i int) {
				for n := 0; n < 12; n++ {
					same(gormOne[int](prepared, "SELECT ?::int + 1000", n), n+1000)
					same(gormOne[int](prepared, fmt.Sprintf("SELECT ?::int + %d", n), i), n+i)
				}
			})
			return "PrepareStmt: true"
		}},
		{"pipeline", func() string {
			defer clear()
			things := make([]Thing, 1000)
			for n := range things {
				things[n] = Thing{Name: fmt.Sprint("p", n), N: n}
			}
			must(db.CreateInBatches(things, 100).Error)
			same(gormOne[int](db, "SELECT sum(n) FROM things"), 499500)
			return "CreateInBatches"
		}},
		{"copy", func() string { panic(absent("no COPY in GORM")) }},
		{"large", func() string {
			defer clear()
			text := strings.Repeat("0123456789abcdef", 65536*5)
			must(db.Create(&Thing{Name: "large", Note: &text}).Error)
			var got Thing
			must(db.First(&got, "name = ?", "large").Error)
			same(*got.Note == text, true)
			return ""
		}},
		{"cursor", func() string {
			rows, err := db.Raw("SELECT g FROM generate_series(1, ?::int) g", 1000).Rows()
			must(err)
			sum := 0
			for rows.Next() {
				var g int
				must(rows.Scan(&g))
				sum += g
			}
			must(rows.Err())
			same(sum, 500500)
			return "Rows()"
		}},
		{"cancel", func() string {
			for n := 0; n < 3; n++ {
				short, stop := context.WithTimeout(ctx, 300*time.Millisecond)
				err := db.WithContext(short).Exec("SELECT pg_sleep(20)").Error
				stop()
				same(err != nil, true)
				same(gormOne[int](db, "SELECT 1"), 1)
			}
			return "by a context's deadline"
		}},
		{"reconnect", func() string {
			for n := 0; n < 20; n++ {
				mine := gormOpen(n%2 == 0, 1)
				same(gormOne[int](mine, "SELECT ?::int", n), n)
				inner, err := mine.DB()
				must(err)
				must(inner.Close())
			}
			return ""
		}},
		{"schema_change", func() string {
			must(db.Exec("CREATE TABLE shape (a int)").Error)
			must(db.Exec("INSERT INTO shape VALUES (1)").Error)
			errs := 0
			for _, change := range []string{"", "ADD COLUMN b int DEFAULT 7", "DROP COLUMN b"} {
				if change != "" {
					must(db.Exec("ALTER TABLE shape " + change).Error)
				}
				for n := 0; n < 16; n++ { // each of the 5 connections has the statement in its cache
					var a, b int
					columns := []any{&a}
					if strings.HasPrefix(change, "ADD") {
						columns = append(columns, &b)
					}
					if err := db.Raw("SELECT * FROM shape WHERE a = ?", 1).Row().Scan(columns...); err != nil {
						errs++
						continue
					}
					same(a, 1)
				}
			}
			same(errs <= 10, true)
			var a int
			must(db.Raw("SELECT * FROM shape WHERE a = ?", 1).Row().Scan(&a))
			if errs > 0 {
				return fmt.Sprintf("%d errors reached the application: pgx prepares again the next time", errs)
			}
			return ""
		}},
		{"session_set", func() string {
			mine, err := gorm.Open(postgres.Open(url+"?search_path=pg_catalog&TimeZone=Asia/Tokyo"),
				&gorm.Config{Logger: logger.Discard})
			must(err)
			for n := 0; n < 5; n++ {
				same(gormOne[string](mine, "SHOW timezone"), "Asia/Tokyo")
				same(gormOne[string](mine, "SHOW search_path"), "pg_catalog")
				same(gormOne[string](db, "SHOW search_path"), `"$user", public`)
			}
			inner, err := mine.DB()
			must(err)
			must(inner.Close())
			return ""
		}},
		{"temp_table", func() string {
			must(db.Connection(func(c *gorm.DB) error {
				must(c.Exec("CREATE TEMP TABLE mine (n int)").Error)
				for n := 0; n < 5; n++ {
					must(c.Exec("INSERT INTO mine VALUES (?)", n).Error)
				}
				same(gormOne[int](c, "SELECT count(*) FROM mine"), 5)
				return c.Exec("DROP TABLE mine").Error
			}))
			return ""
		}},
		{"advisory_lock", func() string {
			must(db.Connection(func(c *gorm.DB) error {
				must(c.Exec("SELECT pg_advisory_lock(?)", 42).Error)
				for n := 0; n < 4; n++ {
					must(c.Exec("SELECT 1").Error)
					same(gormOne[bool](prepared, "SELECT pg_try_advisory_lock(?)", 42), false)
				}
				same(gormOne[bool](c, "SELECT pg_advisory_unlock(?)", 42), true)
				return nil
			}))
			return ""
		}},
		{"listen_notify", func() string { panic(absent("no LISTEN in GORM")) }},
		{"concurrent", func() string {
			// With PrepareStmt all users share a table of statements, and whoever finds one there
			// that is just being prepared waits for it, in a transaction too. Prepared outside of
			// one, it waits for a connection: with as many transactions as there are connections,
			// each waits for the other. That is GORM's own: with SetMaxOpenConns(2) straight against
			// PostgreSQL it stands still every time, too. So what runs outside of transactions is
			// prepared before there are any, as an application with a small pool has to.
			raises("22012", prepared.Exec("SELECT 1 / ?::int", 0).Error)
			same(gormOne[int](prepared, "SELECT count(*) FROM concs WHERE u = ?", 0), 0)
			everyUser(func(i int) {
				for r := 0; r < rounds; r++ {
					each := db
					if r%2 == 1 {
						each = prepared
					}
					err := each.Transaction(func(tx *gorm.DB) error {
						must(tx.Exec(fmt.Sprintf("SET LOCAL app.who = 'user-%d'", i)).Error)
						same(gormOne[string](tx, "SELECT current_setting('app.who')"), fmt.Sprintf("user-%d", i))
						must(tx.Create(&Conc{U: i, R: r}).Error)
						if !kept(r) {
							return back
						}
						return nil
					})
					if !errors.Is(err, back) {
						must(err)
					}
					same(err == nil, kept(r))
					if r%4 == 0 {
						raises("22012", each.Exec("SELECT 1 / ?::int", 0).Error)
					}
					same(gormOne[int](each, "SELECT count(*) FROM concs WHERE u = ?", i), keptUpTo(r))
				}
			})
			same(gormOne[int](db, "SELECT count(*) FROM concs"), users*keptUpTo(rounds-1))
			return "PrepareStmt: true with what runs outside of transactions prepared first"
		}},
	})
}
