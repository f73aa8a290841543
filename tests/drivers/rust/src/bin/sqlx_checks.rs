//! sqlx: a statement cache in each connection, and a pool of its own.
use driver_checks::{kept, kept_up_to, passed, same, url, Outcome, Report, ROUNDS, USERS};
use futures_util::TryStreamExt;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, Error, Executor, PgConnection, PgPool, Row};
use std::str::FromStr;
use std::time::Duration;

async fn connect() -> Result<PgConnection, Error> {
    PgConnection::connect(&url()).await
}

async fn pool() -> Result<PgPool, Error> {
    PgPoolOptions::new()
        .max_connections(5)
        .connect(&url())
        .await
}

fn state<T>(outcome: Result<T, Error>) -> String {
    match outcome {
        Ok(_) => "no error".into(),
        Err(Error::Database(error)) => error.code().unwrap_or_default().into(),
        Err(error) => error.to_string(),
    }
}

/// One value, with int4 arguments.
async fn number(c: &mut PgConnection, sql: &str, args: &[i32]) -> Result<i64, Error> {
    let mut query = sqlx::query(AssertSqlSafe(sql.to_string()));
    for arg in args {
        query = query.bind(*arg);
    }
    let row = query.fetch_one(c).await?;
    Ok(match row.try_get::<i64, _>(0) {
        Ok(wide) => wide,
        Err(_) => i64::from(row.try_get::<i32, _>(0)?),
    })
}

async fn text(c: &mut PgConnection, sql: &str) -> Result<String, Error> {
    sqlx::query_scalar(AssertSqlSafe(sql.to_string()))
        .fetch_one(c)
        .await
}

async fn run(c: &mut PgConnection, sql: &str) -> Result<(), Error> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_string()))
        .execute(c)
        .await
        .map(|_| ())
}

async fn query() -> Outcome {
    let mut c = connect().await?;
    for n in 0..20 {
        same!(number(&mut c, "SELECT 1 + 1", &[]).await?, 2);
        same!(
            number(&mut c, "SELECT $1 * 2", &[n]).await?,
            i64::from(2 * n)
        );
    }
    let rows = sqlx::query("SELECT g FROM generate_series(1, 1000) g")
        .fetch_all(&mut c)
        .await?;
    same!(rows.len(), 1000);
    run(&mut c, "SELECT 1; SELECT 2").await?;
    c.ping().await?;
    c.close().await?;
    passed()
}

macro_rules! round_trip {
    ($c:expr, $type:ty, $sql:expr, $value:expr) => {{
        let value: $type = $value;
        let got: $type = sqlx::query_scalar($sql)
            .bind(value.clone())
            .fetch_one(&mut $c)
            .await?;
        same!(got, value);
    }};
}

async fn types() -> Outcome {
    let mut c = connect().await?;
    for _ in 0..3 {
        round_trip!(c, i16, "SELECT $1::int2", 7);
        round_trip!(c, i64, "SELECT $1::int8", 1 << 60);
        round_trip!(c, f64, "SELECT $1::float8", 1.5);
        round_trip!(c, bool, "SELECT $1::bool", true);
        round_trip!(c, String, "SELECT $1::text", "snow ☃ 'q' \\".to_string());
        round_trip!(c, Vec<u8>, "SELECT $1::bytea", vec![0, 1, 255]);
        round_trip!(c, Vec<i32>, "SELECT $1::int4[]", vec![1, 2, 3]);
        round_trip!(c, Option<String>, "SELECT $1::text", None);
    }
    passed()
}

async fn transaction() -> Outcome {
    let mut c = connect().await?;
    run(&mut c, "CREATE TABLE tx (n int)").await?;
    for n in 0..10 {
        let mut tx = c.begin().await?;
        sqlx::query("INSERT INTO tx VALUES ($1)")
            .bind(n)
            .execute(&mut *tx)
            .await?;
        if n % 2 == 1 {
            tx.commit().await?;
        } // else dropped, which rolls back before the next query
    }
    same!(number(&mut c, "SELECT sum(n) FROM tx", &[]).await?, 25);
    passed()
}

async fn savepoint() -> Outcome {
    let mut c = connect().await?;
    run(&mut c, "CREATE TABLE sp (n int PRIMARY KEY)").await?;
    let mut tx = c.begin().await?;
    tx.execute("INSERT INTO sp VALUES (1)").await?;
    for _ in 0..3 {
        let mut inner = tx.begin().await?;
        same!(
            state(
                sqlx::query("INSERT INTO sp VALUES ($1)")
                    .bind(1)
                    .execute(&mut *inner)
                    .await
            ),
            "23505"
        );
        inner.rollback().await?;
    }
    sqlx::query("INSERT INTO sp VALUES ($1)")
        .bind(2)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    same!(number(&mut c, "SELECT count(*) FROM sp", &[]).await?, 2);
    passed()
}

async fn error() -> Outcome {
    let mut c = connect().await?;
    for _ in 0..8 {
        same!(state(number(&mut c, "SELEC 1", &[]).await), "42601");
        same!(state(number(&mut c, "SELECT 1 / $1", &[0]).await), "22012");
        same!(
            state(run(&mut c, "SELECT * FROM no_such_table").await),
            "42P01"
        );
        same!(text(&mut c, "SELECT 'still here'").await?, "still here");
    }
    passed()
}

async fn prepared() -> Outcome {
    let (mut a, mut b) = (connect().await?, connect().await?);
    for n in 0..15 {
        same!(
            number(&mut a, "SELECT $1 + 1000", &[n]).await?,
            i64::from(n + 1000)
        );
        same!(
            number(&mut b, "SELECT $1 + 2000", &[n]).await?,
            i64::from(n + 2000)
        );
    }
    for _ in 0..2 {
        for n in 0..150 {
            // past the 100 that its cache keeps
            same!(
                number(&mut a, &format!("SELECT $1 + {n}"), &[1]).await?,
                i64::from(n + 1)
            );
        }
    }
    a.clear_cached_statements().await?;
    same!(number(&mut a, "SELECT $1 + 1000", &[1]).await?, 1001);
    let once = sqlx::query("SELECT $1 + 5")
        .bind(1)
        .persistent(false)
        .fetch_one(&mut a)
        .await?;
    same!(once.get::<i32, _>(0), 6);
    passed()
}

async fn pipeline() -> Outcome {
    let mut c = connect().await?;
    run(&mut c, "CREATE TABLE pl (n int)").await?;
    let numbers: Vec<i32> = (0..5000).collect();
    for _ in 0..3 {
        sqlx::query("INSERT INTO pl SELECT * FROM unnest($1::int4[])")
            .bind(&numbers)
            .execute(&mut c)
            .await?;
    }
    same!(number(&mut c, "SELECT count(*) FROM pl", &[]).await?, 15000);
    Ok("many rows by unnest, as sqlx advises".into())
}

async fn copy() -> Outcome {
    let mut c = connect().await?;
    run(&mut c, "CREATE TABLE cp (n int, t text)").await?;
    let rows: String = (0..20000).map(|n| format!("{n}\trow {n}\n")).collect();
    let mut copy = c.copy_in_raw("COPY cp FROM STDIN").await?;
    copy.send(rows.as_bytes()).await?;
    same!(copy.finish().await?, 20000);
    let mut got = Vec::new();
    let mut out = c
        .copy_out_raw("COPY (SELECT * FROM cp ORDER BY n) TO STDOUT")
        .await?;
    while let Some(part) = out.try_next().await? {
        got.extend_from_slice(&part);
    }
    drop(out);
    same!(got == rows.as_bytes(), true);
    let mut copy = c.copy_in_raw("COPY cp FROM STDIN").await?;
    copy.send(&b"x\ty\n"[..]).await?;
    same!(state(copy.finish().await), "22P02");
    let mut copy = c.copy_in_raw("COPY cp FROM STDIN").await?;
    copy.send(&b"1\tgiven up\n"[..]).await?;
    copy.abort("no more").await?;
    same!(number(&mut c, "SELECT count(*) FROM cp", &[]).await?, 20000);
    passed()
}

async fn large() -> Outcome {
    let mut c = connect().await?;
    let value = "0123456789abcdef".repeat(65536 * 5);
    let got: String = sqlx::query_scalar("SELECT $1::text")
        .bind(&value)
        .fetch_one(&mut c)
        .await?;
    same!(got == value, true);
    let rows: Vec<String> =
        sqlx::query_scalar("SELECT repeat('x', 1000) FROM generate_series(1, 20000)")
            .fetch_all(&mut c)
            .await?;
    same!(rows.iter().map(String::len).sum::<usize>(), 20_000_000);
    passed()
}

async fn cursor() -> Outcome {
    let mut c = connect().await?;
    for _ in 0..3 {
        let mut sum = 0;
        {
            let mut rows = sqlx::query("SELECT g FROM generate_series(1, 1000) g").fetch(&mut c);
            while let Some(row) = rows.try_next().await? {
                sum += row.get::<i32, _>(0);
            }
        }
        same!(sum, 500500);
        // A stream that is left halfway: the rest is read before the next query.
        let mut rows = sqlx::query("SELECT g FROM generate_series(1, 1000) g").fetch(&mut c);
        same!(rows.try_next().await?.is_some(), true);
        drop(rows);
        same!(number(&mut c, "SELECT 7", &[]).await?, 7);
    }
    Ok("fetch(): streams".into())
}

async fn cancel() -> Outcome {
    // sqlx has no cancel request: a query that is given up ends with its connection.
    let pool = pool().await?;
    for _ in 0..3 {
        let given_up = tokio::time::timeout(
            Duration::from_millis(300),
            sqlx::query("SELECT pg_sleep(1)").execute(&pool),
        )
        .await;
        same!(given_up.is_err(), true);
        let mut c = pool.acquire().await?;
        same!(number(&mut c, "SELECT 1", &[]).await?, 1);
    }
    let mut c = connect().await?;
    run(&mut c, "SET statement_timeout = '300ms'").await?;
    same!(
        state(number(&mut c, "SELECT 1 FROM pg_sleep(20)", &[]).await),
        "57014"
    );
    pool.close().await;
    Ok("by dropping the query, and by statement_timeout".into())
}

async fn reconnect() -> Outcome {
    for n in 0..25 {
        let mut c = connect().await?;
        same!(number(&mut c, "SELECT $1", &[n]).await?, i64::from(n));
        if n % 2 == 0 {
            c.close().await?;
        }
    }
    passed()
}

async fn schema_change() -> Outcome {
    let (mut c, mut other) = (connect().await?, connect().await?);
    run(
        &mut other,
        "CREATE TABLE shape (a int); INSERT INTO shape VALUES (1)",
    )
    .await?;
    let mut errors = 0;
    for (change, columns) in [
        ("SELECT 1", 1),
        ("ALTER TABLE shape ADD COLUMN b int DEFAULT 7", 2),
        ("ALTER TABLE shape DROP COLUMN b", 1),
    ] {
        run(&mut other, change).await?;
        for _ in 0..4 {
            match sqlx::query("SELECT * FROM shape WHERE a = $1")
                .bind(1)
                .fetch_one(&mut c)
                .await
            {
                Ok(row) => {
                    same!(row.len(), columns);
                    same!(row.get::<i32, _>(0), 1);
                }
                Err(error) => {
                    same!(state::<()>(Err(error)), "0A000");
                    errors += 1;
                    c.clear_cached_statements().await?; // what its users are told to do
                }
            }
        }
    }
    Ok(if errors == 0 {
        String::new()
    } else {
        format!("{errors} times 0A000 reached the application")
    })
}

async fn session_set() -> Outcome {
    let options = PgConnectOptions::from_str(&url())?
        .options([("search_path", "pg_catalog"), ("statement_timeout", "7s")])
        .application_name("named");
    let mut named = PgConnection::connect_with(&options).await?;
    let (mut a, mut b) = (connect().await?, connect().await?);
    run(&mut a, "SET TIME ZONE 'Asia/Tokyo'").await?;
    run(&mut b, "SET TIME ZONE 'America/Lima'").await?;
    same!(
        text(&mut b, "SELECT set_config('app.tenant', 'b', false)").await?,
        "b"
    );
    for _ in 0..4 {
        same!(text(&mut a, "SHOW timezone").await?, "Asia/Tokyo");
        same!(text(&mut b, "SHOW timezone").await?, "America/Lima");
        same!(
            text(&mut b, "SELECT current_setting('app.tenant')").await?,
            "b"
        );
        same!(text(&mut named, "SHOW search_path").await?, "pg_catalog");
        same!(text(&mut named, "SHOW statement_timeout").await?, "7s");
        same!(text(&mut named, "SHOW application_name").await?, "named");
    }
    passed()
}

async fn temp_table() -> Outcome {
    let (mut a, mut b) = (connect().await?, connect().await?);
    run(&mut a, "CREATE TEMP TABLE mine (n int)").await?;
    for n in 0..5 {
        sqlx::query("INSERT INTO mine VALUES ($1)")
            .bind(n)
            .execute(&mut a)
            .await?;
        same!(
            state(number(&mut b, "SELECT count(*) FROM mine", &[]).await),
            "42P01"
        );
    }
    same!(number(&mut a, "SELECT count(*) FROM mine", &[]).await?, 5);
    a.close().await?;
    passed()
}

async fn advisory_lock() -> Outcome {
    let (mut a, mut b) = (connect().await?, connect().await?);
    run(&mut a, "SELECT pg_advisory_lock(42)").await?;
    for _ in 0..5 {
        same!(
            text(&mut b, "SELECT pg_try_advisory_lock(42)::text").await?,
            "false"
        );
        same!(number(&mut a, "SELECT 1", &[]).await?, 1);
    }
    a.close().await?;
    for _ in 0..100 {
        if text(&mut b, "SELECT pg_try_advisory_lock(42)::text").await? == "true" {
            return passed();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err("the lock outlived its owner".into())
}

async fn listen_notify() -> Outcome {
    let mut listener = PgListener::connect(&url()).await?;
    let mut b = connect().await?;
    listener.listen("news").await?;
    for n in 0..3 {
        sqlx::query("SELECT pg_notify('news', $1)")
            .bind(n.to_string())
            .execute(&mut b)
            .await?;
        let note = tokio::time::timeout(Duration::from_secs(5), listener.recv()).await??;
        same!(note.payload(), n.to_string());
    }
    listener.unlisten_all().await?;
    passed()
}

async fn user(i: i32, pool: PgPool) -> Outcome {
    let mut mine = connect().await?;
    run(&mut mine, &format!("SET app.who = 'user-{i}'")).await?;
    for r in 0..ROUNDS {
        same!(
            text(&mut mine, "SELECT current_setting('app.who')").await?,
            format!("user-{i}")
        );
        same!(
            number(&mut mine, "SELECT $1 + 1", &[r]).await?,
            i64::from(r + 1)
        );
        let mut tx = pool.begin().await?;
        sqlx::query("INSERT INTO conc VALUES ($1, $2)")
            .bind(i)
            .bind(r)
            .execute(&mut *tx)
            .await?;
        if kept(r) {
            tx.commit().await?;
        } else {
            tx.rollback().await?;
        }
        if r % 4 == 0 {
            same!(
                state(number(&mut mine, "SELECT 1 / $1", &[0]).await),
                "22012"
            );
        }
        let mut shared = pool.acquire().await?;
        same!(
            number(&mut shared, "SELECT count(*) FROM conc WHERE u = $1", &[i]).await?,
            kept_up_to(r)
        );
    }
    passed()
}

async fn concurrent() -> Outcome {
    let mut c = connect().await?;
    run(&mut c, "CREATE TABLE conc (u int, r int)").await?;
    let shared = pool().await?;
    let running: Vec<_> = (0..USERS)
        .map(|i| tokio::spawn(user(i, shared.clone())))
        .collect();
    for one in running {
        one.await??;
    }
    same!(
        number(&mut c, "SELECT count(*) FROM conc", &[]).await?,
        i64::from(USERS) * kept_up_to(ROUNDS - 1)
    );
    shared.close().await;
    passed()
}

#[tokio::main]
async fn main() {
    let report = Report::new("sqlx");
    report.check("query", query).await;
    report.check("types", types).await;
    report.check("transaction", transaction).await;
    report.check("savepoint", savepoint).await;
    report.check("error", error).await;
    report.check("prepared", prepared).await;
    report.check("pipeline", pipeline).await;
    report.check("copy", copy).await;
    report.check("large", large).await;
    report.check("cursor", cursor).await;
    report.check("cancel", cancel).await;
    report.check("reconnect", reconnect).await;
    report.check("schema_change", schema_change).await;
    report.check("session_set", session_set).await;
    report.check("temp_table", temp_table).await;
    report.check("advisory_lock", advisory_lock).await;
    report.check("listen_notify", listen_notify).await;
    report.check("concurrent", concurrent).await;
}
