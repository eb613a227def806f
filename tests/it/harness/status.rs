//! Parses the status and error details of failed calls.

use std::{collections::BTreeMap, fmt::Debug};

use tonic::{Code, Response, Status};
use tonic_types::StatusExt;

/// A parsed error.
#[derive(Debug)]
pub(crate) struct CallError {
    pub(crate) code: Code,
    pub(crate) reason: String,
    pub(crate) metadata: BTreeMap<String, String>,
    /// The fields of `google.rpc.BadRequest`, with their descriptions.
    pub(crate) violations: Vec<(String, String)>,
    pub(crate) message: String,
    pub(crate) retry: bool,
    pub(crate) retry_delay: Option<std::time::Duration>,
    pub(crate) preconditions: Vec<(String, String)>,
    pub(crate) resource: Option<(String, String)>,
}

impl CallError {
    pub(crate) fn fields(&self) -> Vec<&str> {
        self.violations
            .iter()
            .map(|(field, _)| field.as_str())
            .collect()
    }
}

/// Parses the error of a call; panics if the call succeeded, if details are missing, or if the status leaks internals.
pub(crate) fn expect_error<T: Debug>(result: Result<Response<T>, Status>) -> CallError {
    let status = result.expect_err("the call fails");
    let details = status.get_error_details();
    let info = details
        .error_info()
        .unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(info.domain, "groups.v1");
    assert!(!status.message().is_empty());
    let text = format!("{status:?}").to_lowercase();
    for secret in [
        "sqlite",
        "sqlx",
        "sea_orm",
        "select ",
        "insert ",
        ".db",
        "constraint",
    ] {
        assert!(!text.contains(secret), "{secret} leaves in {status:?}");
    }
    CallError {
        code: status.code(),
        reason: info.reason.clone(),
        metadata: info.metadata.clone().into_iter().collect(),
        violations: details
            .bad_request()
            .map(|bad| &bad.field_violations[..])
            .unwrap_or_default()
            .iter()
            .map(|violation| (violation.field.clone(), violation.description.clone()))
            .collect(),
        message: status.message().to_owned(),
        retry: details.retry_info().is_some(),
        retry_delay: details.retry_info().and_then(|info| info.retry_delay),
        preconditions: details
            .precondition_failure()
            .map(|failure| &failure.violations[..])
            .unwrap_or_default()
            .iter()
            .map(|violation| (violation.subject.clone(), violation.description.clone()))
            .collect(),
        resource: details
            .resource_info()
            .map(|info| (info.resource_type.clone(), info.resource_name.clone())),
    }
}
