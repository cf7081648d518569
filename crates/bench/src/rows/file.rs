//! Row 17: one persona alone changes a shared file, against reading, changing and replacing it by hand with the same syncs.

use std::convert::Infallible;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use commonhold_file::SharedFile;
use serde_json::{Value, json};
use tempfile::Builder;

use crate::measure::{Way, each, in_turns};
use crate::report::{Line, Report};
use crate::{Effort, Outcome};

/// Concepts in the file.
const SIZES: [usize; 3] = [2, 20, 200];

/// Row 17.
pub(crate) fn alone(effort: Effort, report: &mut Report) -> Outcome {
    for count in SIZES {
        // Beside other files of a user: where thousands of files come and go, ext4 looks longer for a free inode.
        let folder = Builder::new().prefix("commonhold-bench-").tempdir_in(".")?;
        let [ours, peer] = ["ours.jsonc", "peer.json"].map(|name| folder.path().join(name));
        let text = serde_json::to_string_pretty(&concepts(count))?;
        for path in [&ours, &peer] {
            std::fs::write(path, &text)?;
        }
        let file = SharedFile::new(&ours);
        let turns = effort.of(200, 20);
        let ways: [Way<'_>; 2] = [
            Box::new(|| each(20, |number| shared(&file, number))),
            Box::new(|| each(20, |number| by_hand(&peer, number))),
        ];
        let [ours, peer] = in_turns(turns, ways)?;
        let ratio = ours.median / peer.median;
        let what = format!("one persona alone, {count} concepts, {} bytes", text.len());
        let line = Line::new(17, what, ours.to_string())
            .peer(format!("read, change, write, fsync, rename, fsync {peer}"))
            .ratio(format!("{ratio:.2}"));
        report.add(&line.target("≤ 1.1 ×", ratio <= 1.1));
    }
    Ok(())
}

fn concepts(count: usize) -> Value {
    let concept = |number: usize| {
        json!({
            "name": format!("concept {number}"), "description": "what somebody has learned of it, in a sentence",
            "level": 0.5, "confidence": 0.75, "updated_at": 1_763_000_000 + number, "learned_by": "persona-7"
        })
    };
    json!({ "concepts": (0..count).map(concept).collect::<Vec<_>>() })
}

/// Raises the level of one concept.
fn learn(value: &mut Value, number: u64) {
    let concepts = value.get_mut("concepts").and_then(Value::as_array_mut);
    let Some(concepts) = concepts else { return };
    let at = number as usize % concepts.len().max(1);
    if let Some(concept) = concepts.get_mut(at) {
        let level = concept.get("level").and_then(Value::as_f64).unwrap_or_default();
        concept["level"] = json!(level + 0.125);
    }
}

fn shared(file: &SharedFile, number: u64) -> Outcome {
    file.update(|value| {
        learn(value, number);
        Ok::<_, Infallible>(())
    })?;
    Ok(())
}

fn by_hand(path: &Path, number: u64) -> Outcome {
    let mut value: Value = serde_json::from_slice(&std::fs::read(path)?)?;
    learn(&mut value, number);
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(&serde_json::to_vec_pretty(&value)?)?;
    file.sync_all()?;
    drop(file);
    std::fs::rename(&temporary, path)?;
    File::open(path.parent().ok_or("no folder")?)?.sync_all()?;
    Ok(())
}
