//! Many at once.

use proptest::prelude::*;

use super::*;

/// So long nobody waits here.
fn patient(path: &Path) -> SharedFile {
    SharedFile::new(path).patience(Patience::new().limit(std::time::Duration::from_secs(120)))
}

#[test]
fn threads_count_to_the_last_one() {
    let place = Place::empty();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..25 {
                    let done = patient(&place.path).update(|all| {
                        all["n"] = json!(all["n"].as_u64().unwrap_or(0) + 1);
                        Ok::<_, Infallible>(())
                    });
                    assert!(done.unwrap().written);
                }
            });
        }
    });
    assert_eq!(place.file().read().unwrap(), Some(json!({"n": 200})));
    assert_eq!(place.others(), ["settings.jsonc.bak"]);
}

#[derive(Debug, Clone)]
enum Change {
    Add(u8, u8),
    Set(u8, u8),
    Remove(u8),
    Push(u8),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (0..6_u8, 1..9_u8).prop_map(|(name, by)| Change::Add(name, by)),
        (6..12_u8, any::<u8>()).prop_map(|(name, to)| Change::Set(name, to)),
        (6..12_u8).prop_map(Change::Remove),
        any::<u8>().prop_map(Change::Push),
    ]
}

fn make(change: &Change, thread: usize, all: &mut Value) {
    let name = |name: &u8| format!("n{name}");
    match change {
        Change::Add(at, by) => {
            let now = all[name(at)].as_u64().unwrap_or(0);
            all[name(at)] = json!(now + u64::from(*by));
        }
        Change::Set(at, to) => all[name(at)] = json!([thread, to]),
        Change::Remove(at) => drop(all.as_object_mut().unwrap().shift_remove(&name(at))),
        Change::Push(value) => match all["list"].as_array_mut() {
            Some(list) => list.push(json!([thread, value])),
            None => all["list"] = json!([[thread, value]]),
        },
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever threads do at once, it is as if they had done it one after the other in some order, each in his own.
    #[test]
    fn changes_at_once_are_changes_in_some_order(
        threads in prop::collection::vec(prop::collection::vec(change(), 1..8), 2..5),
    ) {
        let place = Place::new("{ // all\n}\n");
        let order = std::sync::Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for (thread, changes) in threads.iter().enumerate() {
                let (order, path) = (&order, &place.path);
                scope.spawn(move || {
                    for (at, change) in changes.iter().enumerate() {
                        let done = patient(path).update(|all| {
                            make(change, thread, all);
                            order.lock().unwrap().push((thread, at));
                            Ok::<_, Infallible>(())
                        });
                        done.unwrap();
                    }
                });
            }
        });
        let mut expected = json!({});
        let mut next = vec![0; threads.len()];
        for (thread, at) in order.into_inner().unwrap() {
            prop_assert_eq!(at, next[thread]);
            next[thread] += 1;
            make(&threads[thread][at], thread, &mut expected);
        }
        prop_assert_eq!(place.file().read().unwrap(), Some(expected));
        prop_assert!(place.text().contains("// all"));
    }
}
