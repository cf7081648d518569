//! The records of two guards on the small segment, what a holder does with them, and what he must find.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use commonhold::{Error, Handle};
use commonhold_core::guard::{Grant, GuardRef, Patience};
use commonhold_core::intent::Planned;

use super::super::world::{World, payload, value_of};
use crate::Failure;
use crate::child::shared_words;
use crate::trace::{Traced, mark};

/// So long waits who must get a guard.
pub(super) const WITHIN: Patience = Patience::Within(Duration::from_secs(1));
/// The limit of the limited guard.
const HOLD_LIMIT: Duration = Duration::from_micros(200);

/// A guard and its records.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Guarded {
    pub(super) name: &'static str,
    limited: bool,
    /// Table and key. A section under a limited guard makes a version of what it looks at, of the same value.
    keys: &'static [(usize, &'static str)],
}

/// Without a hold limit.
pub(super) const FREE: Guarded =
    Guarded { name: "free", limited: false, keys: &[(0, "m"), (1, "n"), (1, "new"), (0, "a")] };
/// With one.
pub(super) const LIMITED: Guarded =
    Guarded { name: "limited", limited: true, keys: &[(1, "a"), (1, "b")] };

/// The same guard with records that are not there: one more than there is room for.
pub(super) const CROWDED: Guarded = Guarded {
    name: "limited",
    limited: true,
    keys: &[(1, "a"), (1, "b"), (1, "x1"), (1, "x2"), (1, "x3")],
};

/// A record of nobody's, in the place of which one of those fits.
pub(super) const ROOM: (usize, &str) = (1, "m");

/// The values of a guard's records; none where there is no record.
pub(super) type Values = Vec<Option<i64>>;

/// What a change makes of them.
pub(super) type Next = fn(&[Option<i64>]) -> Values;

/// Adds one to the first two.
pub(super) fn add(now: &[Option<i64>]) -> Values {
    now.iter().enumerate().map(|(i, value)| value.map(|v| v + i64::from(i < 2))).collect()
}

/// Adds one to the first, makes the third and deletes the fourth.
pub(super) fn renew(now: &[Option<i64>]) -> Values {
    let [first, second, ..] = now else { return Vec::new() };
    vec![first.map(|v| v + 1), *second, Some(7), None]
}

/// Adds one to the first and makes those that are not there.
pub(super) fn found(now: &[Option<i64>]) -> Values {
    now.iter()
        .enumerate()
        .map(|(i, value)| value.map_or(Some(7), |v| Some(v + i64::from(i < 1))))
        .collect()
}

/// How far a child has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Came {
    /// Not yet inside.
    Outside,
    /// It holds the guard.
    Inside,
    /// It begins to leave.
    Leaving,
    /// It has left.
    Left,
}

/// What a child's commit returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    Nothing,
    Made,
    Fenced,
    /// There is no room, and nothing is changed.
    NoRoom,
    /// It is wholly made or not at all, by the next holder.
    Open,
    Failed,
}

/// The segment with both guards' records, and what a child says.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) world: World,
    told: &'static [AtomicU64],
}

impl Guarded {
    /// The guard, through `handle`.
    pub(super) fn of(&self, handle: &Handle) -> Result<GuardRef, Error> {
        handle.guard(self.name, self.limited.then_some(HOLD_LIMIT), "")
    }

    /// Does `work` while it holds the guard, which it leaves also after an error; `None` when it did not get it. What
    /// `work` returns, whether it was fenced off or not.
    pub(super) fn with<T>(
        &self,
        handle: &Handle,
        patience: Patience,
        work: impl FnOnce(&Grant) -> Result<T, Failure>,
    ) -> Result<Option<T>, Failure> {
        let Some(grant) = handle.acquire(self.of(handle)?, patience)? else { return Ok(None) };
        let done = work(&grant);
        let left = handle.release(&grant);
        let done = done?;
        left?;
        Ok(Some(done))
    }

    /// The values, looked at under it.
    pub(super) fn look(&self, handle: &Handle, grant: &Grant) -> Result<Values, Error> {
        let looks = self.keys.iter().map(|(table, key)| {
            let seen = handle.read_guarded(grant, *table, key)?;
            Ok(seen.and_then(|(_, seen)| value_of(&seen.payload)))
        });
        looks.collect()
    }

    /// Looks, and makes of it what `next` says.
    pub(super) fn change(&self, handle: &Handle, grant: &Grant, next: Next) -> Result<(), Error> {
        let serial = grant.serial();
        let mut seen = Vec::new();
        let mut values = Vec::new();
        for (table, key) in self.keys {
            let found = handle.read_guarded(grant, *table, key)?;
            values.push(found.as_ref().and_then(|(_, seen)| value_of(&seen.payload)));
            seen.push(found.map(|(record, seen)| (record, seen.version)));
        }
        let next = next(&values);
        let all = self.keys.iter().zip(seen).zip(values.iter().zip(next));
        let changed = all.filter(|(_, (now, next))| *now != next);
        let planned: Vec<Planned> = changed
            .map(|(((table, key), seen), (_, next))| Planned {
                table: *table,
                key: (*key).to_owned(),
                seen,
                next: next.map(payload),
            })
            .collect();
        handle.commit_planned(grant, serial, &planned)
    }

    /// The values as who has no guard finds them.
    pub(super) fn peek(&self, world: &World) -> Result<Values, Failure> {
        self.keys.iter().map(|(t, key)| Ok(world.peek(*t, key)?.map(|(value, _)| value))).collect()
    }
}

/// Deletes a record that is the guard `name`'s.
pub(in super::super) fn delete(
    handle: &Handle,
    name: &str,
    table: usize,
    key: &str,
) -> Result<(), Failure> {
    let guarded = if name == LIMITED.name { LIMITED } else { FREE };
    let deleted = guarded.with(handle, WITHIN, |grant| {
        let Some((record, seen)) = handle.read_guarded(grant, table, key)? else { return Ok(()) };
        let seen = Some((record, seen.version));
        let gone = Planned { table, key: key.to_owned(), seen, next: None };
        Ok(handle.commit_planned(grant, grant.serial(), &[gone])?)
    });
    deleted.map(drop)
}

impl Scene {
    /// The segment of [`World::build`], its records looked at under their guards, and everything drained.
    pub(super) fn build(folder: &std::path::Path) -> Result<Self, Failure> {
        let mut world = World::build(folder, false)?;
        world.restore();
        let handle = world.handle()?;
        for guarded in [FREE, LIMITED] {
            guarded.with(&handle, WITHIN, |grant| Ok(guarded.look(&handle, grant)?))?;
        }
        world.drain(&handle)?;
        drop(handle);
        world.keep()?;
        Ok(Self { world, told: shared_words(2)? })
    }

    /// Puts the first state back.
    pub(super) fn restore(&self) {
        self.world.restore();
        self.forget();
    }

    /// Forgets what a child said.
    pub(super) fn forget(&self) {
        self.told.iter().for_each(|word| word.store(0, Ordering::SeqCst));
    }

    /// Starts a child that takes the guard, makes a change if one is said, and leaves; it stands at its first mark.
    pub(super) fn start(&self, guarded: &Guarded, next: Option<Next>) -> Result<Traced, Failure> {
        let mut child = Traced::start(|| {
            if let Err(e) = self.life(guarded, next) {
                eprintln!("a holder: {e}");
                std::process::abort();
            }
        })?;
        child.first_mark()?;
        Ok(child)
    }

    fn life(&self, guarded: &Guarded, next: Option<Next>) -> Result<(), Failure> {
        let handle = self.world.handle()?;
        let guard = guarded.of(&handle)?;
        mark();
        let grant = match handle.acquire(guard, WITHIN) {
            Ok(Some(grant)) => grant,
            // While it finished what another one had left.
            Err(Error::Fenced { .. }) => {
                self.say(1, Said::Fenced as u64);
                mark();
                return Ok(());
            }
            other => return Err(format!("the guard was not taken: {other:?}").into()),
        };
        self.say(0, Came::Inside as u64);
        if let Some(next) = next {
            let made = match guarded.change(&handle, &grant, next) {
                Ok(()) => Said::Made,
                Err(Error::Fenced { .. }) => Said::Fenced,
                Err(Error::Full { .. }) => Said::NoRoom,
                Err(Error::Unfinished { .. }) => Said::Open,
                Err(_) => Said::Failed,
            };
            self.say(1, made as u64);
        }
        self.say(0, Came::Leaving as u64);
        match handle.release(&grant) {
            Ok(()) | Err(Error::Fenced { .. }) => {}
            Err(e) => return Err(e.into()),
        }
        self.say(0, Came::Left as u64);
        mark();
        Ok(())
    }

    fn say(&self, at: usize, what: u64) {
        if let Some(word) = self.told.get(at) {
            word.store(what, Ordering::Release);
        }
    }

    fn heard(&self, at: usize) -> u64 {
        self.told.get(at).map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// How far the child came.
    pub(super) fn came(&self) -> Came {
        match self.heard(0) {
            0 => Came::Outside,
            1 => Came::Inside,
            2 => Came::Leaving,
            _ => Came::Left,
        }
    }

    /// What the child's commit returned.
    pub(super) fn said(&self) -> Said {
        match self.heard(1) {
            0 => Said::Nothing,
            1 => Said::Made,
            2 => Said::Fenced,
            3 => Said::NoRoom,
            4 => Said::Open,
            _ => Said::Failed,
        }
    }
}
