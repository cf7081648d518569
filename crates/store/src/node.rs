//! Which machine this is: an id that stays from boot to boot, and the host's name for people.
//!
//! The id is a SHA-256 of the machine's id (`/etc/machine-id`, else that of D-Bus) with a constant of ours, as the
//! manual page machine-id(5) asks for. A machine without one, as containers often are, is known by its host name, which
//! stays as long as nobody renames it. Two machines that were copied from one image together with that file count as one.

use sha2::{Digest, Sha256};

use crate::chain::hex;

/// What the machine's id is hashed with.
const OURS: &[u8] = b"commonhold node 1";
/// Where a machine's id stands.
const MACHINE_ID: [&str; 2] = ["/etc/machine-id", "/var/lib/dbus/machine-id"];
/// Where the host's name stands.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";
/// The hexadecimal digits of a machine's id; `uninitialized` is none.
const MACHINE_ID_DIGITS: usize = 32;

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Node {
    /// 32 hexadecimal digits.
    pub id: String,
    /// The host's name, for people.
    pub host: String,
}

impl Node {
    /// This machine.
    #[must_use]
    pub fn this() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).map(|text| text.trim().to_owned());
        let host = read(HOST_NAME).unwrap_or_default();
        let machine = MACHINE_ID.iter().find_map(|path| read(path).ok().filter(|id| is_id(id)));
        Self::of(machine.as_deref(), &host)
    }

    fn of(machine: Option<&str>, host: &str) -> Self {
        let (kind, name) = machine.map_or((&b"host"[..], host), |id| (&b"machine"[..], id));
        let hash = Sha256::new().chain_update(OURS).chain_update(kind).chain_update(name);
        let id = hash.finalize().first_chunk::<16>().map(|id| hex(id)).unwrap_or_default();
        Self { id, host: host.to_owned() }
    }
}

fn is_id(text: &str) -> bool {
    text.len() == MACHINE_ID_DIGITS && text.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_told_by_its_id_and_else_by_its_name() {
        let machine = "0123456789abcdef0123456789abcdef";
        assert!(is_id(machine) && !is_id("uninitialized") && !is_id(""));
        let renamed = [Node::of(Some(machine), "a"), Node::of(Some(machine), "b")];
        assert_eq!(renamed[0].id, renamed[1].id, "the name is for people");
        assert!(!renamed[0].id.contains(&machine[..8]) && renamed[0].id.len() == 32);
        let nameless = [Node::of(None, "a"), Node::of(None, "b"), Node::of(Some("a"), "a")];
        assert_ne!(nameless[0].id, nameless[1].id);
        assert_ne!(nameless[0].id, nameless[2].id);
        assert_eq!(Node::this(), Node::this());
    }
}
