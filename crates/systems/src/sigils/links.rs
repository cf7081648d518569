//! Links from one sigil to others. They stand in the record of the sigil that they go out from, so that making one is
//! one commit, and they go with it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::error::SigilError;
use super::id::SigilId;
use super::identity::{Sigil, SigilIdentity};
use super::records::Stored;

/// A link to another sigil.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Link {
    /// The other one.
    pub to: SigilId,
    /// Above 0, at most 1.
    pub strength: f64,
}

/// The links of a record: `{"id":strength}`. None when that is not what it says.
pub(super) fn read_links(text: &str) -> Option<Vec<Link>> {
    if text.len() <= 2 {
        return Some(Vec::new());
    }
    let members: BTreeMap<&str, f64> = serde_json::from_str(text).ok()?;
    let link = |(id, strength): (&str, f64)| Some(Link { to: id.parse().ok()?, strength });
    members.into_iter().map(link).collect()
}

fn write_links(links: &[Link]) -> String {
    let members = links.iter().map(|link| (link.to.to_string(), link.strength));
    let members: BTreeMap<String, f64> = members.collect();
    // Numbers and text: this does not fail.
    serde_json::to_string(&members).unwrap_or_default()
}

impl SigilIdentity {
    /// Links sigil `from` to sigil `to`, or changes how strongly, or takes the link away with the strength 0; the
    /// strength that it had before. A link goes one way: for both ways make two.
    ///
    /// # Errors
    /// [`SigilError::Unknown`], [`SigilError::SelfLink`], [`SigilError::LinkStrength`], [`SigilError::LinksFull`].
    pub fn link(
        &self,
        from: SigilId,
        to: SigilId,
        strength: f64,
    ) -> Result<Option<f64>, SigilError> {
        if !(0.0..=1.0).contains(&strength) {
            return Err(SigilError::LinkStrength(strength));
        }
        if from == to {
            return Err(SigilError::SelfLink(from));
        }
        if strength > 0.0 {
            self.with(|handle| self.living(handle, Some(to)))?.ok_or(SigilError::Unknown(to))?;
        }
        match self.relink(from, Link { to, strength }, &[]) {
            Err(SigilError::LinksFull { id, links }) => {
                // Those to sigils that were swept make room.
                let living = self.links(from)?;
                let gone = |link: &Link| !living.contains(link);
                let gone: Vec<Link> = self.get(from)?.links.into_iter().filter(gone).collect();
                if gone.is_empty() {
                    return Err(SigilError::LinksFull { id, links });
                }
                self.relink(from, Link { to, strength }, &gone)
            }
            done => done,
        }
    }

    /// Puts `new` among the links of sigil `from` and takes `gone` away.
    fn relink(&self, from: SigilId, new: Link, gone: &[Link]) -> Result<Option<f64>, SigilError> {
        let tables = self.shared.tables;
        let mut before = None;
        self.update(from, None, |current, next, _| {
            let now = tables.decode(current)?;
            let damaged =
                || SigilError::Damaged { key: from.to_string(), what: "the list of links" };
            let mut links = read_links(now.links).ok_or_else(damaged)?;
            links.retain(|link| !gone.contains(link));
            let known = links.iter().position(|link| link.to == new.to);
            before = known.map(|at| links.swap_remove(at).strength);
            if new.strength > 0.0 {
                if links.len() >= tables.links_max() {
                    return Err(SigilError::LinksFull { id: from, links: links.len() }.into());
                }
                links.push(new);
            }
            let text = write_links(&links);
            Ok(tables.encode(&Stored { links: &text, ..now }, next)?)
        })?;
        Ok(before)
    }

    /// The links of sigil `id` to sigils that are there.
    ///
    /// # Errors
    /// [`SigilError::Unknown`].
    pub fn links(&self, id: SigilId) -> Result<Vec<Link>, SigilError> {
        let Sigil { mut links, .. } = self.get(id)?;
        let mut there = Vec::with_capacity(links.len());
        self.with(|handle| {
            for link in links.drain(..) {
                if self.living(handle, Some(link.to))?.is_some() {
                    there.push(link);
                }
            }
            Ok(())
        })?;
        Ok(there)
    }

    /// The sigils of the same state that were encoded before `id`, from the last to the first; as far as those between
    /// are there.
    ///
    /// # Errors
    /// [`SigilError::Unknown`].
    pub fn twins(&self, id: SigilId) -> Result<Vec<SigilId>, SigilError> {
        let mut twins = Vec::new();
        let mut next = self.get(id)?.twin;
        while let Some(id) = next {
            match self.get(id) {
                Ok(sigil) => {
                    twins.push(id);
                    next = sigil.twin;
                }
                Err(SigilError::Unknown(_)) => break,
                Err(e) => return Err(e),
            }
        }
        Ok(twins)
    }
}
