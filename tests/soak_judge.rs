//! The judges of the soak (`benches/soak`) are shown to notice what they are for: the trend a slow leak, the judge of the
//! promise each line of it broken.

#[path = "../benches/soak/judge.rs"]
mod judge;
#[path = "../benches/soak/plot.rs"]
mod plot;
#[path = "../benches/soak/trend.rs"]
mod trend;

use judge::{Facts, Offer, Paid, Row, broken};
use plot::{Line, Panel};
use trend::{Bound, trend};

const BOUND: Bound = Bound { share: 0.15, floor: 4.0 };

/// A value a sample of five seconds, for half an hour, with noise and spikes.
fn samples(of: impl Fn(f64) -> f64) -> Vec<(f64, f64)> {
    let mut dice = fastrand::Rng::with_seed(1);
    let sample = |n: u32| {
        let at = f64::from(n) * 5.0;
        let spike = if n.is_multiple_of(41) { 25.0 } else { 0.0 };
        (at, of(at) + dice.f64() * 3.0 + spike)
    };
    (0..360).map(sample).collect()
}

#[test]
fn a_slow_leak_is_growth_and_noise_is_not() {
    let flat = trend(&samples(|_| 20.0)).unwrap();
    assert!(flat.is_flat(BOUND) && flat.growth.abs() < 0.5, "{flat:?}");
    // A quarter of a megabyte a minute.
    let leak = trend(&samples(|at| 20.0 + at / 60.0 * 0.25)).unwrap();
    assert!(!leak.is_flat(BOUND) && (leak.growth - 7.5).abs() < 0.5, "{leak:?}");
    let shrinking = trend(&samples(|at| 60.0 - at / 60.0)).unwrap();
    assert!(shrinking.is_flat(BOUND), "{shrinking:?}");
    assert_eq!(trend(&samples(|_| 20.0)[..11]), None, "too few to tell");
}

/// A job that was done, one that was taken back unpaid, one that failed and was rendered anew on purpose, one pruned.
fn all_well() -> Facts {
    let mut facts = Facts::default();
    let paid = |task: &str, has_video| Paid { task: task.into(), has_video };
    let row = |id, prompt: &str, state: &str| Row {
        id,
        prompt: prompt.into(),
        state: state.into(),
        ended: true,
        needs_person: false,
        replays: true,
    };
    facts.rows = vec![row(1, "done", "done"), row(2, "back", "cancelled"), row(3, "anew", "done")];
    for (prompt, offer) in [
        ("done", Offer::default()),
        ("back", Offer { cancelled: true, ..Offer::default() }),
        ("anew", Offer { rendered_anew: 1, ..Offer::default() }),
        ("pruned", Offer::default()),
    ] {
        facts.offered.insert(prompt.into(), offer);
    }
    facts.paid.insert("done".into(), vec![paid("t1", true)]);
    facts.paid.insert("anew".into(), vec![paid("t2", false), paid("t3", true)]);
    facts.paid.insert("pruned".into(), vec![paid("t4", true)]);
    facts.known_tasks = ["t1", "t2", "t3", "t4"].map(String::from).into();
    facts.videos = ["t1", "t3", "t4"].map(|task| (task.to_owned(), true)).into();
    facts
}

#[test]
fn the_judge_is_content_when_all_is_well() {
    assert_eq!(broken(&all_well()), [""; 0]);
}

/// Something that must not be.
type Harm = fn(&mut Facts);

#[test]
fn the_judge_notices_each_broken_line_of_the_promise() {
    let cases: [(&str, Harm); 11] = [
        ("was paid 2 times", |f| {
            let twice = f.paid["done"][0].clone();
            f.paid.entry("done".into()).or_default().push(Paid { task: "t9".into(), ..twice });
            f.known_tasks.insert("t9".into());
            f.videos.insert("t9".into(), true);
        }),
        ("is lost", |f| {
            f.offered.insert("gone".into(), Offer::default());
        }),
        ("was never paid", |f| {
            f.paid.remove("done");
        }),
        ("the queue does not know it", |f| {
            f.known_tasks.remove("t4");
        }),
        ("its video lost", |f| {
            f.videos.remove("t4");
        }),
        ("is torn", |f| {
            f.videos.insert("t1".into(), false);
        }),
        ("never asked for", |f| {
            f.offered.remove("pruned");
        }),
        ("job 1 is generating at rest", |f| {
            f.rows[0].state = "generating".into();
            f.rows[0].ended = false;
        }),
        ("its history does not lead to done", |f| f.rows[0].replays = false),
        ("left behind: 7.mp4.part", |f| f.strays.push("7.mp4.part".into())),
        ("row 3 missing from index", |f| f.damage.push("row 3 missing from index".into())),
    ];
    for (expected, breaks) in cases {
        let mut facts = all_well();
        breaks(&mut facts);
        let found = broken(&facts);
        assert!(found.len() == 1 && found[0].contains(expected), "{expected}: {found:?}");
    }
}

#[test]
fn the_picture_has_each_value_and_stays_small() {
    let line = |name: &str| Line { name: name.into(), points: samples(|at| 20.0 + at / 100.0) };
    let panels: Vec<Panel> = ["Memory", "Descriptors", "Log", "Database", "Latency", "List", "Depth"]
        .map(|title| Panel { title: title.into(), lines: vec![line("one"), line("other")] })
        .into();
    let svg = plot::svg(&panels, &[10.0, 20.0]);
    assert_eq!(svg.matches("<polyline").count(), 14);
    assert_eq!(svg.matches("stroke-dasharray").count(), 14, "each restart in each panel");
    assert!(svg.contains(">Memory<") && svg.len() < 60_000, "{} bytes", svg.len());
    assert!(!svg.contains("NaN"), "every place is a number");
}
