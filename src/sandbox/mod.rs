//! The provider's double: what stands in for kling3api.com in the demo, in `klingd run --sandbox` and in every test.
//!
//! It owns a pure model of the provider (prices, money, tasks, links, limits, faults) and an HTTP skin that puts the
//! model's answers on the wire, broken ones too. It must not import anything of klingd: a type shared with the client would
//! share the client's misreading, and both would agree.
//!
//! | module | owns |
//! |---|---|
//! | [`model`] | what is charged, rendered and answered: pure, `now` is an argument |
//! | [`faults`] | the language of faults, and which call they spoil: pure |
//! | `options` | how a double behaves |
//! | `video` | the embedded MP4s |
//! | `http` | the server: sockets, and nothing to decide |
//!
//! ```no_run
//! # async fn example(now: fn() -> jiff::Timestamp) -> Result<(), Box<dyn std::error::Error>> {
//! use klingd::sandbox::{Options, Sandbox};
//!
//! let options = Options { faults: "generate:close-after~fox".parse()?, ..Options::new(now) };
//! let (sandbox, server) = Sandbox::bind(options).await?;
//! println!("{}", sandbox.base_url());
//! server.serve(tokio_util::sync::CancellationToken::new()).await?;
//! assert_eq!(sandbox.charges_for("a fox"), 1);
//! # Ok(()) }
//! ```

pub mod faults;
mod http;
pub mod model;
mod options;
mod video;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

pub use self::faults::{FaultError, Faults};
pub use self::http::Server;
pub use self::model::{Charge, Model, SeenRequest, Task, TaskState};
pub use self::options::{AcceptKeys, Options};

/// Why the double could not serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken, or not ours.
    #[error("the sandbox cannot listen on {address}; choose another address, or port 0 for any free port")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// A connection's task panicked: a mistake in the double itself, which no test may mistake for a provider's fault.
    #[error("the sandbox itself is broken: a connection panicked; please report it")]
    Panicked(#[source] tokio::task::JoinError),
}

/// A handle to a double that listens, or soon will: asks what really happened, and changes what happens next.
#[derive(Debug, Clone)]
pub struct Sandbox {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    model: Mutex<Model>,
    /// Told after every change of the model.
    changed: Notify,
    address: SocketAddr,
    latency: Duration,
    now: fn() -> jiff::Timestamp,
}

impl Sandbox {
    /// Listens. The server answers once its [`serve`](Server::serve) runs; until then connections wait.
    pub async fn bind(options: Options) -> Result<(Self, Server), Error> {
        let bound = |source| Error::Bind { address: options.listen, source };
        let listener = tokio::net::TcpListener::bind(options.listen).await.map_err(bound)?;
        let shared = Shared {
            model: Mutex::new(Model::new(&options)),
            changed: Notify::new(),
            address: listener.local_addr().map_err(bound)?,
            latency: options.latency,
            now: options.now,
        };
        let sandbox = Self { shared: Arc::new(shared) };
        Ok((sandbox.clone(), Server::new(sandbox, listener)))
    }

    /// What to set `api.base_url` to.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.shared.address)
    }

    /// Every charge ever made, refunded ones too.
    pub fn ledger(&self) -> Vec<Charge> {
        self.model().charges().to_vec()
    }

    /// How often a request with exactly this prompt was charged, refunded or not.
    pub fn charges_for(&self, prompt: &str) -> usize {
        self.model().charges_for(prompt)
    }

    /// The credits left.
    pub fn balance(&self) -> i64 {
        self.model().balance()
    }

    /// How often each fault was seen by a client, by `POINT:FAULT[=ARG]`; zero for one that never was.
    pub fn fired(&self) -> BTreeMap<String, u64> {
        self.model().fired()
    }

    /// The last requests, oldest first.
    pub fn requests(&self) -> Vec<SeenRequest> {
        self.model().requests().iter().cloned().collect()
    }

    /// Every task, in the order of creation.
    pub fn tasks(&self) -> Vec<Task> {
        self.model().tasks().to_vec()
    }

    /// What a download of this task's video number `n` (from one) must give, byte for byte.
    pub fn video(&self, task_id: &str, n: u32) -> Option<Vec<u8>> {
        self.model().video(task_id, n)
    }

    /// Takes over a task of an earlier double, with the exact body it was asked for with: a double that is part of a
    /// client's process dies with it, and the client still knows its tasks.
    pub fn restore(&self, task_id: &str, body: &[u8]) {
        self.model().restore((self.shared.now)(), task_id, body);
    }

    /// Adds rules behind those that are there.
    pub fn add_faults(&self, rules: &str) -> Result<(), FaultError> {
        let faults = rules.parse()?;
        self.model().add_faults(faults);
        Ok(())
    }

    /// Tops the account up, or empties it.
    pub fn set_balance(&self, credits: i64) {
        self.model().set_balance(credits);
    }

    /// Changes the keys that are accepted.
    pub fn set_keys(&self, keys: AcceptKeys) {
        self.model().set_keys(keys);
    }

    /// Changes the limit on tasks that render at the same time.
    pub fn set_parallel_tasks(&self, limit: Option<u32>) {
        self.model().set_parallel_tasks(limit);
    }

    /// Waits until `predicate` holds, looking again after every request. Time alone does not make it look.
    pub async fn wait_until(&self, predicate: impl Fn(&Model) -> bool) {
        loop {
            // The interest in the next change is registered before the look, so that no change slips through between.
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if predicate(&self.model()) {
                return;
            }
            changed.await;
        }
    }

    /// The model as of now. Nothing that holds the lock can panic in the middle of a change, so a poisoned lock is as good.
    fn model(&self) -> MutexGuard<'_, Model> {
        let mut model = self.shared.model.lock().unwrap_or_else(PoisonError::into_inner);
        model.settle((self.shared.now)());
        model
    }

    fn handle(&self, call: &model::Call) -> model::Reply {
        let now = (self.shared.now)();
        let reply = self.shared.model.lock().unwrap_or_else(PoisonError::into_inner).handle(now, call);
        self.shared.changed.notify_waiters();
        reply
    }
}
