//! Starting and stopping: nothing is left, nothing acknowledged is lost, and what cannot start says why.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use common::{Client, LIMIT, World, get};
use commonhold_server::{ServeError, Server};

#[test]
fn it_serves_and_stops() {
    let world = World::new();
    let server = world.serve();
    let health = get(server.address(), "/healthz");
    assert_eq!(health.status, 200, "{health:?}");
    assert_eq!(get(server.address(), "/readyz").status, 200);
    let metrics = get(server.address(), "/metrics");
    assert!(metrics.text().contains("# TYPE commonhold_"), "{metrics:?}");
    get(server.address(), "/nothing").problem(404);
    server.stop().unwrap();
    assert!(std::net::TcpStream::connect(server.address()).is_err());
    server.stop().unwrap();
}
