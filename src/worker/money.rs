//! What an answer says of money, as remarks for the job: a price that is not the expected one, a refund that was seen or
//! not. Pure.

use crate::domain::{Credits, Event, attempt::Refund, plan::submit::SubmitAnswer};

/// The remark on the answer to a submit, which was expected to cost `estimate`.
pub(super) fn at_submit(answer: &SubmitAnswer, estimate: Credits) -> Option<String> {
    match answer {
        SubmitAnswer::Accepted { salvaged: true, task, .. } => {
            Some(format!("the answer was cut; task {task} was salvaged from what came"))
        }
        SubmitAnswer::Accepted { charged: Some(charged), .. } if *charged != estimate => {
            Some(format!("price drift: {charged} credits were charged, {estimate} expected"))
        }
        SubmitAnswer::Accepted { charged: None, .. } => {
            Some(format!("the provider did not say what it charged; {estimate} credits are counted"))
        }
        SubmitAnswer::Accepted { .. }
        | SubmitAnswer::Refused(_)
        | SubmitAnswer::Deferred { .. }
        | SubmitAnswer::Unknown { .. } => None,
    }
}

/// The remark on the end of a task, for which `counted` credits were counted so far.
pub(super) fn at_the_end(event: &Event, counted: Credits) -> Option<String> {
    match event {
        Event::Succeeded { charged: Some(charged), .. } if *charged != counted => {
            Some(format!("price drift: {charged} credits were charged in the end, {counted} before"))
        }
        Event::TaskFailed { charged, .. } => Some(match Refund::of(counted, *charged) {
            Refund::Whole if counted == Credits::ZERO => return None,
            Refund::Whole => format!("refunded: the provider gave all {counted} credits back"),
            Refund::Partly { kept } => {
                format!("refunded: the provider keeps {kept} of {counted} credits")
            }
            Refund::NotConfirmed { said } => {
                format!("refund not confirmed: the provider still says {said} credits; they count as spent")
            }
            Refund::Unsaid => format!(
                "refund not confirmed: the provider does not say what it cost; {counted} credits count as spent"
            ),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::state::{Charged, Failure};

    #[test]
    fn the_end_says_what_came_back() {
        let failed = |said: Option<u64>| {
            let failure = Failure { code: String::new(), message: String::new(), charged: Charged::Unknown };
            at_the_end(
                &Event::TaskFailed { failure, charged: said.map(Credits::new), done: None },
                Credits::new(1200),
            )
        };
        let said = [None, Some(0), Some(300), Some(1200)].map(|said| failed(said).unwrap());
        assert_eq!(
            said,
            [
                "refund not confirmed: the provider does not say what it cost; 1,200 credits count as spent",
                "refunded: the provider gave all 1,200 credits back",
                "refunded: the provider keeps 300 of 1,200 credits",
                "refund not confirmed: the provider still says 1,200 credits; they count as spent",
            ]
        );
        let done = |said| Event::Succeeded { outputs: 1, charged: Some(Credits::new(said)) };
        assert_eq!(at_the_end(&done(1200), Credits::new(1200)), None);
        let drift = at_the_end(&done(1300), Credits::new(1200)).unwrap();
        assert_eq!(drift, "price drift: 1,300 credits were charged in the end, 1,200 before");
    }
}
