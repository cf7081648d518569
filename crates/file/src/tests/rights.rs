//! What a new version may not give to anybody, and what cannot be written.

use std::time::Duration;

use rustix::fs::{XattrFlags, fgetxattr, fsetxattr};

use super::*;

const ACL: &str = "system.posix_acl_access";
const DEFAULT_ACL: &str = "system.posix_acl_default";

/// A list: the owner, a user by number, the file's group, the mask, others; each with its rights.
fn list(owner: u16, user: (u32, u16), group: u16, mask: u16, others: u16) -> Vec<u8> {
    let none = u32::MAX;
    let entries = [
        (1, owner, none),
        (2, user.1, user.0),
        (4, group, none),
        (16, mask, none),
        (32, others, none),
    ];
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (kind, rights, who) in entries {
        bytes.extend(u16::to_le_bytes(kind));
        bytes.extend(u16::to_le_bytes(rights));
        bytes.extend(u32::to_le_bytes(who));
    }
    bytes
}

fn acl(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = [0; 256];
    let length = fgetxattr(std::fs::File::open(path).unwrap(), ACL, &mut bytes[..]).ok()?;
    Some(bytes[..length].to_vec())
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn an_access_control_list_stays_and_gives_the_group_nothing() {
    let place = Place::new("{}");
    std::fs::set_permissions(&place.path, PermissionsExt::from_mode(0o600)).unwrap();
    let list = list(6, (1000, 6), 0, 6, 0);
    let file = std::fs::File::open(&place.path).unwrap();
    fsetxattr(&file, ACL, &list, XattrFlags::empty()).expect("the folder of tests has lists");
    set(&place.file(), "a", json!(1));
    assert_eq!(acl(&place.path), Some(list));
    assert_eq!(mode(&place.path), 0o660);
}

#[test]
fn the_list_that_a_folder_gives_its_files_opens_nothing() {
    let place = Place::new("{}");
    std::fs::set_permissions(&place.path, PermissionsExt::from_mode(0o640)).unwrap();
    let folder = std::fs::File::open(place.folder.path()).unwrap();
    let list = list(7, (1000, 7), 5, 7, 0);
    fsetxattr(&folder, DEFAULT_ACL, &list, XattrFlags::empty())
        .expect("the folder of tests has lists");
    set(&place.file(), "a", json!(1));
    assert_eq!((acl(&place.path), mode(&place.path)), (None, 0o640));
}

#[test]
fn a_mode_stays_whatever_the_umask() {
    for umask in [0, 0o022, 0o077] {
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(umask));
        for kept in [0o600, 0o640, 0o644, 0o666, 0o755, 0o4755] {
            let place = Place::new("{}");
            std::fs::set_permissions(&place.path, PermissionsExt::from_mode(kept)).unwrap();
            set(&place.file(), "a", json!(1));
            let mode = std::fs::metadata(&place.path).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, kept, "umask {umask:o}");
        }
    }
}

#[test]
fn what_could_not_be_read_again_is_not_written() {
    let place = Place::new("{\"a\": \"\"}");
    let file = place.file().bytes_max(100);
    let error = try_set(&file, "a", json!("x".repeat(200))).unwrap_err();
    assert!(matches!(error, FileError::TooLarge { bytes: 209, limit: 100, .. }), "{error}");
    assert_eq!(place.text(), "{\"a\": \"\"}");
    assert_eq!(place.others(), [""; 0]);
}

#[test]
fn doubles_are_read_as_they_are_written() {
    let place = Place::new("{}");
    let mut bits = 0x9e37_79b9_7f4a_7c15_u64;
    let numbers: Vec<f64> = std::iter::repeat_with(|| {
        bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from_bits(bits)
    })
    .filter(|number| number.is_finite())
    .take(5000)
    .collect();
    set(&place.file(), "numbers", json!(numbers));
    let read = place.file().read().unwrap().unwrap();
    let same = |(value, number): (&Value, &f64)| {
        value.as_f64().map(f64::to_bits) == Some(number.to_bits())
    };
    assert!(read["numbers"].as_array().unwrap().iter().zip(&numbers).all(same));
}

#[test]
fn drafts_of_those_who_were_killed_go_when_they_are_old() {
    let place = Place::new("{}");
    let drafts =
        ["aa", "bb"].map(|n| place.folder.path().join(format!("settings.jsonc.alone-{n}.tmp")));
    for draft in &drafts {
        std::fs::write(draft, "{half of").unwrap();
    }
    let old = std::time::SystemTime::now() - Duration::from_secs(3600);
    let file = std::fs::OpenOptions::new().write(true).open(&drafts[0]).unwrap();
    file.set_times(std::fs::FileTimes::new().set_modified(old)).unwrap();
    let file = place.file();
    file.update_alone(|all| {
        all["a"] = json!(1);
        Ok::<_, Infallible>(())
    })
    .unwrap();
    assert_eq!(place.others(), ["settings.jsonc.alone-bb.tmp", "settings.jsonc.bak"]);
}
