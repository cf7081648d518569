//! Whose a store is: nodes, take-overs, batch numbers.

use commonhold_store::{Batch, Node, Stamps, StoreError, open, open_existing, open_read_only};

use super::{Backend, Writer, accounts, assert_sound, batch, claimed, segment};

pub(crate) fn the_owner_says_its_machine<B: Backend>() {
    let backend = B::new();
    let mut store = backend.open();
    let node = Node { id: "00ff".to_owned(), host: "über".to_owned() };
    let mut far = segment(1);
    (far.node, far.device) = (node.clone(), u64::MAX);
    store.claim(&far, &accounts()).unwrap();
    let owner = backend.open_read_only().owner().unwrap().unwrap();
    assert_eq!((owner.node.as_ref(), owner.device), (Some(&node), u64::MAX));
    let said = owner.to_string();
    assert!(said.contains("/dev/shm/1 on host über") && said.contains("0101010101"), "{said}");
    let fenced = backend.open().join([2; 16], 1, 0, &accounts()).unwrap_err();
    assert!(fenced.to_string().contains("on host über"), "{fenced}");
}

pub(crate) fn a_take_over_fences_the_owner_off<B: Backend>() {
    let backend = B::new();
    let (mut old, _, mut writer) = claimed(&backend);
    old.append(&batch(&[writer.account("a", 1)])).unwrap();
    let taken = backend.open().take_over().unwrap();
    let fenced = taken.fenced.unwrap();
    assert_eq!((fenced.uuid, fenced.epoch), ([1; 16], 1));
    assert_eq!((taken.epoch, taken.batch), (2, 1));
    assert_eq!(backend.open().owner(), Ok(None));
    let next = batch(&[writer.account("a", 2)]);
    for _ in 0..2 {
        // Also on a connection opened anew.
        let error = old.append(&next).unwrap_err();
        assert!(matches!(error, StoreError::Fenced { owner_epoch: 2, epoch: 1, .. }), "{error}");
        assert!(error.to_string().contains("nobody, since it was taken over"), "{error}");
        assert!(error.is_final() && !error.is_transient());
    }
    let error = backend.open().join([1; 16], 1, 0, &accounts()).unwrap_err();
    assert!(matches!(error, StoreError::Fenced { .. }), "{error}");
    assert_eq!(old.row_count(0).unwrap().history, 1, "nothing more was written");
    // Again it fences nobody; and the next segment goes on from what is stored.
    let again = backend.open().take_over().unwrap();
    assert_eq!((again.fenced, again.epoch), (None, 3));
    let mut new = backend.open();
    let claim = new.claim(&segment(2), &accounts()).unwrap();
    assert_eq!((claim.epoch, claim.batch), (4, 1));
    new.append(&next).unwrap();
    assert_sound(&backend);
}

pub(crate) fn batches_are_numbered<B: Backend>() {
    let backend = B::new();
    let (mut store, claim, mut writer) = claimed(&backend);
    assert_eq!(claim.batch, 0);
    let rows = [writer.account("a", 1), writer.account("b", 1)];
    for (number, row) in (1..).zip(&rows) {
        let appended = store.append(&batch(std::slice::from_ref(row))).unwrap();
        assert_eq!((appended.batch, appended.foreign), (number, Vec::new()));
    }
    let mut other = backend.open();
    other.join([1; 16], 1, 2, &accounts()).unwrap();
    // What the segment has seen may be less: the outcome of its last batch was unknown.
    let again = Batch { seen: 1, ..batch(&rows) };
    assert_eq!(other.append(&again).unwrap().batch, 3);
    assert_eq!(backend.open().claim(&segment(2), &accounts()).unwrap().batch, 3);
}

pub(crate) fn a_store_that_was_rolled_back_is_refused<B: Backend>() {
    let backend = B::new();
    let (mut store, _, mut writer) = claimed(&backend);
    for version in 1..=3 {
        store.append(&batch(&[writer.account("a", version)])).unwrap();
    }
    backend.execute("UPDATE commonhold_meta SET value = '2' WHERE key = 'batch'");
    let next = Batch { seen: 3, ..batch(&[writer.account("a", 4)]) };
    for _ in 0..2 {
        let error = store.append(&next).unwrap_err();
        assert!(matches!(error, StoreError::RolledBack { stored: 2, seen: 3, .. }), "{error}");
        assert!(error.is_final() && !error.is_transient());
        assert!(error.to_string().contains("take-over"), "{error}");
    }
    let error = backend.open().join([1; 16], 1, 3, &accounts()).unwrap_err();
    assert!(matches!(error, StoreError::RolledBack { .. }), "{error}");
    assert_eq!(store.row_count(0).unwrap().history, 3, "nothing of it was written");
    // With the newer state back it goes on.
    backend.execute("UPDATE commonhold_meta SET value = '3' WHERE key = 'batch'");
    assert_eq!(store.append(&next).unwrap().batch, 4);
    assert_sound(&backend);
}

pub(crate) fn a_copy_of_the_owner_is_refused<B: Backend>() {
    let backend = B::new();
    let (mut store, _, mut writer) = claimed(&backend);
    let mut copy = backend.open();
    copy.join([1; 16], 1, 0, &accounts()).unwrap();
    let theirs = Writer::new(&accounts(), 2).account("a", 2);
    let mut stamped = |version, stored, sent| {
        let stamps = Stamps { stored, sent };
        Batch { stamps, ..batch(&[writer.account("a", version)]) }
    };
    assert_eq!(store.stamp(), Ok(0));
    assert_eq!(store.append(&stamped(1, 0, 11)).unwrap().batch, 1);
    let second = stamped(2, 11, 12);
    for _ in 0..2 {
        // Sent again when its outcome was unknown.
        assert!(store.append(&second).unwrap().written);
        assert_eq!(store.stamp(), Ok(12));
    }
    // It knows the same uuid and epoch, and what was stored when it was made.
    for (stored, sent) in [(0, 13), (11, 13)] {
        let other =
            Batch { stamps: Stamps { stored, sent }, ..batch(std::slice::from_ref(&theirs)) };
        let error = copy.append(&other).unwrap_err();
        assert!(matches!(error, StoreError::Doubled(_)), "{error}");
        assert!(error.is_final() && !error.is_transient());
        assert!(error.to_string().contains("a copy of it"), "{error}");
        assert!(Stamps { stored, sent }.check("here", copy.stamp().unwrap()).is_err());
    }
    assert_eq!(store.row_count(0).unwrap().history, 2, "nothing of it was written");
    assert_eq!(store.append(&stamped(3, 12, 14)).unwrap().batch, 4);
    let mut new = backend.open();
    new.claim(&segment(2), &accounts()).unwrap();
    assert_eq!(new.stamp(), Ok(0), "of the segment before");
    assert_sound(&backend);
}

pub(crate) fn a_claim_is_of_the_owner_that_was_looked_at<B: Backend>() {
    let backend = B::new();
    let [mut first, mut second] = [backend.open(), backend.open()];
    let seen = [first.epoch().unwrap(), second.epoch().unwrap()].map(Some);
    assert_eq!((seen[0], first.owner()), (Some(0), Ok(None)));
    assert_eq!(first.claim_after(&segment(1), &accounts(), seen[0]).unwrap().epoch, 1);
    let error = second.claim_after(&segment(2), &accounts(), seen[1]).unwrap_err();
    assert!(matches!(error, StoreError::ClaimedMeanwhile(_)), "{error}");
    assert_eq!(second.owner().unwrap().unwrap().uuid, [1; 16], "it is still the first one's");
    // A take-over is seen too.
    let seen = second.epoch().unwrap();
    backend.open().take_over().unwrap();
    let error = second.claim_after(&segment(2), &accounts(), Some(seen)).unwrap_err();
    assert!(matches!(error, StoreError::ClaimedMeanwhile(_)), "{error}");
    let claim = second.claim_after(&segment(2), &accounts(), Some(2)).unwrap();
    assert_eq!(claim.epoch, 3);
}

pub(crate) fn a_later_format_is_refused<B: Backend>() {
    let backend = B::new();
    drop(claimed(&backend));
    // As a store that was made before formats had numbers.
    backend.execute("DELETE FROM commonhold_meta WHERE key = 'format'");
    assert!(backend.open().owner().unwrap().is_some());
    backend.execute("INSERT INTO commonhold_meta(key, value) VALUES('format', '99')");
    for open in [open, open_existing, open_read_only] {
        let error = open(&backend.url()).map(|store| store.url()).unwrap_err();
        assert!(matches!(error, StoreError::Newer { format: 99, known: 1, .. }), "{error}");
        assert!(error.to_string().contains("format 99") && !error.is_transient(), "{error}");
    }
}

pub(crate) fn what_is_not_there_is_not_made<B: Backend>() {
    let backend = B::new();
    for open in [open_existing, open_existing, open_read_only] {
        let error = open(&backend.url()).map(|store| store.url()).unwrap_err();
        let wanted = matches!(error, StoreError::Missing(_) | StoreError::NotAStore(_));
        assert!(wanted, "{error}");
    }
    let (_, claim, mut writer) = claimed(&backend);
    let mut store = open_existing(&backend.url()).unwrap();
    store.join([1; 16], claim.epoch, 0, &accounts()).unwrap();
    store.append(&batch(&[writer.account("a", 1)])).unwrap();
}
