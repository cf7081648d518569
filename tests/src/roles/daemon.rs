//! The daemon.

use std::net::{Ipv4Addr, SocketAddr};

use commonhold::Config;
use commonhold_server::{Server, ServerOptions};

use super::{Ended, say, told};
use crate::tasks::kinds;

/// Serves on a port that is free, and says which, until it is told anything; one worker process.
pub(super) fn serve(segment: &str, args: &[&str]) -> Ended {
    let [store] = args[..] else { return Err("serve: arguments".into()) };
    let mut options = ServerOptions::new(Config::named(segment).store(store));
    options.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    options.kinds = kinds();
    options.set_workers(1);
    let server = Server::start(options)?;
    say(&format!("serves {}", server.address()));
    told();
    Ok(server.stop()?)
}
