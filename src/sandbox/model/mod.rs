//! The provider, as a pure model: what it charges, renders and answers. No clock, no dice but the seed, no I/O.
//!
//! [`Model::handle`] is the whole of it: one call in, one [`Reply`] out, with `now` as an argument. Everything else here
//! lets a test ask what really happened.

mod catalog;
mod download;
mod generate;
mod limits;
mod order;
mod reply;
mod status;
mod task;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

use self::limits::Bucket;
use self::reply::Refusal;
pub(super) use self::reply::{Delivery, End, Payload, Reply};
pub use self::task::{Charge, Task, TaskState};
use super::faults::{Faults, Plan};
use super::{AcceptKeys, Options};

/// The provider's double, without its network.
#[derive(Debug)]
pub struct Model {
    keys: AcceptKeys,
    balance: i64,
    tasks: Vec<Task>,
    /// Where a task of this id stands in `tasks`.
    by_id: HashMap<String, usize>,
    /// One for each task, in the same order.
    charges: Vec<Charge>,
    /// The tasks that will end, by when.
    rendering: BinaryHeap<Reverse<(Timestamp, usize)>>,
    /// How many tasks have not ended, those that never will included.
    running: u32,
    plan: Plan,
    bucket: Option<Bucket>,
    parallel_tasks: Option<u32>,
    tell_retry_after: bool,
    render_time: RangeInclusive<Duration>,
    link_life: Duration,
    video_bytes: Option<u64>,
    dice: fastrand::Rng,
    requests: VecDeque<SeenRequest>,
}

/// One HTTP request, as far as the provider cares.
#[derive(Debug, Clone, Default)]
pub(super) struct Call {
    pub method: http::Method,
    pub path: String,
    pub query: Vec<(String, String)>,
    /// Where the client thinks it is: links lead back there.
    pub base: String,
    /// The whole `Authorization` header.
    pub authorization: Option<String>,
    pub range: Option<String>,
    pub if_range: Option<String>,
    pub body: Bytes,
}

impl Call {
    /// The first value of a query field.
    fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// The task it is about, whether there is such a task or not.
    fn task_id(&self) -> Option<&str> {
        let of_video = || self.path.strip_prefix("/videos/")?.split_once('/').map(|(id, _)| id);
        self.query("task_id").or_else(of_video)
    }
}

/// A request that reached the double.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenRequest {
    /// When.
    pub at: Timestamp,
    /// GET, POST, …
    pub method: String,
    /// Without the query.
    pub path: String,
    /// The task that a status call or a download asked for.
    pub task_id: Option<String>,
    /// The `Range` header.
    pub range: Option<String>,
    /// Whether an `Authorization` header came with it. It never should where the videos are.
    pub key_sent: bool,
    /// Whether its key was accepted.
    pub authorised: bool,
    /// The HTTP status of the answer; nothing if there was none.
    pub status: Option<u16>,
}

/// A benchmark of 10,000 jobs makes some 60,000 requests; a sandbox that runs for weeks must not grow by them.
const MAX_SEEN_REQUESTS: usize = 200_000;

impl Model {
    /// A provider without tasks.
    pub fn new(options: &Options) -> Self {
        let mut plan = Plan::new(options.seed);
        plan.add(options.faults.clone());
        Self {
            keys: options.keys.clone(),
            balance: options.balance,
            tasks: Vec::new(),
            by_id: HashMap::new(),
            charges: Vec::new(),
            rendering: BinaryHeap::new(),
            running: 0,
            plan,
            bucket: options.requests_per_second.map(|(rate, burst)| Bucket::new(rate, burst)),
            parallel_tasks: options.parallel_tasks,
            tell_retry_after: options.retry_after,
            render_time: options.render_time.clone(),
            link_life: options.link_life,
            video_bytes: options.video_bytes,
            dice: fastrand::Rng::with_seed(options.seed),
            requests: VecDeque::new(),
        }
    }

    /// Answers one request.
    pub(super) fn handle(&mut self, now: Timestamp, call: &Call) -> Reply {
        self.settle(now);
        let authorised = self.authorised(call);
        let reply = self.route(now, call, authorised).unwrap_or_else(|refusal| refusal.reply());
        self.remember(now, call, authorised, &reply);
        reply
    }

    fn route(&mut self, now: Timestamp, call: &Call, authorised: bool) -> Result<Reply, Refusal> {
        match (call.path.as_str(), call.method.as_str()) {
            ("/api/generate", "POST") => {
                self.admit(now, authorised)?;
                self.generate(now, call)
            }
            ("/api/status", "GET") => {
                self.admit(now, authorised)?;
                self.status(now, call)
            }
            ("/api/generate", _) => Err(Refusal::MethodNotAllowed { allow: "POST" }),
            ("/api/status", _) => Err(Refusal::MethodNotAllowed { allow: "GET" }),
            ("/sandbox/ledger", "GET") => Ok(Reply::json(200, &self.ledger_json())),
            ("/sandbox/ledger", _) => Err(Refusal::MethodNotAllowed { allow: "GET" }),
            (path, method) => match path.strip_prefix("/videos/") {
                Some(name) if matches!(method, "GET" | "HEAD") => Ok(self.download(now, call, name)),
                Some(_) => Err(Refusal::MethodNotAllowed { allow: "GET, HEAD" }),
                None => Err(Refusal::NotFound),
            },
        }
    }

    fn authorised(&self, call: &Call) -> bool {
        let key = call.authorization.as_deref().and_then(|header| {
            let (scheme, key) = header.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
        });
        key.is_some_and(|key| self.keys.accept(key))
    }

    /// The key and the limit on requests, which stand before everything else.
    fn admit(&mut self, now: Timestamp, authorised: bool) -> Result<(), Refusal> {
        if !authorised {
            return Err(Refusal::InvalidApiKey);
        }
        match self.bucket.as_mut().map(|bucket| bucket.take(now)) {
            Some(Err(seconds)) => {
                Err(Refusal::RateLimited { retry_after_s: self.tell_retry_after.then_some(seconds) })
            }
            Some(Ok(())) | None => Ok(()),
        }
    }

    /// Brings every task up to `now`: what had to end by then has ended, what failed is paid back.
    pub(super) fn settle(&mut self, now: Timestamp) {
        while let Some(Reverse((at, index))) = self.rendering.peek().copied() {
            if at > now {
                break;
            }
            self.rendering.pop();
            self.running -= 1;
            if let (Some(task), Some(charge)) = (self.tasks.get_mut(index), self.charges.get_mut(index)) {
                task.end();
                self.balance += charge.kept - task.costs;
                charge.kept = task.costs;
                charge.refunded = charge.kept == 0 && charge.credits > 0;
            }
        }
    }

    fn remember(&mut self, now: Timestamp, call: &Call, authorised: bool, reply: &Reply) {
        if self.requests.len() == MAX_SEEN_REQUESTS {
            self.requests.pop_front();
        }
        self.requests.push_back(SeenRequest {
            at: now,
            method: call.method.to_string(),
            path: call.path.clone(),
            task_id: call.task_id().map(str::to_owned),
            range: call.range.clone(),
            key_sent: call.authorization.is_some(),
            authorised,
            status: match reply.delivery {
                Delivery::Silence(_) => None,
                Delivery::Whole | Delivery::Broken { .. } | Delivery::Chunked { .. } | Delivery::Drip(_) => {
                    Some(reply.status)
                }
            },
        });
    }
}

/// What a test may ask, and change.
impl Model {
    /// The HTTP status that answers a submit of `body` by somebody with a key.
    pub fn submit(&mut self, now: Timestamp, body: &[u8]) -> u16 {
        let call = Call {
            method: http::Method::POST,
            path: "/api/generate".to_owned(),
            authorization: Some("Bearer test".to_owned()),
            body: Bytes::copy_from_slice(body),
            ..Call::default()
        };
        self.handle(now, &call).status
    }

    /// Every charge ever made, refunded ones too.
    pub fn charges(&self) -> &[Charge] {
        &self.charges
    }

    /// How often a request with exactly this prompt was charged, refunded or not.
    pub fn charges_for(&self, prompt: &str) -> usize {
        self.tasks.iter().filter(|task| task.prompt == prompt).count()
    }

    /// Every task, in the order of creation.
    pub fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    /// The credits left.
    pub fn balance(&self) -> i64 {
        self.balance
    }

    /// How often each fault was seen by a client, by `POINT:FAULT[=ARG]`.
    pub fn fired(&self) -> BTreeMap<String, u64> {
        self.plan.fired()
    }

    /// The last requests, oldest first.
    pub fn requests(&self) -> &VecDeque<SeenRequest> {
        &self.requests
    }

    /// The bytes of a task's video number `n`, counted from one.
    pub(super) fn video(&self, task_id: &str, n: u32) -> Option<Vec<u8>> {
        let task = &self.tasks[*self.by_id.get(task_id)?];
        task.video(n, self.video_bytes).map(|video| video.bytes())
    }

    pub(super) fn set_balance(&mut self, credits: i64) {
        self.balance = credits;
    }

    pub(super) fn set_keys(&mut self, keys: AcceptKeys) {
        self.keys = keys;
    }

    pub(super) fn set_parallel_tasks(&mut self, limit: Option<u32>) {
        self.parallel_tasks = limit;
    }

    pub(super) fn add_faults(&mut self, faults: Faults) {
        self.plan.add(faults);
    }

    /// The book-keeping as JSON, for scripts.
    fn ledger_json(&self) -> Value {
        json!({
            "balance": self.balance,
            "charges": self.charges.iter().map(Charge::json).collect::<Vec<_>>(),
            "faults_fired": self.fired(),
            "tasks": self.tasks.iter().map(Task::json).collect::<Vec<_>>(),
        })
    }
}
