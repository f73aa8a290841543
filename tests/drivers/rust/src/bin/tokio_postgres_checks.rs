//! tokio-postgres: prepares every statement by name, and pipelines what is awaited together.
use bytes::Bytes;
use driver_checks::{kept, kept_up_to, passed, same, url, Outcome, Report, ROUNDS, USERS};
use futures_util::future::{join_all, try_join_all};
use futures_util::{pin_mut, SinkExt, StreamExt, TryStreamExt};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_postgres::types::{FromSqlOwned, ToSql};
use tokio_postgres::{AsyncMessage, Client, Error, NoTls, SimpleQueryMessage};

async fn connect() -> Result<Client, Error> {
    let (client, connection) = tokio_postgres::connect(&url(), NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn one<T: FromSqlOwned>(
    c: &Client,
    sql: &str,
    args: &[&(dyn ToSql + Sync)],
) -> Result<T, Error> {
    c.query_one(sql, args).await?.try_get(0)
}

fn state<T>(outcome: Result<T, Error>) -> String {
    match outcome {
        Ok(_) => "no error".into(),
        Err(error) => error
            .code()
            .map_or_else(|| error.to_string(), |code| code.code().into()),
    }
}

async fn simple(c: &Client, sql: &str) -> Result<String, Error> {
    for message in c.simple_query(sql).await? {
        if let SimpleQueryMessage::Row(row) = message {
            return Ok(row.get(0).unwrap_or("").into());
        }
    }
    Ok(String::new())
}

async fn query() -> Outcome {
    let c = connect().await?;
    for n in 0..20 {
        same!(one::<i32>(&c, "SELECT 1 + 1", &[]).await?, 2);
        same!(one::<i32>(&c, "SELECT $1::int * 2", &[&n]).await?, 2 * n);
        same!(simple(&c, "SELECT 'simple'; SELECT 2").await?, "simple");
    }
    same!(
        c.query("SELECT g FROM generate_series(1, 1000) g", &[])
            .await?
            .len(),
        1000
    );
    passed()
}

async fn types() -> Outcome {
    let c = connect().await?;
    c.batch_execute("CREATE TYPE mood AS ENUM ('sad', 'ok')")
        .await?;
    for _ in 0..3 {
        same!(one::<i16>(&c, "SELECT $1::int2", &[&7i16]).await?, 7);
        same!(
            one::<i64>(&c, "SELECT $1::int8", &[&(1i64 << 60)]).await?,
            1i64 << 60
        );
        same!(one::<f64>(&c, "SELECT $1::float8", &[&1.5f64]).await?, 1.5);
        same!(one::<bool>(&c, "SELECT $1::bool", &[&true]).await?, true);
        same!(
            one::<String>(&c, "SELECT $1::text", &[&"snow ☃ 'q' \\"]).await?,
            "snow ☃ 'q' \\"
        );
        same!(
            one::<Vec<u8>>(&c, "SELECT $1::bytea", &[&&[0u8, 1, 255][..]]).await?,
            vec![0u8, 1, 255]
        );
        same!(
            one::<Vec<Option<i32>>>(&c, "SELECT $1::int4[]", &[&vec![Some(1), None]]).await?,
            vec![Some(1), None]
        );
        same!(
            one::<Option<String>>(&c, "SELECT $1::text", &[&None::<String>]).await?,
            None
        );
        // An enum of its own: the driver asks the catalog about it when it prepares.
        let row = c.query_one("SELECT 'sad'::mood", &[]).await?;
        same!(row.columns()[0].type_().name(), "mood");
    }
    passed()
}

async fn transaction() -> Outcome {
    let mut c = connect().await?;
    c.batch_execute("CREATE TABLE tx (n int)").await?;
    for n in 0..10 {
        let tx = c.transaction().await?;
        tx.execute("INSERT INTO tx VALUES ($1)", &[&n]).await?;
        if n % 2 == 1 {
            tx.commit().await?;
        } // else dropped, which rolls back
    }
    same!(one::<i64>(&c, "SELECT sum(n) FROM tx", &[]).await?, 25);
    let tx = c
        .build_transaction()
        .isolation_level(tokio_postgres::IsolationLevel::Serializable)
        .read_only(true)
        .start()
        .await?;
    same!(
        state(tx.execute("INSERT INTO tx VALUES (1)", &[]).await),
        "25006"
    );
    tx.rollback().await?;
    passed()
}

async fn savepoint() -> Outcome {
    let mut c = connect().await?;
    c.batch_execute("CREATE TABLE sp (n int PRIMARY KEY)")
        .await?;
    let mut tx = c.transaction().await?;
    tx.execute("INSERT INTO sp VALUES ($1)", &[&1]).await?;
    for _ in 0..3 {
        let inner = tx.transaction().await?;
        same!(
            state(inner.execute("INSERT INTO sp VALUES ($1)", &[&1]).await),
            "23505"
        );
        inner.rollback().await?;
    }
    tx.execute("INSERT INTO sp VALUES ($1)", &[&2]).await?;
    tx.commit().await?;
    same!(one::<i64>(&c, "SELECT count(*) FROM sp", &[]).await?, 2);
    passed()
}

async fn error() -> Outcome {
    let c = connect().await?;
    for _ in 0..8 {
        same!(state(c.query("SELEC 1", &[]).await), "42601");
        same!(state(c.query("SELECT 1 / $1::int", &[&0]).await), "22012");
        same!(
            state(c.simple_query("SELECT * FROM no_such_table").await),
            "42P01"
        );
        same!(
            one::<String>(&c, "SELECT $1::text", &[&"still here"]).await?,
            "still here"
        );
    }
    passed()
}

async fn prepared() -> Outcome {
    let (a, b) = (connect().await?, connect().await?);
    let first = a.prepare("SELECT $1::int + 1000").await?; // s0 in both, and not the same
    let second = b.prepare("SELECT $1::text || 'x'").await?;
    for n in 0..15 {
        same!(a.query_one(&first, &[&n]).await?.get::<_, i32>(0), n + 1000);
        same!(
            b.query_one(&second, &[&n.to_string()])
                .await?
                .get::<_, String>(0),
            format!("{n}x")
        );
    }
    drop(first); // closes it on the server
    let mut many = Vec::new();
    for n in 0..300 {
        many.push(a.prepare(&format!("SELECT $1::int + {n}")).await?);
    }
    for (n, statement) in many.iter().enumerate() {
        same!(
            a.query_one(statement, &[&1]).await?.get::<_, i32>(0),
            n as i32 + 1
        );
    }
    passed()
}

async fn pipeline() -> Outcome {
    let c = connect().await?;
    c.batch_execute("CREATE TABLE pl (n int PRIMARY KEY)")
        .await?;
    let plus = c.prepare("SELECT $1::int + 1").await?;
    let insert = c.prepare("INSERT INTO pl VALUES ($1)").await?;
    let numbers: Vec<i32> = (0..100).collect();
    for round in 0..3 {
        let rows = try_join_all(numbers.iter().map(|n| {
            let (c, plus) = (&c, &plus);
            async move { c.query_one(plus, &[n]).await }
        }))
        .await?;
        same!(
            rows.iter()
                .map(|row| row.get::<_, i32>(0))
                .collect::<Vec<_>>(),
            (1..=100).collect::<Vec<i32>>()
        );
        let keys = [round * 10, 0, round * 10 + 1];
        let done = join_all(keys.iter().map(|n| {
            let (c, insert) = (&c, &insert);
            async move { c.execute(insert, &[n]).await }
        }))
        .await;
        same!(done[1].is_err(), true); // each has a sync of its own
        same!(done[2].is_ok(), true);
    }
    same!(one::<i64>(&c, "SELECT count(*) FROM pl", &[]).await?, 6);
    passed()
}

async fn copy() -> Outcome {
    let c = connect().await?;
    c.batch_execute("CREATE TABLE cp (n int, t text)").await?;
    let sink = c.copy_in::<_, Bytes>("COPY cp FROM STDIN").await?;
    pin_mut!(sink);
    let mut want = String::new();
    for n in 0..20000 {
        let row = format!("{n}\trow {n}\n");
        want += &row;
        sink.send(Bytes::from(row)).await?;
    }
    same!(sink.finish().await?, 20000);
    let parts: Vec<Bytes> = c
        .copy_out("COPY (SELECT * FROM cp ORDER BY n) TO STDOUT")
        .await?
        .try_collect()
        .await?;
    same!(parts.concat() == want.as_bytes(), true);
    let bad = c.copy_in::<_, Bytes>("COPY cp FROM STDIN").await?;
    pin_mut!(bad);
    bad.send(Bytes::from_static(b"x\ty\n")).await?;
    same!(state(bad.finish().await), "22P02");
    {
        let dropped = c.copy_in::<_, Bytes>("COPY cp FROM STDIN").await?;
        pin_mut!(dropped);
        dropped.send(Bytes::from_static(b"1\tgiven up\n")).await?;
    }
    same!(one::<i64>(&c, "SELECT count(*) FROM cp", &[]).await?, 20000);
    passed()
}

async fn large() -> Outcome {
    let c = connect().await?;
    let text = "0123456789abcdef".repeat(65536 * 5);
    same!(
        one::<String>(&c, "SELECT $1::text", &[&text]).await? == text,
        true
    );
    let rows = c
        .query(
            "SELECT repeat('x', 1000) FROM generate_series(1, 20000)",
            &[],
        )
        .await?;
    same!(
        rows.iter()
            .map(|row| row.get::<_, &str>(0).len())
            .sum::<usize>(),
        20_000_000
    );
    passed()
}

async fn cursor() -> Outcome {
    let mut c = connect().await?;
    for _ in 0..3 {
        let tx = c.transaction().await?;
        let portal = tx
            .bind("SELECT g FROM generate_series(1, $1::int) g", &[&1000])
            .await?;
        let mut sum = 0;
        loop {
            let rows = tx.query_portal(&portal, 100).await?;
            if rows.is_empty() {
                break;
            }
            sum += rows.iter().map(|row| row.get::<_, i32>(0)).sum::<i32>();
        }
        tx.commit().await?;
        same!(sum, 500500);
    }
    Ok("portals".into())
}

async fn cancel() -> Outcome {
    let c = connect().await?;
    for _ in 0..3 {
        let token = c.cancel_token();
        let soon = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            token.cancel_query(NoTls).await
        });
        same!(state(c.query("SELECT pg_sleep(20)", &[]).await), "57014");
        soon.await??;
        same!(one::<i32>(&c, "SELECT 1", &[]).await?, 1);
    }
    passed()
}

async fn reconnect() -> Outcome {
    for n in 0..25 {
        let c = connect().await?;
        same!(one::<i32>(&c, "SELECT $1::int", &[&n]).await?, n);
    }
    passed()
}

async fn schema_change() -> Outcome {
    let (c, other) = (connect().await?, connect().await?);
    other
        .batch_execute("CREATE TABLE shape (a int); INSERT INTO shape VALUES (1)")
        .await?;
    let kept_statement = c.prepare("SELECT * FROM shape WHERE a = $1").await?;
    let mut errors = 0;
    for (change, columns) in [
        ("SELECT 1", 1),
        ("ALTER TABLE shape ADD COLUMN b int DEFAULT 7", 2),
        ("ALTER TABLE shape DROP COLUMN b", 1),
    ] {
        other.batch_execute(change).await?;
        for _ in 0..4 {
            // Prepared anew for each query, as is its default.
            same!(
                c.query_one("SELECT * FROM shape WHERE a = $1", &[&1])
                    .await?
                    .len(),
                columns
            );
            match c.query_one(&kept_statement, &[&1]).await {
                Ok(row) => same!(row.get::<_, i32>(0), 1),
                Err(error) => {
                    same!(state::<()>(Err(error)), "0A000"); // it does not prepare again by itself
                    errors += 1;
                }
            }
        }
    }
    Ok(if errors == 0 {
        String::new()
    } else {
        format!("{errors} times 0A000 reached the application, from a kept Statement")
    })
}

async fn session_set() -> Outcome {
    let mut config: tokio_postgres::Config = url().parse()?;
    config
        .options("-c search_path=pg_catalog")
        .application_name("named");
    let (named, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    let (a, b) = (connect().await?, connect().await?);
    a.batch_execute("SET TIME ZONE 'Asia/Tokyo'").await?;
    b.batch_execute("SET TIME ZONE 'America/Lima'").await?;
    same!(
        one::<String>(&b, "SELECT set_config('app.tenant', $1, false)", &[&"b"]).await?,
        "b"
    );
    for _ in 0..4 {
        same!(one::<String>(&a, "SHOW timezone", &[]).await?, "Asia/Tokyo");
        same!(
            one::<String>(&b, "SHOW timezone", &[]).await?,
            "America/Lima"
        );
        same!(
            one::<String>(&b, "SELECT current_setting('app.tenant')", &[]).await?,
            "b"
        );
        same!(
            one::<String>(&named, "SHOW search_path", &[]).await?,
            "pg_catalog"
        );
        same!(
            one::<String>(&named, "SHOW application_name", &[]).await?,
            "named"
        );
    }
    passed()
}

async fn temp_table() -> Outcome {
    let (a, b) = (connect().await?, connect().await?);
    a.batch_execute("CREATE TEMP TABLE mine (n int)").await?;
    for n in 0..5 {
        a.execute("INSERT INTO mine VALUES ($1)", &[&n]).await?;
        same!(state(b.query("SELECT * FROM mine", &[]).await), "42P01");
    }
    same!(one::<i64>(&a, "SELECT count(*) FROM mine", &[]).await?, 5);
    passed()
}

async fn advisory_lock() -> Outcome {
    let (a, b) = (connect().await?, connect().await?);
    a.execute("SELECT pg_advisory_lock($1)", &[&42i64]).await?;
    for _ in 0..5 {
        same!(
            one::<bool>(&b, "SELECT pg_try_advisory_lock($1)", &[&42i64]).await?,
            false
        );
        same!(one::<i32>(&a, "SELECT 1", &[]).await?, 1);
    }
    drop(a);
    for _ in 0..100 {
        if one::<bool>(&b, "SELECT pg_try_advisory_lock($1)", &[&42i64]).await? {
            return passed();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err("the lock outlived its owner".into())
}

async fn listen_notify() -> Outcome {
    let (client, mut connection) = tokio_postgres::connect(&url(), NoTls).await?;
    let (heard, mut notes) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut messages = futures_util::stream::poll_fn(move |cx| connection.poll_message(cx));
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notification(note) = message {
                let _ = heard.send(note.payload().to_string());
            }
        }
    });
    let b = connect().await?;
    client.batch_execute("LISTEN news").await?;
    for n in 0..3 {
        b.execute("SELECT pg_notify('news', $1)", &[&n.to_string()])
            .await?;
        let got = tokio::time::timeout(Duration::from_secs(5), notes.recv()).await?;
        same!(got, Some(n.to_string()));
    }
    client.batch_execute("UNLISTEN *").await?;
    passed()
}

async fn user(i: i32) -> Outcome {
    let mut mine = connect().await?;
    mine.batch_execute(&format!("SET app.who = 'user-{i}'"))
        .await?;
    for r in 0..ROUNDS {
        same!(
            one::<String>(&mine, "SELECT current_setting('app.who')", &[]).await?,
            format!("user-{i}")
        );
        same!(one::<i32>(&mine, "SELECT $1::int + 1", &[&r]).await?, r + 1);
        let tx = mine.transaction().await?;
        tx.execute("INSERT INTO conc VALUES ($1, $2)", &[&i, &r])
            .await?;
        if kept(r) {
            tx.commit().await?;
        } else {
            tx.rollback().await?;
        }
        if r % 4 == 0 {
            same!(
                state(mine.query("SELECT 1 / $1::int", &[&0]).await),
                "22012"
            );
        }
        same!(
            one::<i64>(&mine, "SELECT count(*) FROM conc WHERE u = $1", &[&i]).await?,
            kept_up_to(r)
        );
    }
    passed()
}

async fn concurrent() -> Outcome {
    let c = connect().await?;
    c.batch_execute("CREATE TABLE conc (u int, r int)").await?;
    let running: Vec<_> = (0..USERS).map(|i| tokio::spawn(user(i))).collect();
    for one in running {
        one.await??;
    }
    same!(
        one::<i64>(&c, "SELECT count(*) FROM conc", &[]).await?,
        i64::from(USERS) * kept_up_to(ROUNDS - 1)
    );
    passed()
}

#[tokio::main]
async fn main() {
    let report = Report::new("tokio-postgres");
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
