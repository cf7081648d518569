//! Which crate of the workspace may depend on which: only on lower ones.

use serde_json::Value;

/// The crates from the lowest to the highest. Those of one layer do not know each other.
pub const LAYERS: [&[&str]; 10] = [
    &["commonhold-os"],
    &["commonhold-segment", "commonhold-file"],
    &["commonhold-core"],
    &["commonhold-store", "commonhold-derive"],
    &["commonhold-runtime"],
    &["commonhold-workers"],
    &["commonhold-systems"],
    &["commonhold"],
    &["commonhold-torture", "commonhold-server"],
    &["commonhold-cli"],
];

/// Crates that depend on none of the workspace: they are used while others are compiled.
pub const ALONE: [&str; 1] = ["commonhold-derive"];

/// Crates for developers: they may depend on anything, and nothing that is shipped depends on them.
pub const FOR_DEVELOPERS: [&str; 4] =
    ["commonhold-testing", "commonhold-bench", "commonhold-tests", "commonhold-proof"];

/// A crate of the workspace, with the crates of the workspace that it is built from. Dev-dependencies are not
/// among them: tests may use what they like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// The crates of the workspace that it depends on.
    pub needs: Vec<String>,
}

/// Reads what `cargo metadata --no-deps --format-version 1` prints.
///
/// # Errors
/// What is missing from it.
pub fn packages(metadata: &str) -> Result<Vec<Package>, String> {
    let metadata: Value = serde_json::from_str(metadata).map_err(|e| e.to_string())?;
    array(&metadata, "packages")?.iter().map(package).collect()
}

fn package(package: &Value) -> Result<Package, String> {
    let mut needs = Vec::new();
    for dependency in array(package, "dependencies")? {
        let in_workspace = dependency.get("path").is_some_and(Value::is_string);
        let for_tests = dependency.get("kind").and_then(Value::as_str) == Some("dev");
        if in_workspace && !for_tests {
            needs.push(string(dependency, "name")?);
        }
    }
    Ok(Package { name: string(package, "name")?, needs })
}

fn array<'a>(value: &'a Value, name: &str) -> Result<&'a Vec<Value>, String> {
    value
        .get(name)
        .and_then(Value::as_array)
        .ok_or_else(|| format!("cargo metadata without `{name}`"))
}

fn string(value: &Value, name: &str) -> Result<String, String> {
    let text = value.get(name).and_then(Value::as_str);
    text.map(str::to_owned).ok_or_else(|| format!("cargo metadata without `{name}`"))
}

/// The dependencies that do not run downward, and the crates that no layer names.
#[must_use]
pub fn upward(packages: &[Package]) -> Vec<String> {
    let mut broken = Vec::new();
    for Package { name, needs } in packages {
        if FOR_DEVELOPERS.contains(&name.as_str()) {
            continue;
        }
        let Some(layer) = layer_of(name) else {
            broken.push(format!("{name} stands in no layer; add it to LAYERS in crates/testing"));
            continue;
        };
        for need in needs {
            let lower = layer_of(need).is_some_and(|other| other < layer);
            if !lower || ALONE.contains(&name.as_str()) {
                broken.push(format!("{name} depends on {need}, which is not below it"));
            }
        }
    }
    broken
}

fn layer_of(name: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(name: &str, needs: &[&str]) -> Package {
        Package { name: name.to_owned(), needs: needs.iter().map(|n| (*n).to_owned()).collect() }
    }

    #[test]
    fn downward_is_allowed() {
        let good = [
            needs("commonhold-os", &[]),
            needs("commonhold-core", &["commonhold-os", "commonhold-segment"]),
            needs("commonhold-runtime", &["commonhold-derive", "commonhold-store"]),
            needs("commonhold-bench", &["commonhold-testing", "commonhold-cli"]),
        ];
        assert_eq!(upward(&good), [""; 0]);
    }

    #[test]
    fn upward_sideways_and_itself_are_not() {
        for (name, need) in [
            ("commonhold-os", "commonhold-segment"),
            ("commonhold-core", "commonhold-runtime"),
            ("commonhold-store", "commonhold-derive"),
            ("commonhold-core", "commonhold-core"),
            ("commonhold-derive", "commonhold-os"),
            ("commonhold-cli", "commonhold-testing"),
            ("commonhold-cli", "commonhold-unheard-of"),
        ] {
            let broken = upward(&[needs(name, &["commonhold-unused", need])]);
            assert!(
                broken.contains(&format!("{name} depends on {need}, which is not below it")),
                "{broken:?}"
            );
        }
    }

    #[test]
    fn a_crate_without_a_layer_is_told() {
        let broken = upward(&[needs("commonhold-new", &[])]);
        assert_eq!(broken.len(), 1, "{broken:?}");
        assert!(broken[0].contains("no layer"), "{broken:?}");
    }

    #[test]
    fn metadata_gives_the_dependencies_within_the_workspace() {
        let metadata = r#"{"packages": [{"name": "a", "dependencies": [
            {"name": "b", "kind": null, "path": "/b"}, {"name": "c", "kind": "build", "path": "/c"},
            {"name": "d", "kind": "dev", "path": "/d"}, {"name": "serde", "kind": null}]}]}"#;
        assert_eq!(packages(metadata), Ok(vec![needs("a", &["b", "c"])]));
        assert!(packages("{}").is_err());
        assert!(packages(r#"{"packages": [{"dependencies": []}]}"#).is_err());
    }
}
