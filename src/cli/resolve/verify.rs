//! Whether a task that a person brings is the attempt's: asked by whoever has the key.

use std::time::Duration;

use anyhow::Result;

use super::Desk;
use crate::{
    cli::exit::{Exit, Refusal},
    daemon,
    domain::{
        Job, TaskId,
        adopt::{Echo, differences},
    },
    provider::Api,
    store::{StoreError, doorbell, errand::ErrandAnswer, view::AttemptRow},
};

/// How long the daemon's answer is waited for: a slow status call (30 s) behind another one's end.
const PATIENCE: Duration = Duration::from_secs(45);
/// How often the answer is looked for.
const LOOK: Duration = Duration::from_millis(100);

impl Desk<'_> {
    /// Refuses a task that does not look like the attempt's, unless `force`; says then what was against it.
    pub async fn verify(
        &self,
        job: &Job,
        attempt: &AttemptRow,
        task: &TaskId,
        force: bool,
    ) -> Result<Option<String>> {
        if let Some(owner) = self.store.task_owner(task.clone(), job.id, attempt.n).await? {
            return Err(StoreError::TaskTaken { task: task.clone(), owner }.into());
        }
        let (doubts, exit) = match self.ask(task, &attempt.base_url).await? {
            ErrandAnswer::Task { request, created_at } => {
                let sent = serde_json::from_slice(&attempt.request)?;
                let echo = Echo { request, created_at };
                let found = differences(task, &echo, &sent, job.request.job_type(), attempt.started_at);
                (found, Exit::Usage)
            }
            ErrandAnswer::Unknown => (vec!["the provider does not know it".to_owned()], Exit::Usage),
            ErrandAnswer::Unclear { why } => (vec![format!("it could not be checked: {why}")], Exit::Failed),
        };
        if doubts.is_empty() {
            return Ok(None);
        }
        let (id, n) = (job.id, attempt.n);
        let listed: String = doubts.iter().map(|doubt| format!("\n  {doubt}")).collect();
        let against = format!("task {task} is not proven to be that of job {id}, attempt {n}:{listed}");
        if force {
            self.context.say(&format!("{against}\nit is taken all the same (--force)"));
            return Ok(Some(format!("taken with --force: {}", doubts.join("; "))));
        }
        let message = format!(
            "{against}\nnothing was changed; if you know that it is: klingd resolve {id} --task-id {task} --attempt {n} --force"
        );
        Err(Refusal { exit, message }.into())
    }

    /// What status says of the task: by the daemon if one runs, else with a key of our own.
    async fn ask(&self, task: &TaskId, base_url: &str) -> Result<ErrandAnswer> {
        let mut silent = "no daemon runs that could ask";
        if self.context.daemon_runs(&self.config.data_dir) {
            if let Some(answer) = self.ask_daemon(task, base_url).await? {
                return Ok(answer);
            }
            silent = "the daemon has not answered";
        }
        match self.config.require_key() {
            Ok(key) => {
                let api = Api::new(&daemon::api_settings(self.config, key))?;
                let (answer, echo) = api.status(base_url, task).await;
                Ok(ErrandAnswer::of(&answer, echo))
            }
            Err(none) => Ok(ErrandAnswer::Unclear { why: format!("{silent}, and there is {none}") }),
        }
    }

    async fn ask_daemon(&self, task: &TaskId, base_url: &str) -> Result<Option<ErrandAnswer>> {
        let Self { context, config, store } = self;
        let asked_at = context.clock.now();
        let errand = store.ask(task.clone(), base_url.to_owned(), asked_at).await?;
        doorbell::ring(&config.doorbell());
        context.say("the daemon asks the provider");
        while context.clock.now().since(asked_at) < PATIENCE && context.daemon_runs(&config.data_dir) {
            if let Some(answer) = store.errand_answer(errand).await? {
                return Ok(Some(answer));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(None)
    }
}
