//! Every row of the two tables of docs/provider.md, in several JSON shapes each.

use serde_json::json;

use super::*;

/// The answer to a submit: an HTTP status and a body.
fn answer(status: u16, body: &str) -> SubmitAnswer {
    submit(&Evidence { status: Some(status), body: body.to_owned(), ..Evidence::default() })
}

#[test]
fn the_pages_own_answers() {
    let page = json!({"code": 200, "message": "success",
        "data": {"task_id": "n75abc123kling3", "status": "IN_PROGRESS", "consumed_credits": 400}});
    assert_eq!(
        answer(200, &page.to_string()),
        SubmitAnswer::Accepted {
            task: TaskId::parse("n75abc123kling3").unwrap(),
            charged: Some(crate::domain::Credits::new(400)),
            salvaged: false
        }
    );
}
