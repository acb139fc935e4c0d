//! Claims, one job each, as the submit lane makes them: the look, the gate, the budget and the durable intent. What is
//! claimed is refused at once, so that nothing stays on the wire.

use std::{collections::BTreeMap, ffi::OsString, path::Path, time::Instant};

use klingd::{
    clock::Clock,
    config::{Config, Environment, Overrides},
    daemon,
    domain::{
        Event,
        evidence::Evidence,
        gate::GateNews,
        plan::submit::SubmitPlan,
        retry::Dice,
        state::{Charged, Failure},
    },
    store::{
        Access, Store,
        submit::{ClaimPolicy, Intent, SubmitOutcome},
    },
};

use crate::common::{Result, Series};

#[tokio::main]
pub async fn run(data: &Path, claims: usize) -> Result<()> {
    let variables: BTreeMap<OsString, OsString> =
        [("KLINGD_SUBMIT__MAX_IN_FLIGHT", "1000"), ("KLINGD_SUBMIT__START_IN_FLIGHT", "1000")]
            .map(|(k, v)| (k.into(), v.into()))
            .into();
    let environment = Environment {
        variables,
        home: Some(data.to_owned()),
        current_dir: data.to_owned(),
        ..Environment::default()
    };
    let config =
        Config::load(&Overrides { data_dir: Some(data.to_owned()), ..Overrides::default() }, &environment)?;
    let policy = daemon::claim_policy(&config, "bench");
    let (store, writer) = Store::open(&config.database(), Access::Use).await?;
    let claiming = async move {
        let mut all = Series::default();
        for _ in 0..claims {
            let now = Clock.now();
            let start = Instant::now();
            let claimed = store.claim_submits(1, &policy, now, Clock.day_start(now)).await?;
            all.push_ms(start.elapsed());
            let intent = claimed.intents.into_iter().next().ok_or("nothing left to claim")?;
            refuse(&store, intent, &policy).await?;
        }
        Ok::<_, Box<dyn std::error::Error>>(all)
    };
    let (all, written) = tokio::join!(claiming, writer.run());
    written?;
    let all = all?;
    println!("p50 {}\np99 {}", all.p(50), all.p(99));
    Ok(())
}

async fn refuse(store: &Store, intent: Intent, policy: &ClaimPolicy) -> Result<()> {
    let Intent { job, attempt, .. } = intent;
    let (now, gate) = (Clock.now(), policy.gate);
    let failure = Failure {
        code: "BENCH".to_owned(),
        message: "refused by the bench".to_owned(),
        charged: Charged::No,
    };
    let plan = SubmitPlan {
        event: Event::SubmitRefused { attempt, failure },
        due_at: now,
        gate: GateNews::Answered,
        retry_after: None,
        hold: None,
        error: None,
    };
    let (evidence, dice) = (Evidence::default(), Dice::new(0.5));
    store.settle_submit(SubmitOutcome { job, attempt, plan, evidence, note: None, gate, now, dice }).await?;
    Ok(())
}
