//! `POST /api/generate`: takes the money, starts the task, and answers as well as the faults let it.

use std::cmp::Reverse;
use std::iter;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::order::Order;
use super::reply::{Payload, Quotes, Refusal, Reply, api_fault};
use super::task::{Charge, Ending, Task, TaskState};
use super::{Call, Model};
use crate::sandbox::faults::{CutAt, GenerateFault, TaskFault};

impl Model {
    pub(super) fn generate(&mut self, now: Timestamp, call: &Call) -> Result<Reply, Refusal> {
        let order = Order::parse(&call.body)?;
        if order.credits > self.balance {
            return Err(Refusal::InsufficientCredits);
        }
        if self.parallel_tasks.is_some_and(|limit| self.running >= limit) {
            return Err(Refusal::TooManyTasks);
        }
        let others = !self.tasks.is_empty();
        let drawn = self
            .plan
            .generate
            .draw(&order.prompt, |fault| others || *fault != GenerateFault::DuplicateTaskId);
        let reply = match drawn.fault {
            None => self.accept(now, order),
            Some(fault) => self.spoil(now, call, order, &fault),
        };
        Ok(reply.delayed(drawn.delay))
    }

    fn accept(&mut self, now: Timestamp, order: Order) -> Reply {
        let index = self.charge(now, order);
        Reply::success(&self.acceptance(index))
    }

    /// The page's answer to a task that was just created.
    fn acceptance(&self, index: usize) -> Value {
        let task = &self.tasks[index];
        json!({"task_id": task.id, "status": "IN_PROGRESS", "consumed_credits": task.credits})
    }

    fn spoil(&mut self, now: Timestamp, call: &Call, order: Order, fault: &GenerateFault) -> Reply {
        match fault {
            GenerateFault::Http(http) => {
                let request = Value::Object(order.fields.clone());
                let task = http.charged.then(|| self.charge(now, order));
                let task_id = task.map(|index| self.tasks[index].id.as_str());
                api_fault(http, Quotes { request, task_id })
            }
            GenerateFault::Redirect(status) => {
                let reply = Reply::text(*status, "text/plain", String::new());
                reply.with_header("location", format!("{}/api/generate", call.base))
            }
            GenerateFault::Silence { end, charged } => {
                if *charged {
                    self.charge(now, order);
                }
                Reply::silence(*end)
            }
            GenerateFault::CutBody { at, end } => {
                let reply = self.accept(now, order);
                let sent = cut_point(&reply, *at);
                reply.broken(sent, *end)
            }
            GenerateFault::Padded(bytes) => self.accept(now, order).padded(*bytes),
            GenerateFault::NoTaskId => self.answer_changed(now, order, |data| {
                data.remove("task_id");
            }),
            GenerateFault::NotJson => {
                self.charge(now, order);
                Reply::not_json()
            }
            GenerateFault::CodeIn200(code) => Reply::code_in_200(*code),
            GenerateFault::DuplicateTaskId => {
                let other = self.tasks.last().map(|task| task.id.clone());
                self.answer_changed(now, order, |data| {
                    data.insert("task_id".to_owned(), json!(other));
                })
            }
            GenerateFault::NoCreditsField => self.answer_changed(now, order, |data| {
                data.remove("consumed_credits");
            }),
            GenerateFault::OtherCredits(credits) => {
                self.accept(now, Order { credits: i64::from(*credits), ..order })
            }
            GenerateFault::AlreadySuccess => self.already(now, order, Ending::success(), "SUCCESS"),
            GenerateFault::AlreadyFailed => {
                let message = "The prompt was refused by the content filter.".to_owned();
                self.already(now, order, Ending::failure(message, Some(0)), "FAILED")
            }
        }
    }

    /// Accepts the order and changes what the answer says of it.
    fn answer_changed(
        &mut self,
        now: Timestamp,
        order: Order,
        change: impl FnOnce(&mut serde_json::Map<String, Value>),
    ) -> Reply {
        let index = self.charge(now, order);
        let mut data = self.acceptance(index);
        if let Some(fields) = data.as_object_mut() {
            change(fields);
        }
        Reply::success(&data)
    }

    /// Accepts the order and ends its task at once.
    fn already(&mut self, now: Timestamp, order: Order, ending: Ending, word: &str) -> Reply {
        let index = self.start(now, order, Some(Duration::ZERO), ending);
        self.settle(now);
        let mut data = self.acceptance(index);
        data["status"] = json!(word);
        Reply::success(&data)
    }

    /// Takes the money and starts a task, which goes as the faults of the rendering say.
    fn charge(&mut self, now: Timestamp, mut order: Order) -> usize {
        let drawn = self.plan.task.draw(&order.prompt, |_| true);
        let render_time = drawn.delay.unwrap_or_else(|| self.render_time());
        let ending = match drawn.fault {
            None => Ending::success(),
            Some(TaskFault::Fail { message, refund }) => Ending::failure(message, refund.then_some(0)),
            Some(TaskFault::FailKeeping(credits)) => {
                let message = "The video could not be generated.".to_owned();
                Ending::failure(message, Some(i64::from(credits)))
            }
            Some(TaskFault::Settle(credits)) => Ending { failure: None, costs: Some(i64::from(credits)) },
            Some(TaskFault::Never) => return self.start(now, order, None, Ending::success()),
            Some(TaskFault::NoSound) => {
                order.shape.sound = false;
                Ending::success()
            }
            Some(TaskFault::OtherLength) => {
                let seconds = order.shape.seconds;
                order.shape.seconds = if seconds > 3 { seconds - 1 } else { seconds + 1 };
                Ending::success()
            }
        };
        self.start(now, order, Some(render_time), ending)
    }

    /// Takes over a task of an earlier double: it is paid, and finished at once. Nothing happens when `body` is no
    /// request that this double would have taken.
    pub(in crate::sandbox) fn restore(&mut self, now: Timestamp, task_id: &str, body: &[u8]) {
        let Ok(order) = Order::parse(body) else { return };
        if self.by_id.contains_key(task_id) {
            return;
        }
        let index = self.start(now, order, Some(Duration::ZERO), Ending::success());
        let (Some(task), Some(charge)) = (self.tasks.get_mut(index), self.charges.get_mut(index)) else {
            return;
        };
        self.by_id.remove(&task.id);
        self.by_id.insert(task_id.to_owned(), index);
        charge.task_id = task_id.to_owned();
        task.id = task_id.to_owned();
    }

    /// The one place where money is taken. Without a `render_time` the task never ends.
    fn start(
        &mut self,
        now: Timestamp,
        order: Order,
        render_time: Option<Duration>,
        ending: Ending,
    ) -> usize {
        let index = self.tasks.len();
        let id = self.new_task_id(&order);
        if let Some(render_time) = render_time {
            self.rendering.push(Reverse((after(now, render_time), index)));
        }
        self.running += 1;
        self.balance -= order.credits;
        self.charges.push(Charge {
            seq: index as u64 + 1,
            at: now,
            task_id: id.clone(),
            credits: order.credits,
            request: order.body,
            refunded: false,
            kept: order.credits,
        });
        self.by_id.insert(id.clone(), index);
        self.tasks.push(Task {
            id,
            prompt: order.prompt,
            state: TaskState::InProgress,
            created_at: now,
            credits: order.credits,
            costs: order.credits,
            kind: order.kind,
            fields: order.fields,
            shape: order.shape,
            ending,
            videos: 1,
            version: 1,
            downloads: 0,
            link: None,
            told: false,
        });
        index
    }

    /// Like the page's `n75abc123kling3`: a prefix for the model, something random, the brand.
    fn new_task_id(&mut self, order: &Order) -> String {
        let prefix = order.kind.model.task_prefix();
        loop {
            let middle: String =
                iter::repeat_with(|| self.dice.alphanumeric().to_ascii_lowercase()).take(8).collect();
            let id = format!("{prefix}{middle}kling3");
            if !self.by_id.contains_key(&id) {
                return id;
            }
        }
    }

    fn render_time(&mut self) -> Duration {
        let (shortest, longest) = (*self.render_time.start(), *self.render_time.end());
        shortest + longest.saturating_sub(shortest).mul_f64(self.dice.f64())
    }
}

/// So much later, at most at the end of time.
pub(super) fn after(now: Timestamp, delay: Duration) -> Timestamp {
    now.checked_add(delay).unwrap_or(Timestamp::MAX)
}

/// The byte at which an acceptance is cut.
fn cut_point(reply: &Reply, at: CutAt) -> u64 {
    let Payload::Text(body) = &reply.payload else { return 0 };
    const FIELD: &str = "\"task_id\":\"";
    let Some(field) = body.find(FIELD) else { return 0 };
    let id = field + FIELD.len();
    let id_length = body[id..].find('"').unwrap_or(0);
    let at = match at {
        CutAt::Before => id,
        CutAt::Inside => id + id_length / 2,
        CutAt::After => id + id_length + 1,
    };
    at as u64
}
