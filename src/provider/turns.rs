//! One status call at a time for each task: the gateway may ask its own upstream at each. Whoever comes second (the
//! poller, a command that wants a task checked) waits for the first to be answered.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use tokio::sync::Notify;

/// The tasks that are being asked about.
#[derive(Debug, Default)]
pub(super) struct Turns {
    asked: Mutex<HashSet<String>>,
    ended: Notify,
}

/// A task's turn, until it is dropped.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    task: &'a str,
}

impl Turns {
    /// Waits until nobody else asks about `task`.
    pub async fn take<'a>(&'a self, task: &'a str) -> Turn<'a> {
        loop {
            // Registered before the look: an end in between is not missed.
            let ended = self.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if self.asked().insert(task.to_owned()) {
                return Turn { turns: self, task };
            }
            ended.await;
        }
    }

    fn asked(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        // Nothing that can panic runs under this lock; a poisoned one is as good as new.
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.asked().remove(self.task);
        self.turns.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use super::*;

    #[test]
    fn a_task_has_one_turn_and_others_do_not_wait() {
        let turns = Turns::default();
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(first) = pin!(turns.take("n75a")).poll(&mut context) else { panic!("it is free") };
        let mut second = pin!(turns.take("n75a"));
        assert!(second.as_mut().poll(&mut context).is_pending(), "two calls for one task at once");
        assert!(pin!(turns.take("n75b")).poll(&mut context).is_ready());
        drop(first);
        assert!(second.as_mut().poll(&mut context).is_ready());
    }
}
