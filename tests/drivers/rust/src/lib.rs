//! What the Rust driver programs share: named checks in, one JSON object a line out.
//! A check returns its detail, or an error; `absent` says that the driver has no such thing.
use std::error::Error;
use std::fmt::{Debug, Display};
use std::future::Future;

pub const USERS: i32 = 8;
pub const ROUNDS: i32 = 12;

pub type Outcome = Result<String, Box<dyn Error + Send + Sync>>;

#[derive(Debug)]
pub struct Absent(pub &'static str);

impl Display for Absent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Absent {}

pub fn absent(why: &'static str) -> Outcome {
    Err(Box::new(Absent(why)))
}

pub fn passed() -> Outcome {
    Ok(String::new())
}

pub fn url() -> String {
    std::env::var("DATABASE_URL").expect("DATABASE_URL")
}

/// Ends the check with an error that names the line, unless both are equal.
#[macro_export]
macro_rules! same {
    ($got:expr, $want:expr) => {{
        let (got, want) = (&$got, &$want);
        if *got != *want {
            let text = format!("line {}: got {:?}, want {:?}", line!(), got, want);
            return Err(text.chars().take(250).collect::<String>().into());
        }
    }};
}

/// Every third round of a user is rolled back.
pub fn kept(r: i32) -> bool {
    r % 3 != 2
}

pub fn kept_up_to(r: i32) -> i64 {
    (0..=r).filter(|n| kept(*n)).count() as i64
}

pub struct Report {
    driver: &'static str,
    version: &'static str,
}

impl Report {
    /// `name` is the driver and its crate, whose exact version stands in Cargo.toml.
    pub fn new(name: &'static str) -> Self {
        let line = include_str!("../Cargo.toml")
            .lines()
            .find(|line| line.starts_with(name));
        let version = line
            .and_then(|line| line.split("\"=").nth(1))
            .and_then(|rest| rest.split('"').next());
        Report {
            driver: name,
            version: version.unwrap_or(""),
        }
    }

    pub async fn check<F: Future<Output = Outcome>>(&self, name: &str, body: impl FnOnce() -> F) {
        let picked = std::env::var("CHECKS").unwrap_or_default();
        if !picked.is_empty() && !picked.split(',').any(|one| one == name) {
            return;
        }
        let (ok, detail) = match body().await {
            Ok(detail) => (Some(true), detail),
            Err(error) if error.is::<Absent>() => (None, error.to_string()),
            Err(error) => (Some(false), described(error.as_ref())),
        };
        let row = serde_json::json!({"driver": self.driver, "version": self.version,
            "check": name, "ok": ok, "detail": detail});
        println!("{row}");
    }
}

fn described(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text += &format!(": {inner}");
        cause = inner.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
