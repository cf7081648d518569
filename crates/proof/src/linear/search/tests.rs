//! The search against histories whose verdict is known, and against brute force.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::linear::spec::step;
use crate::random::Random;

fn op(called: u64, returned: u64, call: Call, answer: Answer) -> Operation {
    Operation { called, returned, call, answer: Some(answer) }
}

fn lost(called: u64, call: Call) -> Operation {
    Operation { called, returned: u64::MAX, call, answer: None }
}

const START: State = State { value: Some(2), version: 5, born: 1, exact: true };

fn holds(operations: &[Operation]) -> bool {
    search(START, operations) == Verdict::Linearizable
}

#[test]
fn two_updates_from_one_state_are_a_lost_update() {
    let (a, b) = (step(2, 1), step(2, 7));
    let both = [
        op(0, 9, Call::Add(1), Answer::Done(a, 6)),
        op(1, 8, Call::Add(7), Answer::Done(step(a, 7), 7)),
    ];
    assert!(holds(&both));
    let blind = [both[0], op(1, 8, Call::Add(7), Answer::Done(b, 7))];
    assert_eq!(search(START, &blind), Verdict::Not(1, 1));
    let twice = [both[0], op(1, 8, Call::Add(7), Answer::Done(b, 6))];
    assert!(!holds(&twice));
}

#[test]
fn a_read_never_goes_back() {
    let add = op(0, 9, Call::Add(1), Answer::Done(step(2, 1), 6));
    let new = |c, r| op(c, r, Call::Read, Answer::Seen(step(2, 1), 6));
    let old = |c, r| op(c, r, Call::Read, Answer::Seen(2, 5));
    assert!(holds(&[add, old(1, 2), new(3, 4)]));
    assert!(!holds(&[add, new(1, 2), old(3, 4)]));
    assert!(holds(&[add, new(1, 3), old(2, 4)]), "the two reads overlap");
    assert!(!holds(&[add, old(10, 11)]), "the update had returned");
}

#[test]
fn what_never_returned_may_have_happened_or_not() {
    let seen = |v, n, c, r| op(c, r, Call::Read, Answer::Seen(v, n));
    assert!(holds(&[lost(0, Call::Add(1)), seen(2, 5, 1, 2)]));
    assert!(holds(&[lost(0, Call::Add(1)), seen(2, 5, 1, 2), seen(step(2, 1), 6, 8, 9)]));
    assert!(!holds(&[lost(3, Call::Add(1)), seen(step(2, 1), 6, 1, 2)]), "not before its call");
    // A lost insert has an unknown version, but one: later answers must agree on it.
    let gone = op(0, 1, Call::Delete, Answer::Done(2, 6));
    let again = lost(2, Call::Insert(40));
    assert!(holds(&[gone, again, seen(40, 20, 3, 4), seen(40, 20, 5, 6)]));
    assert!(!holds(&[gone, again, seen(40, 20, 3, 4), seen(40, 21, 5, 6)]));
    assert!(!holds(&[gone, again, seen(40, 6, 3, 4)]), "above every earlier version");
}

#[test]
fn an_old_reference_leads_to_its_own_incarnation_alone() {
    let ends = [
        op(0, 1, Call::Delete, Answer::Done(2, 6)),
        op(2, 3, Call::Insert(40), Answer::Done(40, 9)),
    ];
    let held = |answer| [ends[0], ends[1], op(4, 5, Call::AddHeld(1, 5), answer)];
    assert!(holds(&held(Answer::Gone)));
    assert!(!holds(&held(Answer::Done(step(40, 1), 10))));
    assert!(!holds(&[op(4, 5, Call::AddHeld(1, 5), Answer::Gone)]), "nobody deleted it");
}

/// Every order that respects calls and returns, every subset of what never returned.
fn brute(state: State, all: &[Operation], done: &mut Vec<bool>) -> bool {
    if all.iter().zip(&*done).all(|(o, d)| *d || o.answer.is_none()) {
        return true;
    }
    for i in 0..all.len() {
        let comes_first = |j: usize| !done[j] && all[j].returned < all[i].called;
        if done[i] || (0..all.len()).any(comes_first) {
            continue;
        }
        if let Some(next) = state.after(all[i].call, all[i].answer) {
            done[i] = true;
            let holds = brute(next, all, done);
            done[i] = false;
            if holds {
                return true;
            }
        }
    }
    false
}

/// A random call, and the answer that one of a few states gives to it.
fn random_operation(random: &mut Random) -> Operation {
    let version = 4 + random.below(4);
    let value = [2, 3, step(2, 1), 40][random.below(4) as usize];
    let add = 1 + random.below(2).cast_signed();
    let done = Answer::Done(step(value, add), version);
    let (call, answer) = match random.below(10) {
        0 => (Call::Read, Answer::Absent),
        1 | 2 => (Call::Read, Answer::Seen(value, version)),
        3 => (Call::Add(add), done),
        4 => (Call::AddEven(add), if value & 1 == 0 { done } else { Answer::Seen(value, version) }),
        5 => (Call::AddHeld(add, 5), if random.once_in(3) { Answer::Gone } else { done }),
        6 => (Call::Insert(40), Answer::Done(40, version)),
        7 => (Call::Insert(40), Answer::Exists),
        8 => (Call::Delete, Answer::Done(value, version)),
        _ => (Call::WaitAbove(5), Answer::Timeout),
    };
    let called = random.below(12);
    let pending = random.once_in(4);
    let returned = if pending { u64::MAX } else { called + 1 + random.below(6) };
    Operation { called, returned, call, answer: Some(answer).filter(|_| !pending) }
}

/// A history that one order explains, with a random operation in it at times.
fn random_history(random: &mut Random) -> Vec<Operation> {
    let mut state = START;
    let mut history = Vec::new();
    let mut time = 0;
    for _ in 0..1 + random.below(7) {
        let mut operation = random_operation(random);
        time += 1 + random.below(3);
        let long = random.below(5);
        operation.called = time.saturating_sub(random.below(5));
        operation.returned = if operation.answer.is_some() { time + long } else { u64::MAX };
        if let Some(next) = state.after(operation.call, operation.answer) {
            state = next;
            history.push(operation);
        } else if random.once_in(4) {
            history.push(operation);
        }
    }
    history.sort_by_key(|o| o.called);
    history
}

#[test]
fn it_agrees_with_brute_force() {
    let mut random = Random::new(1);
    let (mut yes, mut no) = (0, 0);
    for round in 0..200_000 {
        let history = random_history(&mut random);
        let due = brute(START, &history, &mut vec![false; history.len()]);
        let found = search(START, &history);
        assert_eq!(found == Verdict::Linearizable, due, "round {round}: {history:#?}");
        *if due { &mut yes } else { &mut no } += usize::from(history.len() > 3);
    }
    assert!(yes > 2_000 && no > 5_000, "{yes} linearizable, {no} not");
}
