//! What the gate does, case by case.

use super::*;

const POLICY: GatePolicy = GatePolicy {
    start_in_flight: 3,
    max_in_flight: 20,
    cooldown: Duration::from_secs(2),
    cooldown_max: Duration::from_secs(600),
};
const T0: Timestamp = Timestamp::from_millis(1_000_000_000_000);
const MID: f64 = 0.5;

fn flight(on_the_wire: u32, tasks: u32) -> Flight {
    Flight { on_the_wire, tasks }
}

fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn too_fast(gate: Gate, retry_after: Option<u64>, now: Timestamp) -> Gate {
    gate.hear(GateNews::TooFast, retry_after.map(secs), flight(0, 1), &POLICY, now, Dice::new(MID))
}

#[test]
fn retry_after_is_obeyed_in_full_then_one_probe() {
    let gate = too_fast(Gate::default(), Some(30), T0);
    assert_eq!(gate.admits(flight(0, 1), &POLICY, T0 + secs(29)), Admission::ClosedUntil(T0 + secs(30)));
    assert_eq!(gate.admits(flight(0, 1), &POLICY, T0 + secs(30)), Admission::Go(1));
    assert_eq!(
        gate.admits(flight(1, 1), &POLICY, T0 + secs(30)),
        Admission::Full,
        "the probe is on the wire"
    );
    let open = gate.hear(GateNews::Passed, None, flight(0, 1), &POLICY, T0 + secs(31), Dice::new(MID));
    assert_eq!(open.admits(flight(0, 1), &POLICY, T0 + secs(31)), Admission::Go(1), "the rest, one by one");
}

#[test]
fn without_retry_after_it_waits_longer_each_time() {
    let mut gate = Gate::default();
    let mut now = T0;
    for expected in [2, 5, 15, 30, 60, 120, 300, 600, 600] {
        gate = too_fast(gate, None, now);
        let until = gate.closed_until.unwrap();
        assert_eq!(until.since(now).as_secs_f64().round(), f64::from(expected));
        now = until;
    }
}

#[test]
fn a_later_answer_never_shortens_the_quiet() {
    let gate = too_fast(Gate::default(), Some(100), T0);
    for (news, wish) in [
        (GateNews::TooFast, Some(secs(1))),
        (GateNews::SlotsFull, None),
        (GateNews::Passed, Some(secs(1))),
        (GateNews::Nothing, Some(secs(1))),
    ] {
        let later = gate.hear(news, wish, flight(0, 0), &POLICY, T0 + secs(1), Dice::new(MID));
        assert_eq!(later.closed_until, Some(T0 + secs(100)), "{news:?}");
        assert_eq!(
            later.admits(flight(0, 0), &POLICY, T0 + secs(100)),
            Admission::Go(1),
            "{news:?}: first one probe"
        );
    }
}

#[test]
fn outages_close_it_longer_each_time_and_any_answer_opens_it() {
    let mut gate = paced();
    let (rate, mut now) = (gate.rate, T0 + secs(4));
    for expected in [2, 5, 15, 30, 60, 120, 300, 600, 600] {
        gate = gate.hear(GateNews::Outage, None, flight(0, 1), &POLICY, now, Dice::new(MID));
        let until = gate.closed_until.unwrap();
        assert_eq!(until.since(now).as_secs_f64().round(), f64::from(expected));
        assert_eq!(gate.rate, rate, "it says nothing about the rate");
        let late = gate.hear(GateNews::Answered, None, flight(0, 1), &POLICY, now, Dice::new(MID));
        assert_eq!(late, gate, "asked before it closed");
        now = until;
        assert_eq!(gate.admits(flight(0, 1), &POLICY, now), Admission::Go(1));
        assert_eq!(gate.admits(flight(1, 1), &POLICY, now), Admission::Full, "one probe");
    }
    for news in [GateNews::Answered, GateNews::Passed, GateNews::SlotsFull, GateNews::TooFast] {
        let open = gate.hear(news, None, flight(0, 1), &POLICY, now, Dice::new(MID));
        assert_eq!(open.outages, 0, "{news:?}");
    }
    let unheard = gate.hear(GateNews::Nothing, None, flight(0, 1), &POLICY, now, Dice::new(MID));
    assert_eq!(unheard, gate);
    let fresh = Gate::default().hear(GateNews::Outage, None, flight(0, 1), &POLICY, T0, Dice::new(MID));
    let open = fresh.hear(GateNews::Answered, None, flight(0, 0), &POLICY, T0 + secs(3), Dice::new(MID));
    assert_eq!(open.admits(flight(0, 0), &POLICY, T0 + secs(3)), Admission::Go(3), "all at once");
}

#[test]
fn a_burst_of_refusals_is_one_strike() {
    let once = too_fast(Gate::default(), None, T0);
    assert_eq!((0..20).fold(Gate::default(), |gate, _| too_fast(gate, None, T0)), once);
}

#[test]
fn a_wish_for_no_time_at_all_is_none() {
    assert_eq!(too_fast(Gate::default(), Some(0), T0), too_fast(Gate::default(), None, T0));
}

#[test]
fn a_probe_needs_a_free_slot_too() {
    let gate = too_fast(Gate::default(), Some(1), T0);
    assert_eq!(gate.admits(flight(0, POLICY.max_in_flight), &POLICY, T0 + secs(1)), Admission::Full);
}

#[test]
fn a_clock_that_jumped_back_does_not_close_it_for_days() {
    let gate = too_fast(Gate::default(), Some(10), T0 + secs(86_400));
    assert_eq!(gate.admits(flight(0, 0), &POLICY, T0), Admission::Go(1));
}

#[test]
fn slots_grow_with_success_and_stop_at_the_ceiling() {
    let mut gate = Gate::default();
    for in_flight in 0..8 {
        gate = gate.hear(GateNews::Passed, None, flight(0, in_flight), &POLICY, T0, Dice::new(MID));
    }
    assert_eq!(gate.admits(flight(0, 8), &POLICY, T0), Admission::Go(1));
    let full = gate.hear(GateNews::SlotsFull, None, flight(0, 8), &POLICY, T0, Dice::new(MID));
    assert_eq!(full.admits(flight(0, 8), &POLICY, T0), Admission::Full);
    assert_eq!(full.admits(flight(0, 7), &POLICY, T0), Admission::Go(1), "one of our own ended");
    assert_eq!(full.admits(flight(0, 8), &POLICY, T0 + secs(60)), Admission::Go(1), "or a minute passed");
    let again = full.hear(GateNews::SlotsFull, None, flight(0, 8), &POLICY, T0 + secs(60), Dice::new(MID));
    assert_eq!(again.admits(flight(0, 8), &POLICY, T0 + secs(179)), Admission::Full, "ever more rarely");
}

#[test]
fn full_slots_with_nothing_of_ours_in_flight_wait_a_minute() {
    let gate = Gate::default().hear(GateNews::SlotsFull, None, flight(0, 0), &POLICY, T0, Dice::new(MID));
    assert_eq!(gate.admits(flight(0, 0), &POLICY, T0 + secs(59)), Admission::ClosedUntil(T0 + secs(60)));
}
/// A gate that knows a rate and has just been opened again by its probe.
fn paced() -> Gate {
    let gate = too_fast(Gate::default(), None, T0);
    gate.take(1, T0 + secs(3)).hear(
        GateNews::Passed,
        None,
        flight(0, 0),
        &POLICY,
        T0 + secs(3),
        Dice::new(MID),
    )
}

#[test]
fn nothing_is_paced_or_written_before_a_first_429() {
    let policy = GatePolicy { start_in_flight: 20, ..POLICY };
    let mut gate = Gate::default().hear(GateNews::Passed, None, flight(0, 19), &policy, T0, Dice::new(MID));
    for n in 0..100 {
        let before = gate;
        gate = gate.take(3, T0 + secs(n));
        gate = gate.hear(GateNews::Passed, None, flight(2, 10), &policy, T0 + secs(n), Dice::new(MID));
        assert_eq!(gate, before, "submit {n}");
    }
}

#[test]
fn after_it_submits_leave_one_by_one_and_the_claim_says_when() {
    let mut gate = paced();
    let mut now = T0 + secs(3);
    let mut left = Vec::new();
    while left.len() < 6 {
        match gate.admits(Flight::default(), &POLICY, now) {
            Admission::Go(n) => {
                assert_eq!(n, 1);
                gate = gate.take(n, now);
                left.push(now);
            }
            Admission::ClosedUntil(until) => {
                assert!(until > now && until.since(now) <= secs(1), "{until}");
                now = until;
            }
            Admission::Full => panic!("full of nothing"),
        }
    }
    let took = left[5].since(left[0]).as_secs_f64();
    assert!((2.0..3.5).contains(&took), "five gaps of about half a second took {took} s");
}

#[test]
fn what_nobody_used_makes_no_burst_and_proves_nothing() {
    let mut gate = paced();
    let mut now = T0 + secs(60);
    let before = gate.rate.unwrap().per_second();
    for _ in 0..50 {
        assert_eq!(gate.admits(Flight::default(), &POLICY, now), Admission::Go(1));
        gate = gate.take(1, now).hear(GateNews::Passed, None, flight(0, 0), &POLICY, now, Dice::new(MID));
        now = now + secs(60);
    }
    let after = gate.rate.unwrap().per_second();
    assert!(after <= before * 1.1, "{before} became {after} without anybody waiting");
}

#[test]
fn a_clock_that_jumps_neither_stops_the_pace_nor_makes_a_burst() {
    let day = secs(86_400);
    for now in [T0 + secs(3) - day, T0 + secs(3) + day] {
        let mut gate = paced();
        let mut left = 0;
        for ms in 0..10_000 {
            let at = now + Duration::from_millis(ms);
            if let Admission::Go(n) = gate.admits(Flight::default(), &POLICY, at) {
                left += n;
                gate = gate.take(n, at);
            }
        }
        assert!((15..=25).contains(&left), "{left} in ten seconds at two a second");
    }
}

#[test]
fn a_rate_is_forgotten_after_a_day_without_a_refusal() {
    let passes =
        |gate: Gate, at| gate.hear(GateNews::Passed, None, flight(0, 0), &POLICY, at, Dice::new(MID));
    let day = secs(86_400);
    assert!(passes(paced(), T0 + day - secs(1)).rate.is_some());
    assert_eq!(passes(paced(), T0 + day).rate, None);
    let again = too_fast(paced(), None, T0 + day - secs(60));
    assert!(passes(again, T0 + day + secs(60)).rate.is_some(), "it was refused again");
}

#[test]
fn a_person_who_lifts_the_quiet_opens_it() {
    let gate = too_fast(paced(), Some(100), T0 + secs(4));
    let lifted = Gate { closed_until: None, ..gate };
    assert_eq!(lifted.admits(Flight::default(), &POLICY, T0 + secs(5)), Admission::Go(1));
}

#[test]
fn one_alone_tries_a_slot_above_the_ceiling_and_only_accepted_tasks_prove_it() {
    let gate = Gate::default().hear(GateNews::SlotsFull, None, flight(0, 4), &POLICY, T0, Dice::new(MID));
    let due = T0 + secs(60);
    assert_eq!(gate.admits(flight(0, 3), &POLICY, due), Admission::Go(1), "first the one below it");
    assert_eq!(gate.admits(flight(1, 3), &POLICY, due), Admission::Go(1), "then one above");
    assert_eq!(gate.admits(flight(2, 3), &POLICY, due), Admission::Full, "and no other");
    // The one below passes while the one above is still out.
    let gate = gate.hear(GateNews::Passed, None, flight(1, 3), &POLICY, due, Dice::new(MID));
    assert_eq!(gate.ceiling.map(|c| c.slots), Some(4), "nothing is proven yet");
    let refused = gate.hear(GateNews::SlotsFull, None, flight(0, 4), &POLICY, due, Dice::new(MID));
    assert_eq!(refused.admits(flight(0, 4), &POLICY, due + secs(119)), Admission::Full);
    let passed = gate.hear(GateNews::Passed, None, flight(0, 4), &POLICY, due, Dice::new(MID));
    assert_eq!(passed.ceiling.map(|c| c.slots), Some(5));
    assert_eq!(passed.admits(flight(0, 5), &POLICY, due), Admission::Go(1), "there may be more");
}

#[test]
fn a_row_of_the_version_before_is_read() {
    let old = r#"{"closed_until":1000,"strikes":2,"slots":7,"ceiling":{"slots":7,"retry_at":5000,"wait_ms":60000}}"#;
    let gate: Gate = serde_json::from_str(old).unwrap();
    assert_eq!((gate.strikes, gate.slots, gate.rate), (2, 7, None));
    assert_eq!(gate.ceiling.map(|c| c.wait_ms), Some(60_000));
}
