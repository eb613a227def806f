//! The status of an invalid request, with its violations.

use tonic::Code;
use tonic_types::ErrorDetails;

use super::{MAX_LIST_BYTES, error_info};
use crate::domain::FieldViolation;

pub(super) fn invalid_request(violations: &[FieldViolation]) -> (Code, String, ErrorDetails) {
    let mut bytes = 0;
    let fitting = violations.iter().take_while(|violation| {
        bytes += violation.field.len() + violation.description.len() + 8;
        bytes <= MAX_LIST_BYTES
    });
    let fitting = fitting.count();
    let (listed, left) = violations.split_at(fitting);
    let mut details = error_info("INVALID_REQUEST", []);
    for FieldViolation { field, description } in listed {
        details.add_bad_request_violation(field.as_str(), description.as_str());
    }
    if let Some(next) = left.first() {
        let more = format!("and {} more violations", left.len());
        details.add_bad_request_violation(next.field.as_str(), more);
    }
    (Code::InvalidArgument, message(violations, fitting), details)
}

/// The first violation, how many more there are, and how many of them the details list.
fn message(violations: &[FieldViolation], listed: usize) -> String {
    let Some(FieldViolation { field, description }) = violations.first() else {
        return "the request is not valid".to_owned();
    };
    match violations.len() {
        1 => format!("{field} {description}"),
        count if count == listed => {
            let more = count - 1;
            format!("{field} {description} (and {more} more: see the details)")
        }
        count => format!(
            "{field} {description} (the first of {count} violations: the details list {listed} of them)"
        ),
    }
}
