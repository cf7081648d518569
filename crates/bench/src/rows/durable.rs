//! Rows 7 and 8: commits that wait for the store, against what the store alone takes.

use std::path::Path;
use std::time::{Duration, Instant};

use commonhold::catalogue::{Catalogue, History, TableSpec};
use commonhold::core::row::{Row, WriterId};
use commonhold::core::schema::Schema;
use commonhold::core::value::Value;
use commonhold::hash::{record_prefix, state_hash};
use commonhold::store::{Batch, SegmentIdentity, TableBatch, open};
use rusqlite::{Connection, params};

use crate::crew::Crew;
use crate::measure::{Figure, Way, each, in_turns};
use crate::place::{LATEST, Place, RECORDS, Sample256, find, folder, key};
use crate::report::{Line, Report, rate, time};
use crate::worker::Job;
use crate::{Effort, Outcome};

/// Rows of one transaction of the limit.
pub(super) const BATCH: usize = 1000;

/// Row 7.
pub(crate) fn commits(effort: Effort, report: &mut Report) -> Outcome {
    let waiters = effort.of(1000, 100);
    let place = Place::both::<244>(waiters as u32 + 16, 65_536)?;
    let crew = Crew::start(waiters, &place.path()?)?;
    let kinds = [
        ("latest", History::Latest, Job::DurableLatest),
        ("full", History::Full, Job::DurableFull),
    ];
    // Each of these commits ends with a process that wakes: more than these nobody can have.
    let wakes = crew.wakes(waiters, Duration::from_millis(effort.of(2000, 700)))?;
    for (name, history, job) in kinds {
        let (mut ours, mut limit, mut tail) = (Vec::new(), Vec::new(), 0.0);
        for _ in 0..effort.of(3, 1) {
            let folder = folder()?;
            let url = format!("sqlite:{}", folder.path().join("limit.db").display());
            limit.push(store_rate(&url, history, effort.of(100, 20))?);
            let round = crew.round(job, waiters, Duration::from_millis(effort.of(2000, 700)))?;
            ours.push(round.rate);
            tail = round.quantile(0.999);
        }
        let [ours, limit] = [ours, limit].map(|mut s| Figure::of(&mut s).median);
        let what = format!("durable commits, {waiters} waiters, {name} history");
        let line = Line::new(7, what, format!("{} (99.9 % ≤ {})", rate(ours), time(tail)))
            .limit(format!(
                "the store alone, {BATCH} rows a transaction {}; waking alone {}",
                rate(limit),
                rate(wakes)
            ))
            .ratio(format!(
                "{:.0} % of the store, {:.0} % of waking",
                100.0 * ours / limit,
                100.0 * ours / wakes
            ));
        let reached = ours >= 0.8 * limit;
        report.add(&if waiters == 1000 { line.target("≥ 80 %", reached) } else { line });
    }
    Ok(())
}

/// Versions of the records of row 7 in the order of their making.
fn rows(schema: &Schema, count: usize) -> Outcome<Vec<Row>> {
    let row = |i: usize| {
        let (number, version) = (i % RECORDS as usize, (i / RECORDS as usize + 1) as u64);
        let (key, mut payload) = (key(number), Vec::new());
        let values = [Value::I64(version as i64), Value::Bytes(vec![7; 244])];
        schema.encode(&values, &mut payload).map_err(|(_, error)| error)?;
        Ok(Row {
            hash: state_hash(record_prefix(LATEST, &key), version, &payload),
            clock: vec![version; 8],
            writer: WriterId::new(1, number as u16, 1),
            sequence: version,
            committed_at: 1_700_000_000_000_000 + i as i64,
            deleted: false,
            key,
            payload,
            version,
        })
    };
    (0..count).map(row).collect()
}

/// How many rows a second the empty store at `url` takes from a loop that does nothing else.
pub(super) fn store_rate(url: &str, history: History, batches: usize) -> Outcome<f64> {
    let mut store = open(url)?;
    let fields = ["value:i64", "rest:bytes(244)"].map(str::parse);
    let schema = Schema::new(fields.into_iter().collect::<Result<_, _>>()?)?;
    let mut spec = TableSpec::new(LATEST, schema.clone());
    spec.history = history;
    let segment = SegmentIdentity::here([1; 16], Path::new("bench"), String::new());
    store.claim(&segment, &Catalogue::new(16, 8, vec![spec])?)?;
    let all = rows(&schema, batches * BATCH)?;
    let batch = |rows: &[Row]| Batch {
        tables: vec![TableBatch { rows: rows.to_vec(), ..TableBatch::default() }],
        ..Batch::default()
    };
    let made: Vec<Batch> = all.chunks(BATCH).map(batch).collect();
    let start = Instant::now();
    for batch in &made {
        store.append(batch)?;
    }
    Ok(all.len() as f64 / start.elapsed().as_secs_f64())
}

/// Row 8.
pub(crate) fn latency(effort: Effort, report: &mut Report) -> Outcome {
    let place = Place::both::<244>(16, 0)?;
    let table = place.runtime.table::<Sample256>(LATEST)?;
    let record = find(&table, 1)?.first().copied().ok_or("no record")?;
    let raw = Connection::open(place.folder.path().join("raw.db"))?;
    raw.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;
         CREATE TABLE t(key TEXT PRIMARY KEY, value INTEGER, rest BLOB, version INTEGER);",
    )?;
    let mut upsert = raw.prepare(
        "INSERT INTO t VALUES(?,?,?,?) ON CONFLICT(key) DO UPDATE SET
         value=excluded.value, rest=excluded.rest, version=excluded.version",
    )?;
    let (key, rest) = (key(0), vec![7_u8; 244]);
    let mut version = 0;
    let ways: [Way<'_>; 2] = [
        Box::new(|| {
            each(1, |_| {
                let done = table.update_at(record, |sample| sample.value += 1)?;
                Ok(done.ok_or("the record is gone")?.durable(Duration::from_secs(60))?)
            })
        }),
        Box::new(|| {
            version += 1;
            each(1, |_| {
                upsert.execute(params![key, version, rest, version])?;
                Ok(())
            })
        }),
    ];
    let [ours, limit] = in_turns(effort.of(1000, 200), ways)?;
    let ratio = ours.median / limit.median;
    let line = Line::new(8, "durable latency, one waiter", ours.to_string())
        .limit(format!("one SQLite FULL transaction {limit}"))
        .ratio(format!("{ratio:.2} × limit"));
    report.add(&line.target("≤ 1.3 × limit", ratio <= 1.3));
    Ok(())
}
