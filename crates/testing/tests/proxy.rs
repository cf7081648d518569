//! The proxy before a server that sends everything back.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use commonhold_testing::proxy::{Proxy, Way};

/// An echo; its threads end with their connections, and with the test's process.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut from = stream.unwrap();
            std::thread::spawn(move || {
                let mut to = from.try_clone().unwrap();
                std::io::copy(&mut from, &mut to)
            });
        }
    });
    address
}

fn say(stream: &mut TcpStream, text: &str) -> String {
    stream.write_all(text.as_bytes()).unwrap();
    let mut heard = vec![0; text.len()];
    stream.read_exact(&mut heard).unwrap();
    String::from_utf8(heard).unwrap()
}

#[test]
fn bytes_go_through_unchanged() {
    let proxy = Proxy::start(echo());
    let mut one = TcpStream::connect(proxy.address()).unwrap();
    let mut two = TcpStream::connect(proxy.address()).unwrap();
    let long = "grüße ".repeat(20_000);
    let mut writer = one.try_clone().unwrap();
    let sent = long.clone();
    let writing = std::thread::spawn(move || writer.write_all(sent.as_bytes()).unwrap());
    assert_eq!(say(&mut two, "two"), "two");
    let mut heard = vec![0; long.len()];
    one.read_exact(&mut heard).unwrap();
    writing.join().unwrap();
    assert_eq!(String::from_utf8(heard).unwrap(), long);
    assert_eq!(proxy.connections(), 2);
    assert_eq!(proxy.passed(Way::ToClient), long.len() as u64 + 3);
}

#[test]
fn a_stalled_connection_stays_and_goes_on() {
    let proxy = Proxy::start(echo());
    let mut stream = TcpStream::connect(proxy.address()).unwrap();
    assert_eq!(say(&mut stream, "a"), "a");
    proxy.stall();
    stream.write_all(b"bc").unwrap();
    stream.set_nonblocking(true).unwrap();
    let error = stream.read(&mut [0; 2]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(proxy.passed(Way::ToServer), 1);
    stream.set_nonblocking(false).unwrap();
    proxy.mend();
    let mut heard = [0; 2];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"bc");
}

#[test]
fn a_connection_is_cut_behind_so_many_bytes() {
    let proxy = Proxy::start(echo());
    for (way, bytes) in [(Way::ToClient, 4), (Way::ToClient, 1), (Way::ToServer, 3)] {
        let mut stream = TcpStream::connect(proxy.address()).unwrap();
        let before = proxy.cuts();
        proxy.cut_after(way, bytes);
        stream.write_all(b"abcdefgh").unwrap();
        let mut heard = Vec::new();
        // Cut while bytes were under way: the end, or a reset.
        let _ = stream.read_to_end(&mut heard);
        assert!(b"abcdefgh".starts_with(&heard[..]) && heard.len() as u64 <= bytes, "{heard:?}");
        assert_eq!(proxy.cuts(), before + 1);
        let mut next = TcpStream::connect(proxy.address()).unwrap();
        assert_eq!(say(&mut next, "abcdefgh"), "abcdefgh", "only once");
    }
}

#[test]
fn connections_are_dropped_and_refused() {
    let proxy = Proxy::start(echo());
    let mut stream = TcpStream::connect(proxy.address()).unwrap();
    assert_eq!(say(&mut stream, "a"), "a");
    proxy.drop_connections();
    assert!(!matches!(stream.read(&mut [0; 1]), Ok(1..)));
    let mut stream = TcpStream::connect(proxy.address()).unwrap();
    assert_eq!(say(&mut stream, "b"), "b");
    proxy.refuse();
    let mut refused = TcpStream::connect(proxy.address()).unwrap();
    assert!(!matches!(refused.read(&mut [0; 1]), Ok(1..)));
    assert_eq!(say(&mut stream, "c"), "c", "those that are there stay");
    proxy.mend();
    let mut stream = TcpStream::connect(proxy.address()).unwrap();
    assert_eq!(say(&mut stream, "d"), "d");
}
