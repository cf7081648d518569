//! The text files of a working tree.

use std::io;
use std::path::Path;

/// A text file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextFile {
    /// Its path below the root of the repository, with `/`.
    pub path: String,
    /// Its text.
    pub text: String,
}

impl TextFile {
    /// The folder of the crate that the file belongs to: `core` of `crates/core/src/lib.rs`.
    #[must_use]
    pub fn crate_folder(&self) -> Option<&str> {
        self.path.strip_prefix("crates/")?.split_once('/').map(|(folder, _)| folder)
    }

    /// Whether this is Rust source.
    #[must_use]
    pub fn is_rust(&self) -> bool {
        Path::new(&self.path).extension().is_some_and(|extension| extension == "rs")
    }

    /// Whether this is Rust source of a crate itself, not of its tests, benches or examples.
    #[must_use]
    pub fn is_crate_source(&self) -> bool {
        self.is_rust() && self.path.split('/').nth(2) == Some("src")
    }
}

/// All text files below `root`, sorted by path. Left out are `.git`, build folders (`target` at the root, which has no
/// `CACHEDIR.TAG` when something else than cargo made it first; others known by theirs, wherever they stand), links, and
/// files that are not UTF-8.
///
/// # Errors
/// The first folder or file that cannot be read.
pub fn text_files(root: &Path) -> io::Result<Vec<TextFile>> {
    let mut files = Vec::new();
    walk(root, "", &mut files)?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn walk(folder: &Path, below: &str, files: &mut Vec<TextFile>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let (path, kind) = (entry.path(), entry.file_type()?);
        let build = below.is_empty() && name == "target" || path.join("CACHEDIR.TAG").exists();
        if kind.is_dir() && name != ".git" && !build {
            walk(&path, &format!("{below}{name}/"), files)?;
        } else if kind.is_file() {
            match std::fs::read_to_string(&path) {
                Ok(text) => files.push(TextFile { path: format!("{below}{name}"), text }),
                // Not text, or a temporary file that a test running beside this one has just removed.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::InvalidData | io::ErrorKind::NotFound
                    ) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> TextFile {
        TextFile { path: path.to_owned(), text: String::new() }
    }

    #[test]
    fn a_path_tells_the_crate_and_the_kind() {
        assert_eq!(file("crates/core/src/lib.rs").crate_folder(), Some("core"));
        assert_eq!(file("bin/commonhold/src/main.rs").crate_folder(), None);
        assert!(file("crates/core/src/a/b.rs").is_crate_source());
        assert!(file("bin/commonhold/src/main.rs").is_crate_source());
        assert!(!file("crates/core/tests/src/a.rs").is_crate_source());
        assert!(!file("crates/core/src/a.md").is_crate_source());
    }

    #[test]
    fn the_walk_finds_text_and_leaves_out_builds() {
        let root = std::env::temp_dir().join(format!("commonhold-tidy-{}", std::process::id()));
        for folder in [".git", "build", "target", "a/b", ".hidden"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        for path in [
            ".git/x",
            "build/CACHEDIR.TAG",
            "build/x",
            "target/x",
            "a/b/text",
            ".hidden/text",
            "top",
        ] {
            std::fs::write(root.join(path), "text").unwrap();
        }
        std::fs::write(root.join("a/bytes"), [0xff, 0xfe]).unwrap();
        let files = text_files(&root);
        std::fs::remove_dir_all(&root).unwrap();
        let paths: Vec<String> = files.unwrap().into_iter().map(|f| f.path).collect();
        assert_eq!(paths, [".hidden/text", "a/b/text", "top"]);
    }
}
