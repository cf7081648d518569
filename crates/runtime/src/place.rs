//! Names: which file a segment's name means, and which store it has when none is named.

use std::path::{Path, PathBuf};

/// The segment that is meant when none is named.
pub const DEFAULT_SEGMENT: &str = "default";

/// The file of a segment: a name is a file under `/dev/shm`, anything with a slash is a path.
#[must_use]
pub fn segment_path(name: &str) -> PathBuf {
    if name.contains('/') {
        std::path::absolute(name).unwrap_or_else(|_| PathBuf::from(name))
    } else {
        Path::new(commonhold_os::mapping::SHM_FOLDER).join(format!("commonhold.{name}"))
    }
}

/// The store of a segment for which none is named: `sqlite:` beside a path, or in the user's data folder
/// (`$XDG_DATA_HOME/commonhold`, else `~/.local/share/commonhold`) for a name.
#[must_use]
pub fn default_store(name: &str) -> String {
    if name.contains('/') {
        return format!("sqlite:{}.db", segment_path(name).display());
    }
    let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|p| p.is_absolute());
    let home = || std::env::var_os("HOME").map(|h| Path::new(&h).join(".local/share"));
    let folder = data.or_else(home).unwrap_or_else(std::env::temp_dir);
    format!("sqlite:{}", folder.join("commonhold").join(format!("{name}.db")).display())
}

/// The file whose lock creators and removers of a segment hold.
#[must_use]
pub fn lock_path(segment: &Path) -> PathBuf {
    let mut name = segment.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}
