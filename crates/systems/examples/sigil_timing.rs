//! What sigils cost beside the inserts that they are made of: `cargo run --release --example sigil_timing`.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use commonhold_runtime::core::Inserted;
use commonhold_runtime::{Config, Runtime, TableConfig};
use commonhold_systems::sigils::{self, Payload, SigilCapacity, SigilIdentity, SigilOptions};

const COUNT: u32 = 50_000;

fn payload(n: u32) -> String {
    format!(r#"{{"agent":"a-{}","n":{n},"note":"{}"}}"#, n % 7, "remember this ".repeat(10))
}

/// Does `work` so often; prints the mean.
fn time(what: &str, mut work: impl FnMut(u32)) {
    let begin = Instant::now();
    (0..COUNT).for_each(&mut work);
    let each = begin.elapsed().as_secs_f64() * 1e6 / f64::from(COUNT);
    println!("{what:<50} {each:8.2} us each");
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::Builder::new().prefix("commonhold-timing-").tempdir_in("/dev/shm")?;
    let store = format!("sqlite:{}", folder.path().join("store.db").display());
    for store in ["none", &store] {
        println!("store {store}:");
        let capacity = SigilCapacity { sigils: 131_072, ..SigilCapacity::default() };
        let bare = ["last:text(33)", "payload:text(1600)"];
        let table = |name, field| TableConfig::new(name, &[field]).slots(60_000);
        let config = Config::named(&folder.path().join("segment").display().to_string());
        let config = sigils::configure(config.store(store), &capacity)
            .table(table("small", bare[0]))
            .table(table("large", bare[1]));
        let runtime = Runtime::open(config)?;
        let memory = SigilIdentity::open(&runtime, SigilOptions::new())?;
        let texts: Vec<String> = (0..COUNT).map(payload).collect();
        println!("payload of {} bytes", texts.first().map_or(0, String::len));
        let handle = runtime.handle()?;
        let [small, large] =
            ["small", "large"].map(|name| runtime.space().find_table(name).unwrap());
        time("two bare inserts of the same sizes", |n| {
            let text = texts.get(n as usize).unwrap();
            let mut record = (text.len() as u32 + 70).to_le_bytes().to_vec();
            record.extend_from_slice(&[b'x'; 70]);
            record.extend_from_slice(text.as_bytes());
            let key = format!("{n:016x}-{n:x}");
            let made = handle.insert(large, &key, &record).unwrap();
            assert!(matches!(made, Inserted::Committed(_)));
            let mut record = 18_u32.to_le_bytes().to_vec();
            record.extend_from_slice(&[b'x'; 18]);
            let made = handle.insert(small, key.get(..16).unwrap(), &record).unwrap();
            assert!(matches!(made, Inserted::Committed(_)));
        });
        runtime.drain(Duration::from_secs(60))?;
        time("canonical form of text", |n| {
            Payload::Text(texts.get(n as usize).unwrap()).canonical().unwrap();
        });
        let mut ids = Vec::new();
        let begin = Instant::now();
        time("encode", |n| {
            ids.push(memory.encode_sigil_memory(texts.get(n as usize).unwrap()).unwrap().id);
        });
        runtime.drain(Duration::from_secs(60))?;
        println!("all in the store after {:.0} ms", begin.elapsed().as_secs_f64() * 1e3);
        time("encode an equal one", |n| {
            memory.encode_sigil_memory(texts.get(n as usize).unwrap()).unwrap();
        });
        runtime.drain(Duration::from_secs(60))?;
        time("get", |n| drop(memory.get(*ids.get(n as usize).unwrap()).unwrap()));
        time("recall", |n| drop(memory.recall(*ids.get(n as usize).unwrap()).unwrap()));
        runtime.drain(Duration::from_secs(60))?;
        for _ in 0..3 {
            println!("{:?}", memory.process_memory_decay()?);
        }
        let begin = Instant::now();
        let done = memory.crystallize_memory_patterns()?;
        println!("{done:?} in {:.1} ms", begin.elapsed().as_secs_f64() * 1e3);
        drop((handle, memory));
        let path = runtime.path().map(std::path::Path::to_owned);
        drop(runtime);
        path.map_or(Ok(()), std::fs::remove_file)?;
    }
    Ok(())
}
