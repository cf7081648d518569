//! Passwords and encrypted connections.

use std::path::{Path, PathBuf};
use std::process::Command;

use commonhold_testing::postgres::{Options, PASSWORD, Server};

use super::*;

/// Makes a certificate for `localhost` in `folder`; gives the files of certificate and key.
fn certificate(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    let (file, key) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
    let config = folder.join("openssl.cnf");
    let text = "[req]\ndistinguished_name=n\nx509_extensions=e\nprompt=no\n[n]\nCN=localhost\n\
                [e]\nsubjectAltName=DNS:localhost\nbasicConstraints=critical,CA:FALSE\n";
    std::fs::write(&config, text).unwrap();
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-days", "36500", "-config"])
        .arg(&config)
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&file)
        .output()
        .expect("no openssl; install it, for instance by: apt-get install openssl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (file, key)
}

/// A server that encrypts, and the certificate that it shows.
fn encrypting(folder: &Path) -> (Server, PathBuf) {
    let (file, key) = certificate(folder, "server");
    let server = Server::with(Options { tcp: true, ..Options::default() });
    for (from, to) in [(&file, "server.crt"), (&key, "server.key")] {
        server.put(to, &std::fs::read(from).unwrap());
    }
    sql(&server.url("postgres"), "ALTER SYSTEM SET ssl = on");
    server.restart();
    (server, file)
}

#[test]
fn encryption_is_what_the_url_asks_for() {
    let folder = tempfile::tempdir().unwrap();
    let (server, root) = encrypting(folder.path());
    let (other, _) = certificate(folder.path(), "other");
    let url = server.tcp_url("postgres");
    let ssl = |mode: &str| format!("{url}&sslmode={mode}");
    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                     WHERE ssl AND application_name LIKE 'commonhold%'";
    for (mode, want) in [("disable", "0\n"), ("prefer", "1\n"), ("require", "1\n")] {
        let store = claimed(&ssl(mode));
        assert_eq!(sql(&server.url("postgres"), encrypted), want, "{mode}");
        drop(store);
    }
    let named = |root: &Path| format!("{}&sslrootcert={}", ssl("verify-full"), root.display());
    let by_name = |url: String| url.replace("127.0.0.1", "localhost");
    claimed(&by_name(named(&root)));
    // Another's certificate, another name than the certificate's, the system's roots, and no such file.
    let missing = folder.path().join("missing.pem");
    for url in [
        by_name(named(&other)),
        named(&root),
        by_name(ssl("verify-full")),
        by_name(named(&missing)),
    ] {
        let error = refusal(&url, false);
        assert!(matches!(error, StoreError::Tls { .. }), "{error}");
        assert!(!error.to_string().contains(PASSWORD), "{error}");
    }
}

#[test]
fn a_server_that_does_not_encrypt_is_refused_where_it_must() {
    let server = Server::with(Options { tcp: true, ..Options::default() });
    claimed(&server.tcp_url("postgres"));
    let error = refusal(&format!("{}&sslmode=require", server.tcp_url("postgres")), false);
    assert!(matches!(error, StoreError::Tls { .. }), "{error}");
    // Nobody stands between the ends of a socket.
    claimed(&format!("{}&sslmode=require", server.url("postgres")));
}

#[test]
fn the_normal_form_suffices_to_connect() {
    let server = Server::with(Options { tcp: true, ..Options::default() });
    let url = server.tcp_url("postgres");
    let normal = normalise(&url).unwrap();
    assert!(!normal.contains("p%40ss") && !normal.contains(PASSWORD), "{normal}");
    let store = claimed(&normal);
    assert_eq!(store.url(), normal);
    assert!(!format!("{:?}", store.url()).contains("p%40ss"));
    // A process that was never told reads it from a file.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("word");
    std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let account = "SELECT 1; CREATE ROLE other LOGIN SUPERUSER PASSWORD ";
    sql(&server.url("postgres"), &format!("{account}'{PASSWORD}'"));
    let plain = normal.replacen("commonhold@", "other@", 1);
    assert!(matches!(refusal(&plain, false), StoreError::Login { .. }));
    let named = format!("{plain}&password_file={}", file.display());
    assert_eq!(claimed(&named).url(), normalise(&named).unwrap());
}
