//! Who may do what with a file: a new version gives nobody more than the old one did.
//!
//! **Sources**: acl(5), and the layout of `system.posix_acl_access` in the kernel's `posix_acl_xattr.h`.

use std::fs::{File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};

use rustix::fs::{XattrFlags, fgetxattr, fremovexattr, fsetxattr};
use rustix::io::Errno;

/// The access control list of a file, as an extended attribute.
const ACL: &str = "system.posix_acl_access";
/// The most bytes of an extended attribute.
const ACL_BYTES_MAX: usize = 65_536;
/// The entry of the file's own group.
const GROUP_ENTRY: u16 = 0x04;

/// Mode, owner, group and access control list.
#[derive(Debug, Clone)]
pub(crate) struct Rights {
    mode: u32,
    owner: (u32, u32),
    acl: Option<Vec<u8>>,
}

impl Rights {
    pub(crate) fn of(file: &File, meta: &Metadata) -> Self {
        Self { mode: meta.mode() & 0o7777, owner: (meta.uid(), meta.gid()), acl: acl(file) }
    }

    /// The mode with which a new file can be made at once, where new files have the owner `given` and no list.
    pub(crate) fn at_once(&self, given: Option<(u32, u32)>) -> Option<u32> {
        (self.acl.is_none() && given == Some(self.owner)).then_some(self.mode & 0o777)
    }

    /// What the umask took from a file that was made with its mode.
    pub(crate) fn complete(&self, file: &File) -> io::Result<()> {
        if file.metadata()?.mode() & 0o7777 == self.mode {
            return Ok(());
        }
        file.set_permissions(Permissions::from_mode(self.mode))
    }

    /// Gives them to a new file. Who may not give a file away keeps it, with no more rights for others than before.
    pub(crate) fn give(&self, file: &File) -> io::Result<()> {
        let new = file.metadata()?;
        let mut mode = self.mode;
        if (new.uid(), new.gid()) != self.owner {
            let (user, group) = (Some(self.owner.0), Some(self.owner.1));
            let given = fchown(file, user, group).or_else(|_| fchown(file, None, group));
            if given.is_err() {
                // The group is another one: what it might do everybody may.
                mode &= 0o777;
                mode &= !0o070 | ((mode & 0o007) << 3);
            }
        }
        match &self.acl {
            Some(acl) if fsetxattr(file, ACL, acl, XattrFlags::empty()).is_ok() => {}
            // The bits of the group are the list's mask: without the list they would be the group's own rights.
            Some(acl) => mode &= !0o070 | (group_bits(acl) << 3),
            // The folder may give its files a list, and the mode would open its mask.
            None if self::acl(file).is_some() => fremovexattr(file, ACL)?,
            None => {}
        }
        if file.metadata()?.mode() & 0o7777 == mode {
            return Ok(());
        }
        file.set_permissions(Permissions::from_mode(mode))
    }
}

/// The list of a file; none where it has none, or the file system has no lists.
pub(crate) fn acl(file: &File) -> Option<Vec<u8>> {
    let mut small = [0; 256];
    match fgetxattr(file, ACL, &mut small[..]) {
        Ok(bytes) => small.get(..bytes).map(<[u8]>::to_vec),
        Err(Errno::RANGE) => {
            let mut acl = vec![0; ACL_BYTES_MAX];
            let bytes = fgetxattr(file, ACL, &mut acl[..]).ok()?;
            acl.truncate(bytes);
            Some(acl)
        }
        Err(_) => None,
    }
}

/// What the file's own group may do by a list: a header of 4 bytes, then 8 an entry: kind, rights, who.
fn group_bits(acl: &[u8]) -> u32 {
    let entries = acl.get(4..).unwrap_or_default().as_chunks::<8>().0;
    let group =
        entries.iter().find(|[low, high, ..]| u16::from_le_bytes([*low, *high]) == GROUP_ENTRY);
    group.map_or(0, |entry| u32::from(entry[2]) & 0o7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_made_with_its_mode_only_where_nobody_else_would_get_it() {
        let rights = Rights { mode: 0o4640, owner: (1, 2), acl: None };
        assert_eq!(rights.at_once(Some((1, 2))), Some(0o640));
        for given in [None, Some((1, 3)), Some((3, 2))] {
            assert_eq!(rights.at_once(given), None);
        }
        let listed = Rights { acl: Some(Vec::new()), ..rights };
        assert_eq!(listed.at_once(Some((1, 2))), None);
    }
}
