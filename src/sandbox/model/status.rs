//! `GET /api/status`: what the provider says of a task, which a fault may make a lie. The task's true state is only read.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::generate::after;
use super::reply::{Quotes, Refusal, Reply, api_fault};
use super::task::{Link, Task, TaskState};
use super::{Call, Model};
use crate::sandbox::faults::{End, StatusFault, UrlShape};

impl Model {
    pub(super) fn status(&mut self, now: Timestamp, call: &Call) -> Result<Reply, Refusal> {
        let id = call.query("task_id").ok_or_else(|| Refusal::Malformed("task_id is missing".to_owned()))?;
        let index = *self.by_id.get(id).ok_or(Refusal::NotFound)?;
        let task = &self.tasks[index];
        let drawn = self.plan.status.draw(&task.prompt, |fault| shows(fault, task));
        if self.tasks[index].state == TaskState::Success {
            self.renew_link(now, index);
        }
        let reply = match drawn.fault {
            None => self.tell(call, index),
            Some(fault) => self.tell_wrongly(now, call, index, &fault),
        };
        Ok(reply.delayed(drawn.delay))
    }

    /// The truth.
    fn tell(&mut self, call: &Call, index: usize) -> Reply {
        let task = &mut self.tasks[index];
        task.told |= task.state == TaskState::Success;
        Reply::success(&report(task, &call.base))
    }

    fn tell_wrongly(&mut self, now: Timestamp, call: &Call, index: usize, fault: &StatusFault) -> Reply {
        let task = &self.tasks[index];
        let mut data = report(task, &call.base);
        match fault {
            StatusFault::Http(http) => {
                let request = Value::Object(task.fields.clone());
                return api_fault(http, Quotes { request, task_id: Some(&task.id) });
            }
            StatusFault::Silence(end) => return Reply::silence(*end),
            StatusFault::NotJson => return Reply::not_json(),
            StatusFault::Padded(bytes) => return self.tell(call, index).padded(*bytes),
            StatusFault::CodeIn200(code) => return Reply::code_in_200(*code),
            StatusFault::CutBody => {
                let reply = Reply::success(&data);
                let half = reply.payload.len() / 2;
                return reply.broken(half, End::Eof);
            }
            StatusFault::Word(word) => unfinished(&mut data, word),
            StatusFault::StaleInProgress => unfinished(&mut data, "IN_PROGRESS"),
            StatusFault::FailedOnce => {
                unfinished(&mut data, "FAILED");
                data["error_message"] = json!("The upstream did not answer in time.");
            }
            StatusFault::SuccessWord(word) => data["status"] = json!(word),
            StatusFault::FailedWord(word) => data["status"] = json!(word),
            StatusFault::LowerCase => {
                let word = data["status"].as_str().unwrap_or_default().to_lowercase();
                data["status"] = json!(word);
            }
            StatusFault::SuccessNoUrl => data["response"] = json!([]),
            StatusFault::OtherTask => data = self.another(now, call, index),
            StatusFault::Urls(shape) => data["response"] = shaped(*shape, &urls(task, &call.base)),
            StatusFault::Url(url) => data["response"] = json!([url]),
            StatusFault::TwoVideos => {
                self.tasks[index].videos = 2;
                data = report(&self.tasks[index], &call.base);
            }
            StatusFault::HideRefund => data["consumed_credits"] = json!(task.credits),
            StatusFault::NoCreditsField => data["consumed_credits"] = Value::Null,
            StatusFault::NoEcho => data["request"] = Value::Null,
            StatusFault::EchoDefaults => data["request"] = Value::Object(with_defaults(&task.fields)),
        }
        let task = &mut self.tasks[index];
        task.told |= task.state == TaskState::Success && !data["response"].is_null();
        Reply::success(&data)
    }

    /// The report of some other task that is finished, or of one that never was.
    fn another(&mut self, now: Timestamp, call: &Call, index: usize) -> Value {
        let finished = |(other, task): (usize, &Task)| {
            (other != index && task.state == TaskState::Success).then_some(other)
        };
        match self.tasks.iter().enumerate().find_map(finished) {
            Some(other) => {
                self.renew_link(now, other);
                report(&self.tasks[other], &call.base)
            }
            None => {
                let mut data = report(&self.tasks[index], &call.base);
                data["task_id"] = json!("n75zzzzzzzzkling3");
                data["status"] = json!("SUCCESS");
                data["response"] = json!([format!("{}/videos/n75zzzzzzzzkling3/1.mp4?sig=none", call.base)]);
                data
            }
        }
    }

    /// Links are made when they are asked for, and again once they have expired.
    fn renew_link(&mut self, now: Timestamp, index: usize) {
        let task = &mut self.tasks[index];
        if task.link.as_ref().is_none_or(|link| link.expires_at <= now) {
            let signature = format!("{:016x}", self.dice.u64(..));
            task.link = Some(Link { signature, expires_at: after(now, self.link_life) });
        }
    }
}

/// Whether the client could see this fault in the answer for this task.
fn shows(fault: &StatusFault, task: &Task) -> bool {
    let success = task.state == TaskState::Success;
    let failed = matches!(task.state, TaskState::Failed { .. });
    match fault {
        StatusFault::Url(_)
        | StatusFault::SuccessWord(_)
        | StatusFault::SuccessNoUrl
        | StatusFault::Urls(_)
        | StatusFault::TwoVideos => success,
        StatusFault::StaleInProgress => success && task.told,
        StatusFault::FailedWord(_) => failed,
        StatusFault::FailedOnce => !failed,
        StatusFault::HideRefund => task.costs < task.credits,
        StatusFault::Http(_)
        | StatusFault::Silence(_)
        | StatusFault::CutBody
        | StatusFault::Padded(_)
        | StatusFault::NotJson
        | StatusFault::CodeIn200(_)
        | StatusFault::Word(_)
        | StatusFault::LowerCase
        | StatusFault::OtherTask
        | StatusFault::NoCreditsField
        | StatusFault::NoEcho
        | StatusFault::EchoDefaults => true,
    }
}

/// `data` as on the page.
fn report(task: &Task, base: &str) -> Value {
    let (status, response, error_message) = match &task.state {
        TaskState::InProgress => ("IN_PROGRESS", Value::Null, None),
        TaskState::Success => ("SUCCESS", json!(urls(task, base)), None),
        TaskState::Failed { message } => ("FAILED", Value::Null, Some(message)),
    };
    // The page's time has whole seconds.
    let created_at = Timestamp::from_second(task.created_at.as_second()).unwrap_or(task.created_at);
    json!({
        "task_id": task.id,
        "status": status,
        "consumed_credits": task.costs,
        "created_at": created_at.to_string(),
        "request": echo(&task.fields),
        "response": response,
        "error_message": error_message,
        "type": task.kind.name,
    })
}

/// What was asked, as the page's example has it: without `sound`.
fn echo(fields: &Map<String, Value>) -> Map<String, Value> {
    fields
        .iter()
        .filter(|(name, _)| *name != "sound")
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn with_defaults(fields: &Map<String, Value>) -> Map<String, Value> {
    let mut filled = fields.clone();
    for (name, default) in [("duration", json!(5)), ("aspect_ratio", json!("16:9")), ("sound", json!(true))] {
        filled.entry(name).or_insert(default);
    }
    filled
}

fn urls(task: &Task, base: &str) -> Vec<String> {
    let Some(link) = &task.link else { return Vec::new() };
    (1..=task.videos).map(|n| format!("{base}/videos/{}/{n}.mp4?sig={}", task.id, link.signature)).collect()
}

fn shaped(shape: UrlShape, urls: &[String]) -> Value {
    let objects = || urls.iter().map(|url| json!({"url": url})).collect::<Vec<_>>();
    match shape {
        UrlShape::Array => json!(urls),
        UrlShape::Objects => json!(objects()),
        UrlShape::ResultUrls => json!({"resultUrls": urls}),
        UrlShape::JsonString => json!(json!(urls).to_string()),
        UrlShape::JsonObjects => json!(json!(objects()).to_string()),
        UrlShape::JsonResultUrls => json!(json!({"resultUrls": urls}).to_string()),
        UrlShape::Bare => json!(urls.first()),
    }
}

/// Makes a report say this word, and that there is nothing to fetch.
fn unfinished(data: &mut Value, word: &str) {
    data["status"] = json!(word);
    data["response"] = Value::Null;
    data["error_message"] = Value::Null;
}
