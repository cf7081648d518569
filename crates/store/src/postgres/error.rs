//! The server's and the driver's errors as ours: one line each, and never a value of a row or a password.

use std::error::Error as _;

use tokio_postgres::Error;
use tokio_postgres::error::DbError;

use crate::error::StoreError;

/// An error of a connection that was made.
pub(super) fn of(path: &str, error: &Error) -> StoreError {
    match error.as_db_error() {
        Some(error) => of_server(path, error.code().code(), message(error)),
        None => StoreError::Lost { path: path.to_owned(), why: chain(error) },
    }
}

/// An error of making one.
pub(super) fn of_connecting(path: &str, error: &Error) -> StoreError {
    let path = path.to_owned();
    if let Some(error) = error.as_db_error() {
        return of_server(&path, error.code().code(), message(error));
    }
    let mut why = chain(error);
    if why.contains("password missing") {
        "it asks for a password, and there is none in the url, password_file, PGPASSWORD or ~/.pgpass"
            .clone_into(&mut why);
    }
    // The driver tells its kinds apart by these words only.
    match error.to_string() {
        text if text.contains("TLS handshake") => StoreError::Tls { path, why },
        text if text.contains("authentication") || text.contains("configuration") => {
            StoreError::Login { path, why }
        }
        _ => StoreError::Unreachable { path, why },
    }
}

/// Whether it is that of a host that was asked for writes and takes none: the driver says so in these words only.
pub(super) fn denies_writes(error: &Error) -> bool {
    chain(error).contains("does not allow writes")
}

fn message(error: &DbError) -> String {
    format!("{} ({})", one_line(error.message()), error.code().code())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The error with those that caused it.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    one_line(&text)
}

/// By the code of the SQL standard and of PostgreSQL.
fn of_server(path: &str, code: &str, why: String) -> StoreError {
    let path = path.to_owned();
    match code {
        "28P01" | "28000" => StoreError::Login { path, why },
        "3D000" => StoreError::NoDatabase(path),
        // The second: the schema is not one that the user may use.
        "42501" | "3F000" => StoreError::Denied { path, why },
        "53100" => StoreError::Full(path),
        "53300" => StoreError::Crowded { path, why },
        "55P03" | "40P01" | "40001" => StoreError::Busy(path),
        "57014" => StoreError::Slow { path, why },
        "25006" => StoreError::Replica { path, why },
        "57P03" => StoreError::Unreachable { path, why },
        "25P03" | "25P04" | "57P01" | "57P02" | "57P05" => StoreError::Lost { path, why },
        "XX001" | "XX002" => StoreError::Corrupt { path, why },
        code if code.starts_with("08") => StoreError::Lost { path, why },
        code if OF_SERVER.iter().any(|class| code.starts_with(class)) => {
            StoreError::Database { path, why }
        }
        // What a table, its columns, constraints, indexes, rules, policies or triggers do not take: a trigger may say so
        // with any code.
        _ => StoreError::Rejected { path, why },
    }
}

/// Classes of what the server or the transaction lacks, whatever the rows.
const OF_SERVER: [&str; 9] = ["25", "2D", "34", "40", "53", "57", "58", "F0", "XX"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_to_do() {
        for (code, transient, want) in [
            ("28P01", false, "refuses the login"),
            ("28000", false, "check user and password"),
            ("3D000", false, "create it"),
            ("42501", false, "grant it"),
            ("3F000", false, "grant it"),
            ("53100", true, "no space is left"),
            ("53300", true, "no connection left"),
            ("55P03", true, "locked by another program"),
            ("40P01", true, "try again"),
            ("57014", true, "no answer in time"),
            ("25006", true, "name the primary"),
            ("57P03", true, "cannot be reached"),
            ("57P01", true, "connection to the server is lost"),
            ("25P03", true, "connection to the server is lost"),
            ("25P04", true, "connection to the server is lost"),
            ("08006", true, "connection to the server is lost"),
            ("XX001", false, "is damaged"),
            ("42P01", true, "see the message of the database"),
        ] {
            let error = of_server("postgres://u@h/d", code, "planted".to_owned());
            let text = error.to_string();
            assert!(text.starts_with("postgres://u@h/d: ") && text.contains(want), "{text}");
            assert_eq!(error.is_transient(), transient, "{text}");
            assert_eq!(text.lines().count(), 1);
        }
    }
}
